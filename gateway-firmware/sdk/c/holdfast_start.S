/*
 * Vectors and the start before main. An application that brings its own leaves this file out.
 *
 * Handlers have the names of CMSIS; what is not defined ends the application, and the microvisor notes where.
 */
    .syntax unified
    .thumb
    .arch armv8-m.main

    .macro handler name
    .weak \name
    .set \name, holdfast_default
    .endm

    handler MemManage_Handler
    handler UsageFault_Handler
    handler SVC_Handler
    handler PendSV_Handler
    handler SysTick_Handler
    handler TIMER0_Handler
    handler TIMER1_Handler
    handler UARTRX1_Handler
    handler UARTTX1_Handler
    handler UARTOVF_Handler
    handler NOTIFICATION0_Handler
    handler NOTIFICATION1_Handler
    handler NOTIFICATION2_Handler
    handler NOTIFICATION3_Handler
    handler NOTIFICATION4_Handler
    handler NOTIFICATION5_Handler
    handler NOTIFICATION6_Handler
    handler NOTIFICATION7_Handler

    .section .vectors, "a", %progbits
    .global HOLDFAST_VECTORS
    .type HOLDFAST_VECTORS, %object
HOLDFAST_VECTORS:
    .word _stack_top
    .word holdfast_reset
    .word holdfast_default          @ NMI and HardFault are never the application's
    .word holdfast_default
    .word MemManage_Handler
    .word holdfast_default          @ nor is BusFault
    .word UsageFault_Handler
    .word holdfast_default, 0, 0, 0
    .word SVC_Handler
    .word holdfast_default, 0
    .word PendSV_Handler
    .word SysTick_Handler
    .rept 3                         @ interrupts 0 to 2
    .word holdfast_default
    .endr
    .word TIMER0_Handler            @ 3
    .word TIMER1_Handler            @ 4
    .rept 29
    .word holdfast_default
    .endr
    .word UARTRX1_Handler           @ 34
    .word UARTTX1_Handler           @ 35
    .rept 7
    .word holdfast_default
    .endr
    .word UARTOVF_Handler           @ 43
    .rept 20
    .word holdfast_default
    .endr
    .word NOTIFICATION0_Handler     @ 64: MV_IRQ_NOTIFICATION_FIRST
    .word NOTIFICATION1_Handler
    .word NOTIFICATION2_Handler
    .word NOTIFICATION3_Handler
    .word NOTIFICATION4_Handler
    .word NOTIFICATION5_Handler
    .word NOTIFICATION6_Handler
    .word NOTIFICATION7_Handler     @ 71
    .rept 52
    .word holdfast_default
    .endr
    .size HOLDFAST_VECTORS, . - HOLDFAST_VECTORS

    .section .text.holdfast_reset, "ax", %progbits
    .global holdfast_reset
    .type holdfast_reset, %function
    .thumb_func
holdfast_reset:
    ldr r0, =_data
    ldr r1, =_data_end
    ldr r2, =_data_image
1:  cmp r0, r1
    bhs 2f
    ldr r3, [r2], #4
    str r3, [r0], #4
    b 1b
2:  ldr r0, =_bss
    ldr r1, =_bss_end
    movs r2, #0
3:  cmp r0, r1
    bhs 4f
    str r2, [r0], #4
    b 3b
4:  bl main
    udf #0                          @ main does not return
    .ltorg
    .size holdfast_reset, . - holdfast_reset

    .section .text.holdfast_default, "ax", %progbits
    .type holdfast_default, %function
    .thumb_func
holdfast_default:
    udf #1
    .size holdfast_default, . - holdfast_default
