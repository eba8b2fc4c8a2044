//! What has to end the application, and nothing else.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::hostile;
use crate::map::{app, flash, irq, register, secure};
use holdfast::raw;

/// Something to try.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) make: fn(),
}

macro_rules! attempts {
    ($($name:literal: $make:expr;)*) => {
        &[$(Attempt { name: $name, make: || $make },)*]
    };
}

/// Everything to try, in order.
pub(crate) const ALL: &[Attempt] = attempts! {
    "reading secure RAM": read(secure::RAM_AT);
    "reading secure RAM by its other alias": read(secure::RAM_AT - 0x1000_0000);
    "reading what the stages tell each other": read(secure::KEPT_AT);
    "reading secure code": read(secure::MICROVISOR_AT + 0x1000);
    "reading secure code by its other alias": read(secure::MICROVISOR_AT - 0x1000_0000 + 0x1000);
    "reading the gateway page": read(secure::GATEWAY_AT);
    "reading its own RAM by the secure alias": read(app::RAM_AT + 0x1000_0000);
    "reading the flash": read(flash::AT);
    "reading the store": read(flash::AT + flash::STORE);
    "reading a hole that only the MPC closes": read(app::RAM_AT + app::RAM_BYTES);
    "writing that hole": write(app::RAM_AT + app::RAM_BYTES);
    "writing secure RAM": write(secure::RAM_AT);
    "writing secure code": write(secure::MICROVISOR_AT);
    "reading the secure console": read(register::UART_CONSOLE);
    "reading the secure console by its other alias": read(register::UART_CONSOLE - 0x1000_0000);
    "reading the entropy": read(register::UART_ENTROPY - 0x1000_0000);
    "reading the Ethernet controller": read(register::LAN9118 - 0x1000_0000);
    "reading the clock that the microvisor uses": read(register::DUAL_TIMER - 0x1000_0000);
    "writing the non-secure watchdog": write(0x4008_1000);
    "locking the non-secure watchdog": write(0x4008_1C00);
    "writing a DMA controller": write(0x4011_0000);
    "writing the second DMA controller": write(0x4011_1000);
    "writing the third DMA controller": write(0x4011_2000);
    "writing the fourth DMA controller": write(0x4011_3000);
    "writing the security controller": write(register::SECURITY);
    "writing an MPC": write(register::MPC_APP_RAM);
    "jumping past the SG of a veneer": jump(secure::GATEWAY_AT + 8 * 27 + 4);
    "calling a slot that has no call": jump(secure::GATEWAY_AT + 8 * 20);
    "calling the last slot": jump(secure::GATEWAY_AT + 8 * 255);
    "jumping into secure code": jump(secure::GATEWAY_AT + secure::GATEWAY_BYTES);
    "jumping to the microvisor's vectors": jump(secure::MICROVISOR_AT);
    "an exception return out of a thread": jump(0xFFFF_FFBC);
    "a function return that nobody waits for": jump(0xFEFF_FFFE);
    "a function return in a handler": handle(JUMP, 0xFEFF_FFFF);
    "an exception return to a secure thread": handle(RETURN, 0xFFFF_FFFD);
    "an exception return to a secure thread on MSP": handle(RETURN, 0xFFFF_FFF9);
    "an exception return to a secure handler": handle(RETURN, 0xFFFF_FFF1);
    "an exception return to a secure thread, as from ours": handle(RETURN, 0xFFFF_FFFC);
    "an exception return to a secure thread on MSP, as from ours": handle(RETURN, 0xFFFF_FFF8);
    "an exception return to a secure handler, as from ours": handle(RETURN, 0xFFFF_FFF0);
    "an exception return with its additional state": handle(RETURN, 0xFFFF_FFD8);
    "an exception return that means nothing": handle(RETURN, 0xFFFF_FF00);
    "a call that returns by an exception return": call_back(0xFFFF_FFFD);
    "a call that returns by a function return": call_back(0xFEFF_FFFF);
    "a call that returns into secure code": call_back(secure::GATEWAY_AT + secure::GATEWAY_BYTES);
    "a call in a handler that returns by an exception return": handle(CALL_BACK, 0xFFFF_FFFD);
    "a call in a handler that returns by a function return": handle(CALL_BACK, 0xFEFF_FFFF);
    "a stack in secure RAM, pushed to": stack(secure::RAM_AT + 0x1000, false);
    "a stack in secure RAM, interrupted": stack(secure::RAM_AT + 0x1000, true);
    "a stack in secure RAM, with interrupts off": stack_masked(secure::RAM_AT + 0x1000);
    "a process stack in secure RAM, interrupted": process_stack(secure::RAM_AT + 0x1000);
    "a stack in a hole that only the MPC closes, interrupted": stack(app::RAM_AT + app::RAM_BYTES + 0x400, true);
    "a stack at the end of the address space, interrupted": stack(0xFFFF_FFF8, true);
    "a call on a stack in secure RAM": stack_and_call(secure::RAM_AT + 0x1000);
    "an instruction that is none": undefined();
    "a breakpoint": breakpoint();
    "a breakpoint that a debugger would take": hostile::semihosting();
    "a fault with everything masked": hostile::masked_fault();
    "a fault in its own handler of faults": hostile::fault_in_fault();
    "a fault in a handler with everything masked": handle(MASKED_FAULT, 0);
    "a stack at its limit, pushed to": hostile::stack_limit(false);
    "a process stack at its limit, interrupted": hostile::stack_limit(true);
    "a stack that runs out of its RAM": hostile::stack_out_of_ram();
    "deep sleep, then a fault": hostile::deep_sleep();
    "writing its own code, and running it": hostile::self_modifying();
    "floating point": floating_point();
    "a fault in a handler": handle(UNDEFINED, 0);
    "a supervisor call with interrupts off": supervisor_call();
    "asking to be restarted, and spinning": restart();
    "asking to be restarted, and calling without end in a handler": restart_and_call();
    "resetting the machine, then a fault": reset_machine();
    "turning the SAU off, then reading secure RAM": sau_off();
    "taking the Ethernet interrupt, then a fault": take_interrupt();
    "vectors in secure RAM, and an interrupt": hostile::vectors_at(secure::RAM_AT);
    "vectors in secure code, and an interrupt": hostile::vectors_at(secure::MICROVISOR_AT);
    "vectors where nothing is, and an interrupt": hostile::vectors_at(0x6000_0000);
    "vectors that are no code, and an interrupt": hostile::vectors_at(app::RAM_AT + app::RAM_BYTES - 0x400);
    "pending what is not its own, then a fault": hostile::pend_nmi();
    "its own MPU allowing nothing": hostile::nothing_allowed(false);
    "its own MPU allowing nothing, and its own faults": hostile::nothing_allowed(true);
    "an instruction that is none, on a stack in secure RAM": hostile::fault_on_stack(secure::RAM_AT + 0x1000, false);
    "a breakpoint on a stack in secure RAM": hostile::fault_on_stack(secure::RAM_AT + 0x1000, true);
    "a breakpoint on a stack in the hole": hostile::fault_on_stack(app::RAM_AT + app::RAM_BYTES + 0x400, true);
    "a breakpoint on a stack half in the hole": hostile::fault_on_stack(app::RAM_AT + app::RAM_BYTES + 0x10, true);
    "reading secure RAM on a stack in the hole": hostile::read_on_stack(app::RAM_AT + app::RAM_BYTES + 0x400, secure::RAM_AT);
    "reading the hole on a stack in secure RAM": hostile::read_on_stack(secure::RAM_AT + 0x1000, app::RAM_AT + app::RAM_BYTES);
    "trapping unaligned accesses, then a fault": hostile::trap_unaligned();
    "calls in a handler for ever": hostile::call_in_handler_for_ever();
    "interrupts that forget the calls they interrupt": hostile::forget_calls(301);
    "interrupts that forget the calls of a handler": hostile::forget_calls_in_handler(301);
    "a function return where a call was left": hostile::forget_and_function_return(false);
    "a function return in a handler where a call was left": hostile::forget_and_function_return(true);
    "an exception return where a call was left, on the other stack": hostile::forget_and_return(0xFFFF_FFF8, true);
    "an exception return where a call of a handler was left, to a thread": hostile::forget_and_return(0xFFFF_FFF0, false);
    "an exception return where a call was left, without its state": hostile::forget_and_return(0xFFFF_FFD8, false);
    "an exception return where a call was left, with floating point": hostile::forget_and_return(0xFFFF_FFE8, false);
    "an exception return with floating point": handle(RETURN, 0xFFFF_FFA8);
    "a context with floating point": hostile::floating_point_context();
    "two threads that call": hostile::two_threads();
    "a call where calls were left": hostile::forget_and_call_each(10, 40, false);
    "a call where calls of a handler were left": hostile::forget_and_call_each(10, 70, true);
    "logging without end": hostile::log_for_ever();
};

const JUMP: u32 = 1;
const RETURN: u32 = 2;
const CALL_BACK: u32 = 3;
const UNDEFINED: u32 = 4;
const CALL: u32 = 5;
const CALL_FOR_EVER: u32 = 6;
const MASKED_FAULT: u32 = 7;

/// What timer 0's handler is to do, with what, and what came of it.
static TASK: AtomicU32 = AtomicU32::new(0);
static TASK_ARGUMENTS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
static TASK_SLOT: AtomicU32 = AtomicU32::new(0);
static TASK_RESULT: AtomicU32 = AtomicU32::new(0);

/// Timer 0's handler.
pub(crate) fn in_handler() {
    let [first, ..] = TASK_ARGUMENTS.each_ref().map(|argument| argument.load(Ordering::Relaxed));
    match TASK.swap(0, Ordering::Relaxed) {
        JUMP | RETURN => jump(first),
        CALL_BACK => call_back(first),
        UNDEFINED => undefined(),
        CALL_FOR_EVER => call_for_ever(),
        MASKED_FAULT => hostile::masked_fault(),
        CALL => {
            let arguments = TASK_ARGUMENTS.each_ref().map(|argument| argument.load(Ordering::Relaxed));
            // SAFETY: as the matrix says of its arguments.
            let status = unsafe { raw::call(TASK_SLOT.load(Ordering::Relaxed) as u8, arguments) };
            TASK_RESULT.store(status, Ordering::Relaxed);
        }
        _ => {}
    }
}

/// Makes a call in timer 0's handler.
pub(crate) fn call_in_handler(slot: u8, arguments: [u32; 4]) -> u32 {
    TASK_ARGUMENTS.iter().zip(arguments).for_each(|(held, argument)| held.store(argument, Ordering::Relaxed));
    TASK_SLOT.store(slot.into(), Ordering::Relaxed);
    TASK_RESULT.store(!0, Ordering::Relaxed);
    interrupt(CALL);
    TASK_RESULT.load(Ordering::Relaxed)
}

fn handle(task: u32, argument: u32) {
    TASK_ARGUMENTS[0].store(argument, Ordering::Relaxed);
    interrupt(task);
}

fn interrupt(task: u32) {
    TASK.store(task, Ordering::Relaxed);
    let bit = 1 << irq::TIMER0;
    // SAFETY: the application's own interrupt controller: enables timer 0's interrupt and has it taken.
    unsafe {
        holdfast::board::write(0xE000_E100, bit);
        holdfast::board::write(0xE000_E200, bit);
        asm!("dsb", "isb");
    }
}

fn read(at: u32) {
    // SAFETY: that it is not allowed is what is tested.
    core::hint::black_box(unsafe { holdfast::board::read(at) });
}

fn write(at: u32) {
    // SAFETY: as above.
    unsafe { holdfast::board::write(at, 1) };
}

fn jump(to: u32) {
    // SAFETY: it does not come back.
    unsafe { asm!("bx {}", in(reg) to | 1, options(noreturn)) }
}

/// Calls `mvNoOp` with a return address that means something else.
fn call_back(to: u32) {
    let veneer = (raw::GATEWAY_AT + 8 * 27) | 1;
    // SAFETY: it does not come back.
    unsafe {
        asm!("mov lr, {to}", "bx {veneer}", to = in(reg) to, veneer = in(reg) veneer, options(noreturn))
    }
}

fn stack(at: u32, spin: bool) {
    if spin {
        // SAFETY: it does not come back.
        unsafe { asm!("mov sp, {}", "1: b 1b", in(reg) at, options(noreturn)) }
    }
    // SAFETY: as above.
    unsafe { asm!("mov sp, {}", "push {{r0}}", "1: b 1b", in(reg) at, options(noreturn)) }
}

fn stack_masked(at: u32) {
    // SAFETY: it does not come back.
    unsafe { asm!("cpsid i", "mov sp, {}", "1: b 1b", in(reg) at, options(noreturn)) }
}

fn process_stack(at: u32) {
    // SAFETY: it does not come back.
    unsafe {
        asm!("msr psp, {at}", "msr control, {two}", "isb", "1: b 1b", at = in(reg) at, two = in(reg) 2, options(noreturn))
    }
}

fn stack_and_call(at: u32) {
    let veneer = (raw::GATEWAY_AT + 8 * 27) | 1;
    // SAFETY: it does not come back.
    unsafe {
        asm!("mov sp, {at}", "1: blx {veneer}", "b 1b", at = in(reg) at, veneer = in(reg) veneer, options(noreturn))
    }
}

fn undefined() {
    // SAFETY: ends here.
    unsafe { asm!("udf #3", options(noreturn)) }
}

fn breakpoint() {
    // SAFETY: ends here.
    unsafe { asm!("bkpt #0", options(noreturn)) }
}

fn floating_point() {
    // SAFETY: changes nothing, where it is allowed: vmov r0, s0.
    unsafe { asm!(".inst.w 0xEE100A10", out("r0") _) };
}

fn supervisor_call() {
    // SAFETY: it is escalated to a fault that is not the application's.
    unsafe { asm!("cpsid i", "svc #0", options(noreturn)) }
}

fn restart() {
    let _ = holdfast::restart();
    // SAFETY: spins with everything masked that an application can mask.
    unsafe { asm!("cpsid i", "cpsid f", "1: b 1b", options(noreturn)) }
}

fn restart_and_call() {
    let _ = holdfast::restart();
    handle(CALL_FOR_EVER, 0);
}

/// As little as can be between two calls, in a register that a call leaves alone.
fn call_for_ever() {
    let veneer = (raw::GATEWAY_AT + 8 * 27) | 1;
    // SAFETY: it does not come back; the call writes nothing.
    unsafe { asm!("1: blx r4", "b 1b", in("r4") veneer, options(noreturn)) }
}

fn reset_machine() {
    // SAFETY: AIRCR with SYSRESETREQ: it is not the application's to use.
    unsafe { holdfast::board::write(0xE000_ED0C, 0x05FA_0004) };
    undefined();
}

fn sau_off() {
    // SAFETY: SAU_CTRL is nothing to the application.
    unsafe { holdfast::board::write(0xE000_EDD0, 2) };
    read(secure::RAM_AT);
}

fn take_interrupt() {
    // SAFETY: the bit of an interrupt that is not the application's.
    unsafe {
        holdfast::board::write(0xE000_E104, 1 << (irq::LAN9118 - 32));
        holdfast::board::write(0xE000_E204, 1 << (irq::LAN9118 - 32));
    }
    undefined();
}
