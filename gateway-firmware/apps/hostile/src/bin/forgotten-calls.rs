//! Interrupts its calls and never goes back to them, until the stack they are on is full: its handlers lie about what they
//! interrupted.
#![no_std]
#![no_main]

use core::arch::global_asm;

use hostile::Attacker;
use hostile::processor::{ICSR, PENDSVSET, SHPR3, set, sys_tick};
use hostile::vectors;

hostile::application!(attack);

const NO_OP: u32 = 27;

global_asm!(
    r#"
    .section .text.forgotten,"ax",%progbits
    @ A call it interrupted it forgets: back to whoever makes calls, without this one. PendSV makes them, too.
    .global forgotten_lies
    .thumb_func
    forgotten_lies:
        mrs r0, ipsr
        cmp r0, #14
        beq forgotten_again
        tst lr, #0x40
        beq 2f
        sub sp, #32
        ldr r0, =forgotten_again
        str r0, [sp, #24]
        tst lr, #8
        ite eq
        ldreq r1, =0x0100000E
        ldrne r1, =0x01000000
        str r1, [sp, #28]
        ite eq
        ldreq lr, =0xFFFFFFB0
        ldrne lr, =0xFFFFFFB8
    2:  bx lr

    .global forgotten_again
    .thumb_func
    forgotten_again:
        ldr r4, ={no_op}
        blx r4
        b forgotten_again
    .ltorg
    "#,
    no_op = const holdfast::raw::GATEWAY_AT + 8 * NO_OP + 1,
);

unsafe extern "C" {
    safe fn forgotten_lies();
    safe fn forgotten_again();
}

fn attack(it: &mut Attacker) {
    vectors::all(forgotten_lies);
    // PendSV is the least urgent, SysTick the most.
    set(SHPR3, 0x00e0_0000);
    sys_tick(307);
    if it.start() % 2 == 1 {
        set(ICSR, PENDSVSET);
    }
    forgotten_again();
}
