//! The core as an attacker uses it: registers, masks, stacks and jumps, none of which asks whether it may.
//!
//! Nothing here is sound, and nothing has to be: that it hurts nobody but the application is what is tested.

use core::arch::asm;

use holdfast::raw::GATEWAY_AT;

pub const ICSR: u32 = 0xE000_ED04;
pub const VTOR: u32 = 0xE000_ED08;
pub const AIRCR: u32 = 0xE000_ED0C;
pub const SCR: u32 = 0xE000_ED10;
pub const CCR: u32 = 0xE000_ED14;
pub const SHPR3: u32 = 0xE000_ED20;
pub const SHCSR: u32 = 0xE000_ED24;
pub const MPU_CTRL: u32 = 0xE000_ED94;
pub const MPU_RNR: u32 = 0xE000_ED98;
pub const MPU_RBAR: u32 = 0xE000_ED9C;
pub const MPU_RLAR: u32 = 0xE000_EDA0;
pub const SAU_CTRL: u32 = 0xE000_EDD0;
pub const SYSTICK: u32 = 0xE000_E010;
pub const ISER: u32 = 0xE000_E100;
pub const ISPR: u32 = 0xE000_E200;
/// Of ICSR.
pub const PENDSVSET: u32 = 1 << 28;

/// Reads a word.
pub fn peek(at: u32) -> u32 {
    // SAFETY: that it is not allowed is what is tested.
    unsafe { holdfast::board::read(at) }
}

/// Writes a word.
pub fn poke(at: u32, value: u32) {
    // SAFETY: as above.
    unsafe { holdfast::board::write(at, value) }
}

/// Writes a register of the core, and waits until it has its effect.
pub fn set(at: u32, value: u32) {
    poke(at, value);
    // SAFETY: barriers.
    unsafe { asm!("dsb", "isb") };
}

/// Does nothing, for ever.
pub fn spin() -> ! {
    // SAFETY: changes nothing.
    unsafe { asm!("1: b 1b", options(noreturn)) }
}

/// Computes for some ten microseconds. Every access to a register and every exception takes a lock of QEMU's that the thread
/// with its timers needs as well: an attack of nothing else stops an emulated clock that follows the instructions, until it
/// jumps. A chip has no such lock.
#[inline(never)]
pub fn breathe() {
    const TURNS: u32 = 100;
    (0..TURNS).for_each(|turn| _ = core::hint::black_box(turn));
}

/// Takes interrupts off: PRIMASK.
pub fn mask() {
    // SAFETY: the application's own mask.
    unsafe { asm!("cpsid i") };
}

/// Takes faults off, too: FAULTMASK.
pub fn mask_faults() {
    // SAFETY: the application's own mask.
    unsafe { asm!("cpsid f") };
}

/// Takes interrupts off down to this priority: BASEPRI.
pub fn mask_down_to(priority: u32) {
    // SAFETY: the application's own mask.
    unsafe { asm!("msr basepri, {}", in(reg) priority) };
}

/// Puts masks back.
pub fn unmask() {
    // SAFETY: the application's own masks.
    unsafe { asm!("cpsie i", "cpsie f", "msr basepri, {}", in(reg) 0) };
}

/// Goes there.
pub fn jump(to: u32) -> ! {
    // SAFETY: it does not come back.
    unsafe { asm!("bx {}", in(reg) to | 1, options(noreturn)) }
}

/// Goes there, whatever that means for the processor, with nothing of this function on the stack.
pub fn leave_by(to: u32) -> ! {
    // SAFETY: it does not come back.
    unsafe { asm!("bx {}", in(reg) to, options(noreturn)) }
}

/// An instruction that is none.
pub fn undefined() -> ! {
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

/// Has its main stack there, and spins.
pub fn spin_on_stack(at: u32) -> ! {
    // SAFETY: it does not come back.
    unsafe { asm!("mov sp, {}", "1: b 1b", in(reg) at, options(noreturn)) }
}

/// Has its main stack there, and pushes.
pub fn push_on_stack(at: u32) -> ! {
    // SAFETY: it does not come back.
    unsafe { asm!("mov sp, {}", "1: push {{r0-r3}}", "b 1b", in(reg) at, options(noreturn)) }
}

/// Has its process stack there, and spins as a thread on it.
pub fn spin_on_process_stack(at: u32) -> ! {
    // SAFETY: it does not come back.
    unsafe {
        asm!("msr psp, {at}", "msr control, {two}", "isb", "1: b 1b", at = in(reg) at, two = in(reg) 2, options(noreturn))
    }
}

/// A call as the SDK does not make it: with interrupts on.
pub fn call(slot: u32, [first, second, third, fourth]: [u32; 4]) -> u32 {
    let answer;
    // SAFETY: a veneer keeps the procedure call standard; what it writes is what the attacker passed.
    unsafe {
        asm!(
            "blx {veneer}",
            veneer = in(reg) veneer(slot),
            inout("r0") first => answer,
            inout("r1") second => _,
            inout("r2") third => _,
            inout("r3") fourth => _,
            out("r12") _,
            out("lr") _,
        );
    }
    answer
}

/// A call whose return address means something else.
pub fn call_returning_by(slot: u32, lr: u32) -> ! {
    // SAFETY: it does not come back.
    unsafe {
        asm!("mov lr, {lr}", "bx {veneer}", lr = in(reg) lr, veneer = in(reg) veneer(slot), options(noreturn))
    }
}

/// Calls for ever, with as little as can be between two calls.
pub fn call_for_ever(slot: u32) -> ! {
    // SAFETY: it does not come back; r4 is left alone by a call.
    unsafe { asm!("1: blx r4", "b 1b", in("r4") veneer(slot), options(noreturn)) }
}

/// The address to call a slot at.
pub fn veneer(slot: u32) -> u32 {
    (GATEWAY_AT + abi::SLOT_BYTES * slot) | 1
}

/// An interrupt every so many cycles.
pub fn sys_tick(cycles: u32) {
    set(SYSTICK + 4, cycles);
    set(SYSTICK + 8, 0);
    set(SYSTICK, 7);
}

/// Enables an interrupt and pends it.
pub fn raise(irq: u32) {
    let (word, bit) = (irq / 32 * 4, 1 << (irq % 32));
    set(ISER + word, bit);
    set(ISPR + word, bit);
}
