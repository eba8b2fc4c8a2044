//! The three stacks: of handlers (MSP), of calls of the application (its PSP), of the supervisor (its PSP).
//!
//! Each ends in two words that are no return address: a forged FNC_RETURN or EXC_RETURN that finds its stack empty reads
//! them and faults (CVE-2020-16273). Each has its limit in MSPLIM or PSPLIM while it is used.

/// Not an address of code, and not the signature of a stacked context.
const SEAL: u32 = 0xFEF5_EDA5;
/// What the processor puts at the top of an interrupted secure context.
const SIGNATURE: u32 = 0xFEFA_125B;
const SEAL_BYTES: u32 = 8;

/// A handler of ours needs less than this, and the frames of the application's calls in handlers of its own, as many as it
/// has priorities, less than the rest of the handlers' stack.
pub(crate) const HANDLER_FLOOR_BYTES: u32 = 2048;

/// A call needs less than this of its stack, an interrupt of ours included.
pub(crate) const CALL_BYTES: u32 = 512;

unsafe extern "C" {
    static _handler_stack: u32;
    static _handler_stack_top: u32;
    static _gateway_stack: u32;
    static _gateway_stack_top: u32;
    static _supervisor_stack: u32;
    static _supervisor_stack_top: u32;
    static _zero_end: u32;
}

/// All of them, the handlers', the gateway's, the supervisor's.
fn all() -> [Stack; 3] {
    [Stack::handler(), Stack::gateway(), Stack::supervisor()]
}

/// Bytes of all of them.
pub(crate) fn bytes() -> u32 {
    all().into_iter().map(Stack::bytes).sum()
}

/// Bytes of each that were ever used.
pub(crate) fn used_bytes() -> [u32; 3] {
    all().map(Stack::used_bytes)
}

/// Bytes of RAM that the linker gave to this image, stacks included.
pub(crate) fn ram_bytes() -> u32 {
    (&raw const _zero_end) as u32 - chip::map::secure::RAM_AT
}

/// A stack, by its lowest address and the one after its highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    pub limit: u32,
    end: u32,
}

impl Stack {
    /// Of exception handlers, and of calls from the application's.
    pub fn handler() -> Stack {
        Stack { limit: (&raw const _handler_stack) as u32, end: (&raw const _handler_stack_top) as u32 }
    }

    /// Of calls from the application's threads.
    pub fn gateway() -> Stack {
        Stack { limit: (&raw const _gateway_stack) as u32, end: (&raw const _gateway_stack_top) as u32 }
    }

    /// Of the supervisor.
    pub fn supervisor() -> Stack {
        Stack { limit: (&raw const _supervisor_stack) as u32, end: (&raw const _supervisor_stack_top) as u32 }
    }

    /// The stack pointer of an empty stack: below the seal.
    pub fn top(self) -> u32 {
        self.end - SEAL_BYTES
    }

    /// Puts the seal.
    pub(crate) fn seal(self) {
        for at in [self.top(), self.top() + 4] {
            // SAFETY: the two words above the top are the stack's by the linker script, and nothing is ever pushed there.
            unsafe { (at as *mut u32).write_volatile(SEAL) };
        }
    }

    /// The pointer lies in it.
    pub(crate) fn holds(self, pointer: u32) -> bool {
        (self.limit..=self.top()).contains(&pointer)
    }

    /// Bytes that were ever used, as far as they were not left zero.
    pub fn used_bytes(self) -> u32 {
        let untouched = (self.limit..self.end).step_by(4).take_while(|&at| {
            // SAFETY: a word of the stack's; whoever uses it meanwhile cannot make the read wrong, only the count old.
            unsafe { (at as *const u32).read_volatile() == 0 }
        });
        self.end - self.limit - 4 * untouched.count() as u32
    }

    /// Bytes of it.
    pub fn bytes(self) -> u32 {
        self.end - self.limit
    }
}

/// The program counter of a function return that found an empty stack, or one on which an interrupted call was left.
pub(crate) fn is_seal(pc: u32) -> bool {
    [SEAL, SIGNATURE].map(|word| word | 1).contains(&(pc | 1))
}
