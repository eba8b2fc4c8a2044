//! Vectors, the start before `main`, and the end by a panic.

use core::arch::global_asm;

/// Names the function an application begins with: `fn() -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn holdfast_main() -> ! {
            let main: fn() -> ! = $main;
            main()
        }
    };
}

/// Names a function as the handler of an exception: `sys_tick`, `timer0`, `timer1`, `pend_sv`, `sv_call`, `mem_manage`,
/// `usage_fault`, `uart_receive`, `uart_send`, `uart_overrun`, or `notification0` to `notification7`.
#[macro_export]
macro_rules! handler {
    ($exception:ident, $handler:path) => {
        const _: () = {
            #[unsafe(export_name = stringify!($exception))]
            extern "C" fn exception() {
                let handler: fn() = $handler;
                handler()
            }
        };
    };
}

global_asm!(
    r#"
    .section .vectors,"a",%progbits
    .global HOLDFAST_VECTORS
    HOLDFAST_VECTORS:
        .word _stack_top
        .word holdfast_reset
        .word holdfast_default       @ NMI, HardFault: never ours
        .word holdfast_default
        .word mem_manage
        .word holdfast_default       @ BusFault: never ours
        .word usage_fault
        .word holdfast_default, 0, 0, 0
        .word sv_call
        .word holdfast_default, 0
        .word pend_sv
        .word sys_tick
    .set irq, 0
    .rept 117                    @ 124 interrupts, eight of them in one turn
        .if irq == 3
        .word timer0
        .elseif irq == 4
        .word timer1
        .elseif irq == 34
        .word uart_receive
        .elseif irq == 35
        .word uart_send
        .elseif irq == 43
        .word uart_overrun
        .elseif irq == 64
        .word notification0, notification1, notification2, notification3
        .word notification4, notification5, notification6, notification7
        .set irq, irq + 7
        .else
        .word holdfast_default
        .endif
        .set irq, irq + 1
    .endr

    .section .text.holdfast_reset,"ax",%progbits
    .global holdfast_reset
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
    4:  bl holdfast_main
        udf #0
    .ltorg

    @ An exception nobody handles ends the application: the microvisor notes where.
    .section .text.holdfast_default,"ax",%progbits
    .global holdfast_default
    .thumb_func
    holdfast_default:
        udf #1
    "#
);

/// Says where and why, then ends the application by a fault, which the microvisor notes.
#[cfg(feature = "panic")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    use core::fmt::Write as _;

    let mut line = crate::board::Line::<256>::new();
    let _ = write!(line, "{info}");
    let _ = crate::log(line.as_str());
    // SAFETY: ends here.
    unsafe { core::arch::asm!("udf #2", options(noreturn)) }
}
