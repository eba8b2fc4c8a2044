//! The application, which lies in this image and is put where applications run: one of its ways to run is chosen by the word at
//! the beginning of its RAM.
//!
//! Most of them count in all registers at once: each has its number more than the first, and once a turn that is looked
//! at, in IT blocks. If one ever has not, the program faults.

use core::arch::global_asm;

use abi::SLOT_BYTES;
use chip::map::{app, secure};
use gateway_core::ports::{Flash, FlashError, Geometry};

/// A way to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Way {
    /// Counts in a thread.
    Thread,
    Primask,
    Faultmask,
    Basepri,
    /// On the process stack.
    Process,
    /// In a handler that never returns.
    Handler,
    /// Calls for ever, and counts.
    Calls,
    /// The same in a handler.
    HandlerCalls,
    /// Counts, and has a tick of 1 kHz.
    Ticks,
    /// Waits for ticks of 1 kHz.
    Waits,
    /// Calls for ever, under a handler that comes all the time and calls as well.
    Storm,
    /// Four instructions for ever, with a tick of 1 kHz: [`STEPS`].
    Steps,
    /// Breakpoint instructions of its own.
    Breakpoints,
    /// The same in the handler of a tick.
    HandlerBreakpoints,
    Undefined,
    SecureRead,
    /// Leaves a handler by a return that is made up.
    Forged,
    /// A call that goes back to its veneer.
    ToVeneer,
    /// In a handler that never returns, over a thread without privilege that may not reach the handlers' stack.
    Unprivileged,
}

unsafe extern "C" {
    static hold_program: u8;
    static hold_program_end: u8;
    static hold_entry: u8;
    static hold_steps: u8;
    static hold_wait: u8;
    static hold_undefined: u8;
    static hold_breakpoint: u8;
    static hold_tick_breakpoint: u8;
}

/// Where the way is chosen.
pub(crate) const WAY_AT: u32 = app::RAM_AT;
/// Ticks that were handled.
pub(crate) const TICKS_AT: u32 = app::RAM_AT + 4;
/// Its stacks.
pub(crate) const STACK_TOP: u32 = app::RAM_AT + 0x8000;
pub(crate) const PROCESS_STACK_TOP: u32 = app::RAM_AT + 0x6000;

pub(crate) fn bytes() -> &'static [u8] {
    let (from, to) = (&raw const hold_program, &raw const hold_program_end);
    // SAFETY: both are labels of one piece of this image, which nobody writes.
    unsafe { core::slice::from_raw_parts(from, to as usize - from as usize) }
}

fn there(label: *const u8) -> u32 {
    app::CODE_AT + (label as u32 - (&raw const hold_program) as u32)
}

pub(crate) fn entry() -> u32 {
    there(&raw const hold_entry)
}

/// `adds r4, #1`, `adds r5, r5, r4`, `eors r6, r5`, `b` back: two bytes each.
pub(crate) fn steps() -> u32 {
    there(&raw const hold_steps)
}

pub(crate) fn waits() -> u32 {
    there(&raw const hold_wait)
}

pub(crate) fn undefined() -> u32 {
    there(&raw const hold_undefined)
}

pub(crate) fn breakpoint() -> u32 {
    there(&raw const hold_breakpoint)
}

pub(crate) fn tick_breakpoint() -> u32 {
    there(&raw const hold_tick_breakpoint)
}

/// The program as a store flash has it.
#[derive(Debug)]
pub(crate) struct Store;

impl Flash for Store {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: bytes().len() as u32, erase_bytes: 4096, write_bytes: 1, write_once: false }
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let from = bytes().get(at as usize..at as usize + into.len()).ok_or(FlashError::Range)?;
        into.copy_from_slice(from);
        Ok(())
    }

    fn write(&mut self, _at: u32, _bytes: &[u8]) -> Result<(), FlashError> {
        Err(FlashError::Failed)
    }

    fn erase(&mut self, _at: u32) -> Result<(), FlashError> {
        Err(FlashError::Failed)
    }
}

const NO_OP: u32 = 27;

global_asm!(
    r#"
    .macro hold_same register, number
        sub.w \register, \register, #\number
        cmp \register, r0
        itte eq
        addeq.w \register, \register, #\number
        nopeq
        bne.w hold_fail
    .endm

    .macro hold_way number, to
        cmp r1, #\number
        beq.w \to
    .endm

    .section .rodata.hold_program,"ax",%progbits
    .balign 8
    .thumb
    @ No label is a function's: it would have the bit of Thumb in it, now and then.
    hold_program:
        .word {stack}, {code} + 1 + (hold_entry - hold_program)
        .rept 13
        .word {code} + 1 + (hold_fail - hold_program)
        .endr
        .word {code} + 1 + (hold_tick - hold_program)

    hold_entry:
        ldr r0, ={way}
        ldr r1, [r0]
        hold_way 0, hold_count
        hold_way 1, hold_primask
        hold_way 2, hold_faultmask
        hold_way 3, hold_basepri
        hold_way 4, hold_process
        hold_way 5, hold_ticks_fast
        hold_way 6, hold_calls
        hold_way 7, hold_ticks_fast
        hold_way 8, hold_ticks_count
        hold_way 9, hold_waits
        hold_way 10, hold_storm
        hold_way 11, hold_ticks_steps
        hold_way 12, hold_breakpoint_loop
        hold_way 13, hold_waits
        hold_way 14, hold_undefined
        hold_way 15, hold_secure_read
        hold_way 16, hold_waits
        hold_way 17, hold_to_veneer
        hold_way 18, hold_unprivileged
    hold_fail:
        udf #9

    hold_primask:
        cpsid i
        b.w hold_count
    hold_faultmask:
        cpsid f
        b.w hold_count
    hold_basepri:
        movs r0, #0x20
        msr basepri, r0
        b.w hold_count
    hold_process:
        ldr r0, ={process}
        msr psp, r0
        movs r0, #2
        msr control, r0
        isb
        sub sp, #4                   @ a frame here begins with a word of the processor's, for alignment
        b.w hold_count
    hold_ticks_fast:
        ldr r0, =2000
        bl hold_systick
        b.w hold_count
    hold_ticks_count:
        ldr r0, =20000
        bl hold_systick
        b.w hold_count
    hold_ticks_steps:
        ldr r0, =20000
        bl hold_systick
        movs r4, #0
        movs r5, #0
        movs r6, #0
    hold_steps:
        adds r4, #1
        adds r5, r5, r4
        eors r6, r5
        b hold_steps
    hold_waits:
        ldr r0, =20000
        bl hold_systick
    hold_wait:
        wfi
        b hold_wait
    hold_storm:
        ldr r0, =1500
        bl hold_systick
        b.w hold_calls

    hold_unprivileged:
        ldr r0, =2000
        bl hold_systick
        ldr r0, ={process}
        msr psp, r0
        ldr r1, =0xE000ED94          @ MPU_CTRL
        movs r0, #0x44               @ memory, not cached
        str r0, [r1, #0x2c]
        movs r0, #0
        str r0, [r1, #4]
        ldr r0, ={code} + 6          @ whoever reads
        str r0, [r1, #8]
        ldr r0, ={code} + 0xfffe1
        str r0, [r1, #12]
        movs r0, #1
        str r0, [r1, #4]
        ldr r0, ={way} + 2           @ whoever reads and writes
        str r0, [r1, #8]
        ldr r0, ={way} + 0x6fe1
        str r0, [r1, #12]
        movs r0, #5                  @ on, and all the rest for the privileged
        str r0, [r1]
        dsb
        movs r0, #3
        msr control, r0
        isb
        b.w hold_count

    hold_systick:
        ldr r1, =0xE000E010
        str r0, [r1, #4]
        movs r2, #0
        str r2, [r1, #8]
        movs r2, #7
        str r2, [r1]
        bx lr

    hold_breakpoint_loop:
        movs r4, #0
    1:  adds r4, #1
    hold_breakpoint:
        bkpt #1
        b 1b
    hold_undefined:
        udf #7
    hold_secure_read:
        ldr r0, ={secure}
        ldr r0, [r0]
        b.w hold_fail
    hold_to_veneer:
        ldr r5, ={veneer}
        mov lr, r5
        bx r5
    .ltorg

    hold_tick:
        ldr r0, ={way}
        ldr r1, [r0]
        cmp r1, #5
        beq.w hold_count
        cmp r1, #18
        beq.w hold_count
        cmp r1, #7
        beq.w hold_calls
        cmp r1, #10
        beq 3f
        cmp r1, #16
        beq 5f
        cmp r1, #13
        bne 1f
    hold_tick_breakpoint:
        bkpt #2
    1:  ldr r1, [r0, #4]
        adds r1, #1
        str r1, [r0, #4]
        bx lr
    3:  push {{r4-r6, lr}}
        movs r6, #4
    4:  ldr r5, ={veneer}
        blx r5
        subs r6, #1
        bne 4b
        pop {{r4-r6, pc}}
    5:  ldr r0, =0xFFFFFFFD          @ to the secure world, on its process stack
        bx r0
    .ltorg

    hold_count:
        movs r0, #0
        movs r1, #1
        movs r2, #2
        movs r3, #3
        movs r4, #4
        movs r5, #5
        movs r6, #6
        movs r7, #7
        mov.w r8, #8
        mov.w r9, #9
        mov.w r10, #10
        mov.w r11, #11
        mov.w r12, #12
        mov.w lr, #14
    1:  adds r0, #1
        adds r1, #1
        adds r2, #1
        adds r3, #1
        adds r4, #1
        adds r5, #1
        adds r6, #1
        adds r7, #1
        add.w r8, r8, #1
        add.w r9, r9, #1
        add.w r10, r10, #1
        add.w r11, r11, #1
        add.w r12, r12, #1
        add.w lr, lr, #1
        hold_same r1, 1
        hold_same r2, 2
        hold_same r3, 3
        hold_same r4, 4
        hold_same r5, 5
        hold_same r6, 6
        hold_same r7, 7
        hold_same r8, 8
        hold_same r9, 9
        hold_same r10, 10
        hold_same r11, 11
        hold_same r12, 12
        hold_same lr, 14
        b 1b

    hold_calls:
        movs r4, #0
        movs r6, #6
        movs r7, #7
        mov.w r8, #8
        mov.w r9, #9
        mov.w r10, #10
        mov.w r11, #11
        ldr r5, ={veneer}
    1:  adds r4, #1
        adds r6, #1
        adds r7, #1
        add.w r8, r8, #1
        add.w r9, r9, #1
        add.w r10, r10, #1
        add.w r11, r11, #1
        blx r5
        cmp r0, #0
        bne.w hold_fail
        mov r0, r4
        hold_same r6, 6
        hold_same r7, 7
        hold_same r8, 8
        hold_same r9, 9
        hold_same r10, 10
        hold_same r11, 11
        b 1b
    .ltorg
    .balign 8
    hold_program_end:
    "#,
    code = const app::CODE_AT,
    stack = const STACK_TOP,
    process = const PROCESS_STACK_TOP,
    way = const WAY_AT,
    secure = const secure::RAM_AT,
    veneer = const (secure::GATEWAY_AT + SLOT_BYTES * NO_OP) | 1,
);
