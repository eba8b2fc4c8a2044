//! What is not an application's, by every address it could be reached at.

pub use crate::map::{app, flash, irq, register, secure};

/// Bit 28 of an address says Secure: a memory's or peripheral's other alias is without it.
const OTHER: u32 = 0x1000_0000;

/// Memory.
pub const MEMORY: [u32; 18] = [
    secure::RAM_AT,
    secure::RAM_AT - OTHER,
    secure::MICROVISOR_AT + 0x1000,
    secure::MICROVISOR_AT - OTHER + 0x1000,
    flash::AT + flash::IDENTITY,
    app::RAM_AT + app::RAM_BYTES,
    app::RAM_AT + OTHER,
    secure::KEPT_AT,
    secure::KEPT_AT - OTHER,
    secure::GATEWAY_AT,
    secure::BOOT_AT + 0x100,
    secure::BOOT_AT - OTHER + 0x100,
    secure::BOOT_RAM_AT,
    flash::AT + flash::PROVISION,
    flash::AT + flash::STORE,
    flash::AT + flash::BOOT_RECORD,
    flash::AT + flash::COUNTER,
    app::RAM_AT + app::RAM_SAU_BYTES,
];

/// Peripherals.
pub const PERIPHERALS: [u32; 14] = [
    register::UART_CONSOLE - OTHER,
    register::LAN9118 - OTHER,
    register::UART_ENTROPY - OTHER,
    register::SECURITY + 0x10,
    register::MPC_APP_RAM,
    register::WATCHDOG,
    register::DUAL_TIMER - OTHER,
    register::FPGAIO - OTHER,
    register::UART_CONSOLE,
    register::LAN9118,
    register::MPC_CODE,
    register::MPC_SECURE_RAM,
    register::SECURITY - OTHER + 0x10,
    register::DUAL_TIMER,
];

/// The watchdog of the non-secure world, which resets the machine.
pub const NS_WATCHDOG: u32 = 0x4008_1000;
/// The DMA controllers (PL081), a page each, by their non-secure alias.
pub const DMA: [u32; 4] = [0x4011_0000, 0x4011_1000, 0x4011_2000, 0x4011_3000];
