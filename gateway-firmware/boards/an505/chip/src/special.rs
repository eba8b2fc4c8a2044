//! Special registers of the core, and what only an instruction can do.
//!
//! `_NS` registers are the application's, `_S` the secure world's. Setting one of the latter changes what the code that
//! does it runs on: such functions are unsafe.

use core::arch::asm;

macro_rules! reads {
    ($($name:ident = $register:literal),* $(,)?) => {$(
        #[doc = concat!("Reads `", $register, "`.")]
        #[inline(always)]
        pub fn $name() -> u32 {
            let value;
            // SAFETY: reading it has no effect.
            unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}

macro_rules! sets {
    ($($name:ident = $register:literal),* $(,)?) => {$(
        #[doc = concat!("Sets `", $register, "`.")]
        #[inline(always)]
        pub fn $name(value: u32) {
            // SAFETY: a register of the application's world: no Rust code runs on what it governs.
            unsafe { asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) };
        }
    )*};
}

macro_rules! changes {
    ($($name:ident = $register:literal),* $(,)?) => {$(
        #[doc = concat!("Sets `", $register, "`.")]
        ///
        /// # Safety
        ///
        /// The caller runs on nothing that the register governs, or the value keeps it good.
        #[inline(always)]
        pub unsafe fn $name(value: u32) {
            // SAFETY: the caller's.
            unsafe { asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    )*};
}

reads! {
    ipsr = "ipsr",
    primask = "primask",
    basepri = "basepri",
    psp = "psp",
    psplim = "psplim",
    msp_ns = "msp_ns",
    psp_ns = "psp_ns",
    msplim_ns = "msplim_ns",
    psplim_ns = "psplim_ns",
    control_ns = "control_ns",
    primask_ns = "primask_ns",
    faultmask_ns = "faultmask_ns",
    basepri_ns = "basepri_ns",
}

sets! {
    set_msp_ns = "msp_ns",
    set_psp_ns = "psp_ns",
    set_msplim_ns = "msplim_ns",
    set_psplim_ns = "psplim_ns",
    set_control_ns = "control_ns",
    set_primask_ns = "primask_ns",
    set_faultmask_ns = "faultmask_ns",
    set_basepri_ns = "basepri_ns",
}

changes! {
    set_psp = "psp",
    set_psplim = "psplim",
    set_msp = "msp",
    set_basepri = "basepri",
}

/// Everything before is done, and is in force for what follows.
#[inline(always)]
pub fn barrier() {
    // SAFETY: barriers touch nothing.
    unsafe { asm!("dsb", "isb", options(nostack, preserves_flags)) };
}

/// Runs `f` while no exception of either world is taken, faults excepted.
#[inline(always)]
pub fn undisturbed<R>(f: impl FnOnce() -> R) -> R {
    let before = primask();
    // SAFETY: masks exceptions; what was masked before stays so below. Memory accesses are not moved across.
    unsafe { asm!("cpsid i", options(nostack, preserves_flags)) };
    let result = f();
    // SAFETY: puts back what was.
    unsafe { asm!("msr primask, {}", in(reg) before, options(nostack, preserves_flags)) };
    result
}

/// Waits for an exception, masked ones included.
#[inline(always)]
pub fn wait() {
    // SAFETY: has no effect but time; handlers may write memory meanwhile, which the missing `nomem` says.
    unsafe { asm!("dsb", "wfi", options(nostack, preserves_flags)) };
}
