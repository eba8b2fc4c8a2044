//! The System Control Block: faults, priorities, reset, and the application's half of it.

use crate::mmio::{read, write};

const ICSR: u32 = 0xE000_ED04;
const VTOR: u32 = 0xE000_ED08;
const AIRCR: u32 = 0xE000_ED0C;
const SCR: u32 = 0xE000_ED10;
const CCR: u32 = 0xE000_ED14;
/// STKALIGN, which is always one.
const CCR_AT_RESET: u32 = 1 << 9;
const SHPR3: u32 = 0xE000_ED20;
const SHCSR: u32 = 0xE000_ED24;
const CFSR: u32 = 0xE000_ED28;
const HFSR: u32 = 0xE000_ED2C;
const MMFAR: u32 = 0xE000_ED34;
const MMARVALID: u32 = 1 << 7;
const BFAR: u32 = 0xE000_ED38;
const CPACR: u32 = 0xE000_ED88;
const NSACR: u32 = 0xE000_ED8C;
const SFSR: u32 = 0xE000_EDE4;
const SFAR: u32 = 0xE000_EDE8;
const NS: u32 = 0x2_0000;
const MPU_TYPE_NS: u32 = 0xE000_ED90 + NS;
const MPU_CTRL_NS: u32 = 0xE000_ED94 + NS;
const MPU_RNR_NS: u32 = 0xE000_ED98 + NS;
const MPU_RLAR_NS: u32 = 0xE000_EDA0 + NS;

const VECTKEY: u32 = 0x05FA << 16;
const PRIS: u32 = 1 << 14;
const SYSRESETREQS: u32 = 1 << 3;
const SLEEPDEEPS: u32 = 1 << 3;
const PENDSVSET: u32 = 1 << 28;
const PENDSVCLR: u32 = 1 << 27;
const PENDSTCLR: u32 = 1 << 25;
/// SecureFault, UsageFault, BusFault and MemManage.
const FAULTS: u32 = 0xF << 16;

/// Puts the secure world above the other: every interrupt of the application's is less urgent than any of ours, hard and
/// bus faults come to us, only we reset and choose deep sleep, and the FPU is off for both.
pub fn raise(priority: u8) {
    write(AIRCR, VECTKEY | PRIS | SYSRESETREQS);
    write(SCR, SLEEPDEEPS);
    write(NSACR, 0);
    write(CPACR, 0);
    write(SHCSR, read(SHCSR) | FAULTS);
    write(SHPR3, u32::from(priority) << 24 | u32::from(priority) << 16);
    crate::special::barrier();
}

/// Where the secure world's vectors are.
pub fn set_vectors(at: u32) {
    write(VTOR, at);
    crate::special::barrier();
}

/// Has PendSV taken as soon as nothing more urgent runs.
pub fn pend_switch() {
    write(ICSR, PENDSVSET);
    crate::special::barrier();
}

/// What the fault registers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    pub cfsr: u32,
    pub hfsr: u32,
    pub sfsr: u32,
    pub mmfar: u32,
    pub bfar: u32,
    pub sfar: u32,
    /// The application's own.
    pub cfsr_ns: u32,
}

impl Faults {
    /// Reads them.
    pub fn seen() -> Faults {
        Faults {
            cfsr: read(CFSR),
            hfsr: read(HFSR),
            sfsr: read(SFSR),
            // The application's, if it is the one that says where.
            mmfar: read(if read(CFSR + NS) & MMARVALID == 0 { MMFAR } else { MMFAR + NS }),
            bfar: read(BFAR),
            sfar: read(SFAR),
            cfsr_ns: read(CFSR + NS),
        }
    }

    /// Reads them, and clears what is set.
    pub fn take() -> Faults {
        let faults = Faults::seen();
        write(CFSR, faults.cfsr);
        write(HFSR, faults.hfsr);
        write(SFSR, faults.sfsr);
        write(CFSR + NS, faults.cfsr_ns);
        faults
    }
}

/// Forgets what the hard fault under way was for; what the application's own registers say stays as it is.
pub fn forget_hard_fault() {
    write(HFSR, read(HFSR));
}

/// Forgets faults of ours that wait: what one instruction of the application's did wrong may be several, of which the most
/// urgent is taken first.
pub fn forget_waiting_faults() {
    const WAITING: u32 = 0b11 << 20 | 0b111 << 12;
    write(SHCSR, read(SHCSR) & !WAITING);
    crate::special::barrier();
}

/// Forgets everything of the application's that the core holds: what is active or waits, priorities, sleep, traps, its MPU;
/// its vectors are at `vectors` again. Its SysTick is not reached from here (QEMU 7.2 refuses the alias).
pub fn reset_app(vectors: u32) {
    write(SHCSR + NS, 0);
    write(ICSR + NS, PENDSTCLR | PENDSVCLR);
    for word in 0..3 {
        write(SHPR3 - 8 + NS + 4 * word, 0);
    }
    write(SCR + NS, 0);
    write(AIRCR + NS, VECTKEY);
    write(MPU_CTRL_NS, 0);
    for region in 0..read(MPU_TYPE_NS) >> 8 & 0xff {
        write(MPU_RNR_NS, region);
        write(MPU_RLAR_NS, 0);
    }
    write(CCR + NS, CCR_AT_RESET);
    write(CPACR + NS, 0);
    write(VTOR + NS, vectors);
    Faults::take();
    crate::special::barrier();
}

/// A handler of the secure world's system exceptions, faults excepted, is under way.
pub fn handler_under_way() -> bool {
    const SVCALL: u32 = 1 << 7;
    const PENDSV: u32 = 1 << 10;
    const SYSTICK: u32 = 1 << 11;
    read(SHCSR) & (SVCALL | PENDSV | SYSTICK) != 0
}

/// The application has its MPU on.
pub fn app_mpu_on() -> bool {
    read(MPU_CTRL_NS) & 1 != 0
}
