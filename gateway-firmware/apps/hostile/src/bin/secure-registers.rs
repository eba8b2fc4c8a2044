//! Writes the secure world's registers of the core: attribution, masks and vectors by their aliases.
#![no_std]
#![no_main]

use core::arch::asm;

use hostile::Attacker;
use hostile::processor::{SAU_CTRL, spin};

hostile::application!(attack);

/// SAU: control, region, base, limit, fault status and address.
const REGISTERS: [u32; 6] =
    [SAU_CTRL, SAU_CTRL + 8, SAU_CTRL + 12, SAU_CTRL + 16, SAU_CTRL + 20, SAU_CTRL + 24];

fn attack(it: &mut Attacker) {
    REGISTERS.iter().for_each(|at| it.ignored(*at, !0));
    REGISTERS.iter().for_each(|at| it.ignored(*at, 0));
    // By the alias that only the secure world has: VTOR, SHCSR.
    for at in [0xe002_ed08, 0xe002_ed24] {
        it.ignored(at, 0xffff_ff80);
    }
    let masks: u32;
    // SAFETY: registers that read as nothing here.
    unsafe {
        asm!(
            "msr msplim_ns, {0}", "msr primask_ns, {0}", "mrs {0}, msplim_ns",
            inout(reg) !0 => masks,
        )
    };
    if masks != 0 {
        it.breach(format_args!("a register by its other name reads {masks:08x}"));
        spin();
    }
}
