//! What the compiler calls to move and clear memory, a few loops instead of the 4 KiB that are there to be fast.
//!
//! Names and registers are the run-time ABI's (Arm RTABI32 §4.3.4); r0 to r3, r12 and flags may be lost.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.memory, "ax"
    .macro entry name
    .global \name
    .thumb_func
    .type \name, %function
\name:
    .endm

    @ r0 to, r1 from, r2 bytes. Words while there are four bytes; the core reads and writes them at any address.
    entry memmove
    entry __aeabi_memmove
    entry __aeabi_memmove4
    entry __aeabi_memmove8
    subs r3, r0, r1
    cmp r3, r2
    blo 5f
    entry memcpy
    entry __aeabi_memcpy
    entry __aeabi_memcpy4
    entry __aeabi_memcpy8
    mov r12, r0
1:  subs r2, r2, #4
    blo 2f
    ldr r3, [r1], #4
    str r3, [r12], #4
    b 1b
2:  adds r2, r2, #4
3:  subs r2, r2, #1
    blo 4f
    ldrb r3, [r1], #1
    strb r3, [r12], #1
    b 3b
4:  bx lr
    @ The ranges overlap and `to` is behind: from the end on.
5:  subs r2, r2, #1
    blo 4b
    ldrb r3, [r1, r2]
    strb r3, [r0, r2]
    b 5b

    @ r0 to, r1 bytes.
    entry __aeabi_memclr
    entry __aeabi_memclr4
    entry __aeabi_memclr8
    movs r2, #0
    @ r0 to, r1 bytes, r2 value.
    entry __aeabi_memset
    entry __aeabi_memset4
    entry __aeabi_memset8
    mov r3, r1
    mov r1, r2
    mov r2, r3
    @ r0 to, r1 value, r2 bytes.
    entry memset
    mov r12, r0
    uxtb r1, r1
    orr r1, r1, r1, lsl #8
    orr r1, r1, r1, lsl #16
6:  subs r2, r2, #4
    blo 7f
    str r1, [r12], #4
    b 6b
7:  adds r2, r2, #4
8:  subs r2, r2, #1
    blo 4b
    strb r1, [r12], #1
    b 8b

    @ r0, r1 what to compare, r2 bytes.
    entry memcmp
    entry bcmp
    mov r12, r0
9:  subs r2, r2, #1
    blo 10f
    ldrb r0, [r12], #1
    ldrb r3, [r1], #1
    subs r0, r0, r3
    beq 9b
    bx lr
10: movs r0, #0
    bx lr
    .purgem entry
"#
);
