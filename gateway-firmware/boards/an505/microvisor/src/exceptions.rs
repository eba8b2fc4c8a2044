//! Vectors, entry, and the way into and out of handlers and calls: what cannot be said in Rust.
//!
//! A handler gets the interrupted thread's r4-r11 and EXC_RETURN as a [`Context`] on the handler stack and may replace
//! them: on its way out the processor goes where they say. The other registers are in the frame that the processor
//! stacked, on the stack of whoever was interrupted.

use core::arch::global_asm;

use crate::schedule::Thread;

/// What a handler finds, and leaves.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Context {
    /// Keeps the stack aligned.
    pad: u32,
    /// r4 to r11.
    pub(crate) registers: [u32; 8],
    pub(crate) exc_return: u32,
}

impl Context {
    /// Of a thread that does not run.
    pub(crate) fn of(thread: &Thread) -> Context {
        Context { pad: 0, registers: thread.registers, exc_return: thread.exc_return }
    }

    /// The application was interrupted in its own code.
    pub(crate) fn of_app(&self) -> bool {
        self.exc_return & exc_return::SECURE == 0
    }

    /// A thread was interrupted, not a handler.
    pub(crate) fn of_thread(&self) -> bool {
        self.exc_return & exc_return::THREAD != 0
    }
}

/// Values of EXC_RETURN.
pub(crate) mod exc_return {
    /// To or from secure code.
    pub(crate) const SECURE: u32 = 1 << 6;
    /// To or from a thread.
    pub(crate) const THREAD: u32 = 1 << 3;
    /// From a handler of ours to the application's thread; the secure thread stack stays the process one.
    pub(crate) const TO_APP_THREAD: u32 = 0xFFFF_FFBD;
    /// From a handler of ours to a handler of the application's.
    pub(crate) const TO_APP_HANDLER: u32 = 0xFFFF_FFB5;
    /// From a handler of the application's to a thread of it on MSP.
    pub(crate) const APP_TO_THREAD: u32 = 0xFFFF_FFB8;
    /// From a handler of the application's to another.
    pub(crate) const APP_TO_HANDLER: u32 = 0xFFFF_FFB0;
}

/// The exception number of the Ethernet controller.
pub(crate) const LAN: u32 = 16 + chip::map::irq::LAN9118;

global_asm!(
    r#"
    .section .vectors,"a",%progbits
    .global VECTORS
    VECTORS:
        .word _handler_stack_top - 8
        .word reset
        .word fault_entry            @ NMI: the watchdog's first half is over
        .word fault_entry            @ HardFault
        .word fault_entry            @ MemManage
        .word fault_entry            @ BusFault
        .word fault_entry            @ UsageFault
        .word fault_entry            @ SecureFault
        .word 0, 0, 0
        .word fault_entry            @ SVC: nobody of ours calls it
        .word fault_entry            @ DebugMonitor
        .word 0
        .word schedule_entry         @ PendSV
        .word schedule_entry         @ SysTick
    .set irq, 0
    .rept {irqs}
        .if irq == {lan}
        .word schedule_entry
        .else
        .word fault_entry
        .endif
        .set irq, irq + 1
    .endr

    .section .text.reset,"ax",%progbits
    .global reset
    .thumb_func
    reset:
        cpsid i
        movs r0, #0
        msr msplim, r0
        ldr r0, =_handler_stack_top - 8
        mov sp, r0
        ldr r0, =_handler_stack
        msr msplim, r0
        ldr r0, =0xE000ED08          @ VTOR
        ldr r1, =VECTORS
        str r1, [r0]
        ldr r0, =_data
        ldr r1, =_data_end
        ldr r2, =_data_image
    1:  cmp r0, r1
        bhs 2f
        ldr r3, [r2], #4
        str r3, [r0], #4
        b 1b
    2:  ldr r0, =_zero
        ldr r1, =_zero_end
        movs r2, #0
    3:  cmp r0, r1
        bhs 4f
        str r2, [r0], #4
        b 3b
    4:  cpsie i
        bl microvisor_main
        udf #0
    .ltorg

    @ A handler of the application's can leave frames of its calls on the handlers' stack, again and again: below the
    @ floor the stack is taken anew, and the application ended. What is in r0 to r3 and r12 on the way out nobody sees: the
    @ processor clears them, too, for an exception of the application's that waited and is taken without another frame.
    .macro handler name, to
    .section .text.\name,"ax",%progbits
    .global \name
    .thumb_func
    \name:
        ldr r0, =_handler_stack + {floor}
        cmp sp, r0
        blo 1f
        push {{r3-r11, lr}}
        mov r0, sp
        mrs r1, ipsr
        bl \to
        b 2f
    1:  ldr r0, =_handler_stack_top - 8
        mov sp, r0
        push {{r3-r11, lr}}
        mov r0, sp
        mrs r1, ipsr
        bl {overflowed}
    2:  pop {{r3-r11, pc}}
    .ltorg
    .endm
    handler fault_entry, {faulted}
    handler schedule_entry, {scheduled}

    @ A call of the application's: r0-r3 as passed, r12 the slot, lr where to return to, on the caller's secure stack. What is
    @ pushed is a `gateway::Passed`.
    @ No interrupt of the application's is taken until the call is over. Nothing of ours is left in a register; a return
    @ to an address that means an exception or function return, made up by the caller, becomes one to where it faults.
    .section .text.gateway_enter,"ax",%progbits
    .global gateway_enter
    .thumb_func
    gateway_enter:
        push {{r4, lr}}
        push {{r0-r3}}
        mrs r4, basepri
        movs r0, #{mask}
        msr basepri_max, r0
        @ Calls that were left may have filled the stack. A call has to have its room: an overflow further in is a fault
        @ in the middle of what no exception may come into.
        mrs r0, ipsr
        cmp r0, #0
        ite eq
        ldreq r0, =_gateway_stack + {room}
        ldrne r0, =_handler_stack + {floor} + {room}
        cmp sp, r0
        blo gateway_full
        mov r0, sp
        mov r1, r12
        bl {called}
        add sp, #16
        msr basepri, r4
        pop {{r4, lr}}
        cmp lr, #0xE0000000
        it hs
        movhs lr, #0
        bic lr, lr, #1
        movs r1, #0
        movs r2, #0
        movs r3, #0
        mov r12, r1
        msr apsr_nzcvq, r1
        bxns lr
    .global gateway_full
    .thumb_func
    gateway_full:
        udf #0
    .ltorg
    "#,
    irqs = const chip::map::irq::COUNT,
    lan = const chip::map::irq::LAN9118,
    mask = const crate::world::NO_APP_INTERRUPTS,
    room = const crate::stacks::CALL_BYTES,
    floor = const crate::stacks::HANDLER_FLOOR_BYTES,
    faulted = sym crate::fault::faulted,
    overflowed = sym crate::fault::overflowed,
    scheduled = sym crate::schedule::scheduled,
    called = sym crate::gateway::called,
);

global_asm!(include_str!(concat!(env!("OUT_DIR"), "/gateway.s")));
