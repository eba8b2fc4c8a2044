/* Two exceptions that C cannot say: the first task's start, and the switch from one task's stack to another's. */
    .syntax unified
    .thumb
    .arch armv8-m.main

    /* Does not return: what it leaves on the main stack is given up. */
    .section .text.kernel_first, "ax", %progbits
    .global kernel_first
    .type kernel_first, %function
    .thumb_func
kernel_first:
    svc #0
    udf #0

    .section .text.SVC_Handler, "ax", %progbits
    .global SVC_Handler
    .type SVC_Handler, %function
    .thumb_func
SVC_Handler:
    ldr r0, =_stack_top
    msr msp, r0
    movs r0, #0
    b resume
    .ltorg

    .section .text.PendSV_Handler, "ax", %progbits
    .global PendSV_Handler
    .type PendSV_Handler, %function
    .thumb_func
PendSV_Handler:
    mrs r0, psp
    stmdb r0!, {r4-r11, lr}
resume:
    cpsid i
    bl kernel_switch
    cpsie i
    ldmia r0!, {r4-r11, lr}
    msr psp, r0
    bx lr
