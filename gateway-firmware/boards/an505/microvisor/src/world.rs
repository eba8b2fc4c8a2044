//! The walls: raised once, before anything of the application's is in memory.
//!
//! Four of them stand behind each other, since none sees everything: the SAU (what the processor lets the application
//! at), MPCs (blocks of memory), PPCs (peripherals), MSCs (masters other than the processor). What is not given here is
//! not the application's.

use abi::Region;
use chip::map::{app, irq, register, secure};
use chip::mpc::Mpc;
use chip::{nvic, ppc, sau, scb};

/// Priority of every interrupt of ours that decides who runs. They share one, so that none interrupts another.
pub(crate) const PRIORITY: u8 = 0x20;
/// BASEPRI while the application must not be interrupted into: with PRIS its most urgent interrupt has this priority.
pub(crate) const NO_APP_INTERRUPTS: u32 = 0x80;

/// Memory an application may hand over. The peripherals and the stub block are reached by it, but are no memory.
pub const REGIONS: [Region; 2] = [
    Region { at: app::CODE_AT, bytes: app::CODE_BYTES, write: false },
    Region { at: app::RAM_AT, bytes: app::RAM_BYTES, write: true },
];

const ATTRIBUTION: [sau::Region; 5] = [
    open(app::CODE_AT, app::CODE_BYTES + app::STUB_BYTES),
    open(app::RAM_AT, app::RAM_SAU_BYTES),
    open(app::TIMERS_AT, app::TIMERS_BYTES),
    open(app::UART_AT, app::UART_BYTES),
    sau::Region { at: secure::GATEWAY_AT, bytes: secure::GATEWAY_BYTES, callable: true },
];

const fn open(at: u32, bytes: u32) -> sau::Region {
    sau::Region { at, bytes, callable: false }
}

/// Where a memory begins by its non-secure alias: an MPC counts from there.
const APP_RAM_MEMORY_AT: u32 = 0x2820_0000;

/// Raises them.
pub fn raise() {
    scb::raise(PRIORITY);
    nvic::give(&irq::APP);
    nvic::prioritise(irq::LAN9118, PRIORITY);
    Mpc(register::MPC_CODE).open(app::CODE_AT, app::CODE_BYTES + app::STUB_BYTES);
    Mpc(register::MPC_SECURE_RAM).open(0, 0);
    Mpc(register::MPC_APP_RAM).open(app::RAM_AT - APP_RAM_MEMORY_AT, app::RAM_BYTES);
    ppc::give();
    // Last: until here everything is secure for the processor.
    if !sau::set(&ATTRIBUTION) {
        crate::fault::die(crate::fault::Death::Walls);
    }
}
