//! From reset to Rust, and from Rust to the microvisor: what no language says.

use core::arch::{asm, global_asm};

use chip::map::secure::{BOOT_RAM_AT, BOOT_RAM_BYTES, MICROVISOR_AT, RAM_AT};
use gateway_core::boot::first::Entry;

/// Vector table offset register.
const VTOR: u32 = 0xe000_ed08;

// Nothing enables an interrupt here. A fault waits for the watchdog's reset. The watchdog's NMI is let pass: it says that half the
// time is over, which is no reason to stop. At 20 MHz a start takes some four seconds.
global_asm!(
    r#"
    .section .vectors, "a"
    .global VECTORS
VECTORS:
    .word _stack_top
    .word reset
    .word ignore
    .rept 13
    .word halt
    .endr

    .section .text.reset, "ax"
    .global reset
    .thumb_func
reset:
    ldr r0, =_stack_limit
    msr msplim, r0
    ldr r0, =_data_start
    ldr r1, =_data_end
    ldr r2, =_data_from
1:  cmp r0, r1
    bhs 2f
    ldr r3, [r2], #4
    str r3, [r0], #4
    b 1b
2:  ldr r0, =_bss_start
    ldr r1, =_bss_end
    movs r2, #0
3:  cmp r0, r1
    bhs 4f
    str r2, [r0], #4
    b 3b
4:  bl boot_main
    .thumb_func
halt:
    wfi
    b halt
    .thumb_func
ignore:
    bx lr
    .ltorg
"#
);

/// Leaves the machine to the microvisor: its vectors, its stack, no stage's data in RAM or registers.
pub(crate) fn microvisor(entry: Entry) -> ! {
    // SAFETY: `choose` verified the image that lies at MICROVISOR_AT and found the entry's stack in RAM and its code in
    // the image. Nothing of this stage is used after its RAM is cleared: the code below lives in registers alone.
    unsafe {
        (VTOR as *mut u32).write_volatile(MICROVISOR_AT);
        asm!(
            "dsb",
            "isb",
            "movs r2, #0",
            "msr msplim, r2",
            "mov sp, r0",
            "msr msplim, r5",
            "push {{r1}}",
            "2: cmp r3, r4",
            "bhs 3f",
            "str r2, [r3], #4",
            "b 2b",
            "3: mov r0, r2",
            "mov r1, r2",
            "mov r3, r2",
            "mov r4, r2",
            "mov r5, r2",
            "mov r6, r2",
            "mov r7, r2",
            "mov r8, r2",
            "mov r9, r2",
            "mov r10, r2",
            "mov r11, r2",
            "mov r12, r2",
            "msr apsr_nzcvq, r2",
            "mvn lr, r2",
            "pop {{pc}}",
            in("r0") entry.stack,
            in("r1") entry.code,
            in("r3") BOOT_RAM_AT,
            in("r4") BOOT_RAM_AT + BOOT_RAM_BYTES,
            in("r5") RAM_AT,
            options(noreturn),
        )
    }
}
