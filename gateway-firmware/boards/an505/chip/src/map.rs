//! Where everything is. Every address of this board is here and nowhere else.
//!
//! Bit 28 of an address says Secure (the IDAU): a memory has an alias in both worlds, and its MPC says, block by block,
//! through which of the two it may be reached. `mps.ram`, the "flash", has no MPC and no secure alias: no SAU region
//! covers it, so that it is Secure for the processor.

/// Memory as the secure world sees it.
pub mod secure {
    /// The first stage: vectors and code. On this board it is loaded here as a ROM would be.
    pub const BOOT_AT: u32 = 0x1000_0000;
    /// Bytes of the first stage, at most: docs/performance.md.
    pub const BOOT_BYTES: u32 = 48 * 1024;
    /// Where the first stage puts the microvisor, measures it, and jumps to.
    pub const MICROVISOR_AT: u32 = 0x1001_0000;
    /// Bytes of the microvisor's image, at most.
    pub const MICROVISOR_BYTES: u32 = 576 * 1024;
    /// The gateway page, in the microvisor's image: 8 bytes a slot. It never moves; applications call these addresses.
    pub const GATEWAY_AT: u32 = 0x1001_0400;
    /// Bytes of the gateway page: 256 slots.
    pub const GATEWAY_BYTES: u32 = 2048;

    /// All RAM of the microvisor: data, heap and stacks; with what is kept, 224 KiB (docs/performance.md).
    pub const RAM_AT: u32 = 0x3800_0000;
    /// Bytes of it.
    pub const RAM_BYTES: u32 = 213 * 1024;
    /// What survives a warm reset, and what the first stage tells the microvisor. Neither stage clears it.
    pub const KEPT_AT: u32 = RAM_AT + RAM_BYTES;
    /// Bytes of it.
    pub const KEPT_BYTES: u32 = 11 * 1024;
    /// Why the last reset was: two words, `gateway_core::boot::first::cause`.
    pub const KEPT_CAUSE_AT: u32 = KEPT_AT;
    /// What the first stage tells the microvisor: `gateway_core::boot::first::Handover`.
    pub const KEPT_HANDOVER_AT: u32 = KEPT_AT + 64;
    /// How the microvisor ended, when it ended by a fault: `kept::DEATH_WORDS` words.
    pub const KEPT_DEATH_AT: u32 = KEPT_AT + 256;
    /// Two pieces for log records.
    pub const KEPT_LOGS_AT: u32 = KEPT_AT + 512;
    /// Bytes of one.
    pub const KEPT_LOG_BYTES: u32 = 5 * 1024;

    const _: () = assert!(KEPT_LOGS_AT + 2 * KEPT_LOG_BYTES <= KEPT_AT + KEPT_BYTES);
    /// RAM of the first stage. The microvisor does not use it.
    pub const BOOT_RAM_AT: u32 = 0x3804_0000;
    /// Bytes of it.
    pub const BOOT_RAM_BYTES: u32 = 64 * 1024;
}

/// Memory of the application, by its non-secure alias.
pub mod app {
    /// Code: vectors first.
    pub const CODE_AT: u32 = 0x0020_0000;
    /// Bytes of code, the stub block excluded: the ancestor's budget.
    pub const CODE_BYTES: u32 = 1024 * 1024;
    /// One block after the code where the microvisor puts the few instructions that must run in the application's
    /// world. An application may spoil them; they are written anew before every use.
    pub const STUB_AT: u32 = CODE_AT + CODE_BYTES;
    /// Bytes of it.
    pub const STUB_BYTES: u32 = 1024;
    /// RAM.
    pub const RAM_AT: u32 = 0x2820_0000;
    /// Bytes of it: the ancestor's budget.
    pub const RAM_BYTES: u32 = 512 * 1024;
    /// Bytes after `RAM_AT` that the SAU calls non-secure; beyond `RAM_BYTES` the MPC keeps them from the application.
    pub const RAM_SAU_BYTES: u32 = 1024 * 1024;
    /// CMSDK timers 0 and 1, a page each, as the application addresses them.
    pub const TIMERS_AT: u32 = 0x4000_0000;
    /// Bytes of both.
    pub const TIMERS_BYTES: u32 = 0x2000;
    /// The application's UART: UART1. With the timers these are all the peripherals it has; whatever else lies at
    /// non-secure addresses (DMA controllers and the non-secure watchdog among it) no SAU region covers.
    pub const UART_AT: u32 = 0x4020_1000;
    /// Bytes of it.
    pub const UART_BYTES: u32 = 0x1000;
}

/// The flash. The first two MiB stand for a microcontroller's own, what follows for a store flash beside it.
pub mod flash {
    /// Where it is.
    pub const AT: u32 = 0x8000_0000;
    /// Bytes of the whole part: QEMU insists.
    pub const BYTES: u32 = 16 * 1024 * 1024;
    /// Smallest unit an erase clears.
    pub const ERASE_BYTES: u32 = 4096;

    // Offsets from `AT`. Everything up to `STORE` fits into 2 MiB, with the first stage.

    /// What the factory wrote: hardware id, roots, claim. No firmware writes here.
    pub const PROVISION: u32 = 0xC000;
    /// Bytes of it.
    pub const PROVISION_BYTES: u32 = 16 * 1024;
    /// The first stage's own record: two erase units.
    pub const BOOT_RECORD: u32 = 0x1_0000;
    /// Bytes of it.
    pub const BOOT_RECORD_BYTES: u32 = 2 * ERASE_BYTES;
    /// The monotonic counter: two erase units.
    pub const COUNTER: u32 = 0x1_2000;
    /// Bytes of it.
    pub const COUNTER_BYTES: u32 = 2 * ERASE_BYTES;
    /// The identity key: two copies, an erase unit each.
    pub const IDENTITY: u32 = 0x1_4000;
    /// Bytes of it.
    pub const IDENTITY_BYTES: u32 = 2 * ERASE_BYTES;

    /// The microvisor's slots.
    pub const SLOTS: [u32; 2] = [0x1_8000, 0x1_8000 + SLOT_BYTES];
    /// Bytes of one: the keyset that vouches for it, its envelope, its image.
    pub const SLOT_BYTES: u32 = SLOT_IMAGE + super::secure::MICROVISOR_BYTES;
    /// The keyset's offset in a slot.
    pub const SLOT_KEYSET: u32 = 0;
    /// The envelope's offset in a slot.
    pub const SLOT_ENVELOPE: u32 = 4096;
    /// The image's offset in a slot.
    pub const SLOT_IMAGE: u32 = 3 * 4096;

    /// The store flash: the core's journal and the application's slots.
    pub const STORE: u32 = 0x20_0000;
    /// Bytes of it: two banks of journal, and two slots of an envelope and an area as large as the application's code.
    pub const STORE_BYTES: u32 = 2 * 16 * 1024 + 2 * (8 * 1024 + super::app::CODE_BYTES);

    /// What is kept of an application's memory when it crashes, behind the store.
    pub const CRASH: u32 = STORE + STORE_BYTES;
    /// Bytes of it: a record and a head in three erase units, and what is kept.
    pub const CRASH_BYTES: u32 = 3 * ERASE_BYTES + 64 * 1024;

    const _: () = assert!(SLOTS[1] == SLOTS[0] + SLOT_BYTES);
    const _: () = assert!(SLOTS[1] + SLOT_BYTES <= STORE && CRASH + CRASH_BYTES <= BYTES);
    const _: () = assert!(CRASH.is_multiple_of(ERASE_BYTES));
}

/// Registers, by the alias the secure world uses.
pub mod register {
    /// CMSDK dual timer.
    pub const DUAL_TIMER: u32 = 0x5000_2000;
    /// Secure watchdog.
    pub const WATCHDOG: u32 = 0x5008_1000;
    /// Security controls of the SSE-200: PPCs, NSC, bus errors.
    pub const SECURITY: u32 = 0x5008_0000;
    /// Console of the secure world.
    pub const UART_CONSOLE: u32 = 0x5020_0000;
    /// UART of the application, by the non-secure alias.
    pub const UART_APP: u32 = super::app::UART_AT;
    /// UART whose other end gives randomness.
    pub const UART_ENTROPY: u32 = 0x5020_2000;
    /// FPGA I/O: microsecond counter.
    pub const FPGAIO: u32 = 0x5030_2000;
    /// LAN9118 Ethernet controller.
    pub const LAN9118: u32 = 0x5200_0000;
    /// MPC of SSRAM-0: code.
    pub const MPC_CODE: u32 = 0x5800_7000;
    /// MPC of SSRAM-1: secure RAM.
    pub const MPC_SECURE_RAM: u32 = 0x5800_8000;
    /// MPC of SSRAM-2: the application's RAM.
    pub const MPC_APP_RAM: u32 = 0x5800_9000;
}

/// Interrupt numbers (exception number less 16).
pub mod irq {
    /// CMSDK timer 0: the application's.
    pub const TIMER0: u32 = 3;
    /// CMSDK timer 1: the application's.
    pub const TIMER1: u32 = 4;
    /// UART1: receives, sends, overruns. The application's.
    pub const UART_APP: [u32; 3] = [34, 35, 43];
    /// LAN9118.
    pub const LAN9118: u32 = 48;
    /// Lines that nothing drives, for notifications: those of DMA controllers that nobody is let at, and of GPIO that is not there.
    pub const SPARE: [u32; 8] = [64, 65, 66, 67, 68, 69, 70, 71];
    /// All of the application's.
    pub const APP: [u32; 13] = [3, 4, 34, 35, 43, 64, 65, 66, 67, 68, 69, 70, 71];
    /// How many there are.
    pub const COUNT: u32 = 124;
}

/// Cycles of the system clock a second.
pub const CLOCK_HZ: u32 = 20_000_000;
