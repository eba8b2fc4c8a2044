//! Handlers that lie about what they interrupted, and vectors that are nobody's: an application's own vector table.
//!
//! A handler of the application's may find that it interrupted a call, between the gate and the moment where the call takes
//! its interrupts off. Nobody but the handler knows; it returns as if it had interrupted the application's own code, and what
//! the processor kept of the call stays on the secure stack.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

use holdfast::raw;

use crate::map::app;

const VTOR: u32 = 0xE000_ED08;
const ICSR: u32 = 0xE000_ED04;
const SHPR3: u32 = 0xE000_ED20;
const SHCSR: u32 = 0xE000_ED24;
const CCR: u32 = 0xE000_ED14;
const SYSTICK: u32 = 0xE000_E010;
const PENDSVSET: u32 = 1 << 28;
const LOG: u32 = (raw::GATEWAY_AT + 8 * 37) | 1;
const NO_OP: u32 = (raw::GATEWAY_AT + 8 * 27) | 1;

global_asm!(
    r#"
    .section .text.hostile,"ax",%progbits
    .align 9
    .global hostile_vectors
    hostile_vectors:
        .word 0
        .rept 13
        .word hostile_lies
        .endr
        .word hostile_calls      @ PendSV
        .word hostile_lies       @ SysTick
        .rept 48
        .word hostile_lies
        .endr

    @ Interrupts what it likes; a call it forgets: back to whoever makes calls, without this one.
    .thumb_func
    hostile_lies:
        tst lr, #0x40
        beq 2f
        sub sp, #32
        ldr r0, =hostile_again
        str r0, [sp, #24]
        tst lr, #8
        ite eq
        ldreq r1, =0x0100000E        @ PendSV's handler
        ldrne r1, =0x01000000        @ a thread
        str r1, [sp, #28]
        ite eq
        ldreq lr, =0xFFFFFFB0
        ldrne lr, =0xFFFFFFB8
    2:  bx lr

    @ Calls for ever.
    .thumb_func
    hostile_calls:
    .thumb_func
    .global hostile_again
    hostile_again:
        ldr r4, ={no_op}
        blx r4
        b hostile_again
    .ltorg

    @ Forgets so many calls, then returns as it is told to: by what, and to where.
    .thumb_func
    hostile_returns:
        tst lr, #0x40
        beq 3f
        ldr r3, =hostile_leaving
        ldr r2, [r3]
        subs r2, #1
        str r2, [r3]
        cmn r2, #99
        bmi 4f
        sub sp, #32
        ldr r0, =hostile_again
        str r0, [sp, #24]
        tst lr, #8
        ite eq
        ldreq r1, =0x0100000E
        ldrne r1, =0x01000000
        str r1, [sp, #28]
        ite eq
        ldreq lr, =0xFFFFFFB0
        ldrne lr, =0xFFFFFFB8
        cmp r2, #0
        bgt 3f
        ldr lr, [r3, #4]
        ldr r0, [r3, #8]
        str r0, [sp, #24]
    3:  bx lr
    4:  udf #5
    .ltorg
    .thumb_func
    .global hostile_function_return
    hostile_function_return:
        ldr r0, =hostile_leaving
        ldr r0, [r0, #12]
        bx r0
    .ltorg

    @ One more call, that takes more stack than most, and the end.
    .thumb_func
    .global hostile_one_more
    hostile_one_more:
        cpsid i
        ldr r0, ={code}
        movs r1, #1
        ldr r4, ={log}
        blx r4
        udf #6
    .ltorg

    .align 9
    .global hostile_return_vectors
    hostile_return_vectors:
        .word 0
        .rept 13
        .word hostile_returns
        .endr
        .word hostile_calls
        .word hostile_returns

    @ Switches between two threads, as a small system of threads does that knows of no secure world.
    .thumb_func
    hostile_switches:
        mrs r0, psp
        stmdb r0!, {{r4-r11, lr}}
        ldr r1, =hostile_other
        ldr r2, [r1]
        str r0, [r1]
        ldmia r2!, {{r4-r11, lr}}
        msr psp, r2
        bx lr
    .ltorg

    .align 9
    .global hostile_switching_vectors
    hostile_switching_vectors:
        .word 0
        .rept 15
        .word hostile_switches
        .endr

    @ Finds its registers clean, having interrupted code whose registers are; what else it finds is added up.
    .thumb_func
    hostile_finds:
        orr r0, r0, r1
        orr r0, r0, r2
        orr r0, r0, r3
        orr r0, r0, r12
        ldr r1, =hostile_found
        ldr r2, [r1]
        orr r2, r2, r0
        str r2, [r1]
        ldr r2, [r1, #4]
        subs r2, #1
        str r2, [r1, #4]
        bx lr
    .ltorg

    .align 9
    .global hostile_finding_vectors
    hostile_finding_vectors:
        .word 0
        .rept 31
        .word hostile_finds
        .endr
"#,
    no_op = const NO_OP,
    log = const LOG,
    code = const app::CODE_AT,
);

unsafe extern "C" {
    static hostile_vectors: u32;
    static hostile_finding_vectors: u32;
    static hostile_return_vectors: u32;
    static hostile_switching_vectors: u32;
    fn hostile_function_return();
    fn hostile_one_more();
    fn hostile_again() -> !;
}

/// Sets a register; what was there.
fn set(at: u32, value: u32) -> u32 {
    // SAFETY: a register of the application's half of the core.
    let before = unsafe { holdfast::board::read(at) };
    // SAFETY: the same.
    unsafe { holdfast::board::write(at, value) };
    // SAFETY: a barrier.
    unsafe { asm!("dsb", "isb") };
    before
}

fn tick(cycles: u32) {
    set(SYSTICK + 4, cycles - 1);
    set(SYSTICK + 8, 0);
    set(SYSTICK, 7);
}

fn lie() {
    set(VTOR, (&raw const hostile_vectors) as u32);
    // PendSV is the least urgent, SysTick the most.
    set(SHPR3, 0x00E0_0000);
}

/// What an interrupt found in the registers, and how many are still to look.
#[repr(C)]
struct Found([AtomicU32; 2]);

#[unsafe(no_mangle)]
static hostile_found: Found = Found([const { AtomicU32::new(0) }; 2]);

/// What interrupts of code that has nothing in its registers find in theirs: the secure world's, or nothing.
pub(crate) fn left_in_registers() -> u32 {
    const LOOKS: u32 = 4000;
    let [found, looks] = &hostile_found.0;
    looks.store(LOOKS, Ordering::Relaxed);
    let before = set(VTOR, (&raw const hostile_finding_vectors) as u32);
    tick(997);
    // SAFETY: waits, with nothing in the registers that an interrupt is entered with; its handler changes no others.
    unsafe {
        asm!(
            "movs r0, #0", "movs r1, #0", "movs r2, #0", "movs r3, #0", "mov r12, r0",
            "1: ldr {look}, [{looks}]", "cmp {look}, #0", "bgt 1b",
            look = out(reg) _, looks = in(reg) looks.as_ptr(),
            out("r0") _, out("r1") _, out("r2") _, out("r3") _, out("r12") _,
        )
    };
    set(SYSTICK, 0);
    set(VTOR, before);
    found.load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
static hostile_other: AtomicU32 = AtomicU32::new(0);
#[unsafe(link_section = ".noinit")]
static MIXED: AtomicU32 = AtomicU32::new(0);

fn sp() -> u32 {
    let sp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

extern "C" fn calling_thread() -> ! {
    for _ in 0..5_000 {
        let before = sp();
        // SAFETY: the call writes nothing.
        unsafe { raw::call(27, [0; 4]) };
        if sp() != before {
            MIXED.store(1, Ordering::Relaxed);
            break;
        }
    }
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

/// Two threads that make calls, switched between by interrupts; what came of it the next start finds.
pub(crate) fn two_threads() {
    const STACKS: [u32; 2] = [app::RAM_AT + app::RAM_BYTES / 2, app::RAM_AT + app::RAM_BYTES / 2 + 0x4000];
    MIXED.store(0, Ordering::Relaxed);
    let mut first = [0; 17];
    (first[8], first[15], first[16]) = (0xFFFF_FFBC, calling_thread as *const () as u32, 0x0100_0000);
    let at = STACKS[1] - 4 * 17;
    // SAFETY: memory of its own, that nothing else is in.
    unsafe { (at as *mut [u32; 17]).write_volatile(first) };
    hostile_other.store(at, Ordering::Relaxed);
    set(VTOR, (&raw const hostile_switching_vectors) as u32);
    tick(331);
    // SAFETY: it does not come back.
    unsafe {
        asm!("msr psp, {sp}", "msr control, {process}", "isb", "bx {thread}", sp = in(reg) STACKS[0],
            process = in(reg) 2, thread = in(reg) calling_thread as *const () as u32, options(noreturn))
    }
}

/// Calls of the two threads went back each to its own.
pub(crate) fn threads_stayed_apart() -> bool {
    MIXED.load(Ordering::Relaxed) != 1
}

/// How many calls to forget; by what to return then, and to where; by what to return from there.
#[repr(C)]
struct Leaving([AtomicU32; 4]);

#[unsafe(no_mangle)]
static hostile_leaving: Leaving = Leaving([const { AtomicU32::new(0) }; 4]);
const FORGOTTEN: u32 = 3;

fn leave(plan: [u32; 4], in_handler: bool) {
    hostile_leaving.0.iter().zip(plan).for_each(|(held, word)| held.store(word, Ordering::Relaxed));
    lie();
    set(VTOR, (&raw const hostile_return_vectors) as u32);
    tick(307);
    if in_handler {
        set(ICSR, PENDSVSET);
    }
    // SAFETY: it does not come back.
    unsafe { hostile_again() }
}

/// Forgets calls, then returns from the handler that did by this.
pub(crate) fn forget_and_return(by: u32, in_handler: bool) {
    leave([FORGOTTEN, by, hostile_again as *const () as u32, 0], in_handler);
}

/// Forgets calls, then makes a function return out of where they were made.
pub(crate) fn forget_and_function_return(in_handler: bool) {
    let (by, to) =
        (if in_handler { 0xFFFF_FFB0 } else { 0xFFFF_FFB8 }, hostile_function_return as *const () as u32);
    leave([FORGOTTEN, by, to, 0xFEFF_FFFF], in_handler);
}

/// Forgets so many calls and makes one more, which finds the stack as full as it can be or nearly.
pub(crate) fn forget_and_call(forgotten: u32, in_handler: bool) {
    let by = if in_handler { 0xFFFF_FFB0 } else { 0xFFFF_FFB8 };
    leave([forgotten, by, hostile_one_more as *const () as u32, 0], in_handler);
}

#[unsafe(link_section = ".noinit")]
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// Every depth from here to there, each with a start of its own.
pub(crate) fn forget_and_call_each(from: u32, to: u32, in_handler: bool) {
    let depth = DEPTH.load(Ordering::Relaxed);
    let depth = if (from..to).contains(&depth) { depth + 1 } else { from };
    DEPTH.store(depth, Ordering::Relaxed);
    if depth < to {
        crate::kept::Kept::again();
    }
    log_buffer();
    forget_and_call(depth, in_handler);
}

/// Says that its context has floating point, which neither world has, and is interrupted.
pub(crate) fn floating_point_context() {
    // SAFETY: ends here.
    unsafe {
        asm!("mrs {0}, control", "orr {0}, #4", "msr control, {0}", "isb", "movs {0}, #0", out(reg) _);
        holdfast::board::write(0xE000_EF34, !0);
        holdfast::board::write(0xE000_ED88, 0xF << 20);
    }
    tick(301);
    for _ in 0..1000 {
        // SAFETY: the call writes nothing.
        unsafe { raw::call(27, [0; 4]) };
    }
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

/// Calls out of a thread whose interrupts forget them.
pub(crate) fn forget_calls(cycles: u32) {
    lie();
    tick(cycles);
    // SAFETY: it does not come back.
    unsafe { hostile_again() }
}

/// The same in a handler.
pub(crate) fn forget_calls_in_handler(cycles: u32) {
    lie();
    tick(cycles);
    set(ICSR, PENDSVSET);
}

/// Asks to be restarted, then makes calls in a handler for ever.
pub(crate) fn call_in_handler_for_ever() {
    let _ = holdfast::restart();
    lie();
    set(ICSR, PENDSVSET);
}

/// Has vectors where they are not its own, then an exception.
pub(crate) fn vectors_at(at: u32) {
    set(VTOR, at);
    tick(200);
    // SAFETY: it does not come back.
    unsafe { asm!("1: b 1b", options(noreturn)) }
}

/// A fault that cannot be stacked.
pub(crate) fn fault_on_stack(at: u32, breakpoint: bool) {
    if breakpoint {
        // SAFETY: it does not come back.
        unsafe { asm!("mov sp, {}", "bkpt #0", options(noreturn), in(reg) at) }
    }
    // SAFETY: as above.
    unsafe { asm!("mov sp, {}", "udf #3", options(noreturn), in(reg) at) }
}

/// A forbidden read that cannot be stacked.
pub(crate) fn read_on_stack(at: u32, read: u32) {
    // SAFETY: it does not come back.
    unsafe { asm!("mov sp, {}", "ldr r0, [{}]", "1: b 1b", in(reg) at, in(reg) read, options(noreturn)) }
}

/// Pends what is not the application's, then a fault.
pub(crate) fn pend_nmi() {
    set(ICSR, 1 << 31);
    set(SHCSR, 0x003F_FFFF);
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

/// Its own MPU allows it nothing, stack included, and it takes its own memory faults.
pub(crate) fn nothing_allowed(own_faults: bool) {
    if own_faults {
        set(VTOR, (&raw const hostile_vectors) as u32);
        set(SHCSR, 7 << 16);
    }
    for region in 0..8 {
        set(0xE000_ED98, region);
        set(0xE000_EDA0, 0);
    }
    // SAFETY: it does not come back.
    unsafe {
        asm!("str {}, [{}]", "dsb", "isb", "1: b 1b", in(reg) 1, in(reg) 0xE000_ED94u32, options(noreturn))
    }
}

/// What semihosting would be, if it were on.
pub(crate) fn semihosting() {
    // SAFETY: ends here.
    unsafe { asm!("movs r0, #0x18", "ldr r1, =0x20026", "bkpt #0xAB", options(noreturn)) }
}

/// A fault that may not be one.
pub(crate) fn masked_fault() {
    // SAFETY: ends here.
    unsafe { asm!("cpsid i", "cpsid f", "udf #3", options(noreturn)) }
}

/// It takes its own faults, and its handler has another.
pub(crate) fn fault_in_fault() {
    set(SHCSR, 7 << 16);
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

/// A stack has no room left.
pub(crate) fn stack_limit(process: bool) {
    if process {
        tick(300);
        // SAFETY: it does not come back.
        unsafe {
            asm!(
                "mov r0, sp",
                "sub r0, #128",
                "msr psp, r0",
                "msr psplim, r0",
                "movs r1, #2",
                "msr control, r1",
                "isb",
                "1: b 1b",
                options(noreturn)
            )
        }
    }
    // SAFETY: as above.
    unsafe { asm!("mov r0, sp", "msr msplim, r0", "push {{r0}}", "1: b 1b", options(noreturn)) }
}

/// A stack that grows until it leaves its memory.
pub(crate) fn stack_out_of_ram() {
    // SAFETY: it does not come back.
    unsafe { asm!("mov sp, {}", "1: push {{r0}}", "b 1b", in(reg) app::RAM_AT + 64, options(noreturn)) }
}

/// Sleeps as deep as it can: ours wake it, and its own.
pub(crate) fn deep_sleep() {
    const SCR: u32 = 0xE000_ED10;
    const SLEEPONEXIT_SLEEPDEEP_SEVONPEND: u32 = 0x16;
    set(SCR, SLEEPONEXIT_SLEEPDEEP_SEVONPEND);
    // The deep one is not its own to choose.
    if set(SCR, 0) & 4 != 0 {
        return;
    }
    set(SCR, SLEEPONEXIT_SLEEPDEEP_SEVONPEND);
    tick(50_000);
    // SAFETY: its interrupt ends it.
    unsafe { asm!("1: wfi", "b 1b", options(noreturn)) }
}

/// Puts an instruction that is none where its code is, and goes there.
pub(crate) fn self_modifying() {
    const AT: u32 = app::CODE_AT + app::CODE_BYTES - 32;
    set(AT, 0xDE03_DE03);
    // SAFETY: ends there.
    unsafe { asm!("bx {}", in(reg) AT | 1, options(noreturn)) }
}

/// Has unaligned accesses fault, and ends.
pub(crate) fn trap_unaligned() {
    // SAFETY: its own register.
    let ccr = unsafe { holdfast::board::read(CCR) };
    set(CCR, ccr | 1 << 3);
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

/// The start that follows is as any other: an unaligned access is one.
pub(crate) fn unaligned_works() -> bool {
    // SAFETY: its own register.
    unsafe { holdfast::board::read(CCR) & 1 << 3 == 0 }
}

fn log_buffer() {
    // SAFETY: the buffer is its own; nobody writes it.
    unsafe { raw::call(36, [app::RAM_AT + app::RAM_BYTES / 2, 4096, 0, 0]) };
}

/// Logs without end, having asked to be restarted.
pub(crate) fn log_for_ever() {
    log_buffer();
    let _ = holdfast::restart();
    loop {
        // SAFETY: one byte of its own code.
        unsafe { raw::call(37, [app::CODE_AT, 1, 0, 0]) };
    }
}
