//! The flash: a file behind QEMU's `mps.ram`, with the manners of a NOR part, in windows that do not overlap.
//!
//! An erase clears 4 KiB to 0xFF, a write only clears bits and refuses to do otherwise, and whoever holds a window reaches
//! nothing outside it. Provisioning has no window: nothing here can write there.
//!
//! Two functions change cells, and nothing else does: [`holdfast_flash_program`] and [`holdfast_flash_erase`]. They are symbols
//! of every image that changes flash, so that a test can stop the machine there and let the power fail.

use gateway_core::ports::{Flash, FlashError, Geometry};

use crate::map::flash as at;

// What the core wants of it; `map` is read by build scripts, which know no core.
const _: () = assert!(at::CRASH_BYTES == gateway_core::crash::region_bytes(at::ERASE_BYTES));

/// One region of the flash, from its own offset 0.
#[derive(Debug)]
pub struct Window {
    start: u32,
    bytes: u32,
}

impl Window {
    /// The first stage's record.
    pub const fn boot_record() -> Window {
        Window { start: at::BOOT_RECORD, bytes: at::BOOT_RECORD_BYTES }
    }

    /// The monotonic counter.
    pub const fn counter() -> Window {
        Window { start: at::COUNTER, bytes: at::COUNTER_BYTES }
    }

    /// The identity key.
    pub const fn identity() -> Window {
        Window { start: at::IDENTITY, bytes: at::IDENTITY_BYTES }
    }

    /// One of the microvisor's slots: 0 or 1.
    pub const fn slot(index: usize) -> Window {
        Window { start: at::SLOTS[index & 1], bytes: at::SLOT_BYTES }
    }

    /// Both of the microvisor's slots, one after the other.
    pub const fn slots() -> Window {
        Window { start: at::SLOTS[0], bytes: 2 * at::SLOT_BYTES }
    }

    /// The store flash.
    pub const fn store() -> Window {
        Window { start: at::STORE, bytes: at::STORE_BYTES }
    }

    /// What is kept of an application's memory when it crashes.
    pub const fn crash() -> Window {
        Window { start: at::CRASH, bytes: at::CRASH_BYTES }
    }

    /// The address of so many bytes, if all of them are in the window.
    fn address(&self, at: u32, bytes: usize) -> Result<usize, FlashError> {
        let bytes = u32::try_from(bytes).map_err(|_| FlashError::Range)?;
        match at.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok((at::AT + self.start + at) as usize),
            _ => Err(FlashError::Range),
        }
    }
}

impl Flash for Window {
    fn geometry(&self) -> Geometry {
        Geometry { bytes: self.bytes, erase_bytes: at::ERASE_BYTES, write_bytes: 1, write_once: false }
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let from = self.address(at, into.len())? as *const u8;
        // SAFETY: `address` found the whole range in this window of the flash, which is always mapped and which no Rust
        // reference points into; `into` is elsewhere, since nothing hands out flash as `&mut`.
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let to = self.address(at, bytes.len())? as *mut u8;
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: within the range that `address` checked; see `read`.
            let cell = unsafe { to.add(index).read_volatile() };
            if cell & byte != *byte {
                return Err(FlashError::NotBlank);
            }
        }
        // SAFETY: as in `read`, the other way round. Every bit set in `bytes` is set in the cells, so this only clears.
        unsafe { holdfast_flash_program(to, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn erase(&mut self, at: u32) -> Result<(), FlashError> {
        if !at.is_multiple_of(at::ERASE_BYTES) {
            return Err(FlashError::Range);
        }
        let to = self.address(at, at::ERASE_BYTES as usize)? as *mut u8;
        // SAFETY: `address` checked the whole unit; see `read`.
        unsafe { holdfast_flash_erase(to) };
        Ok(())
    }
}

/// Programs cells. Its name and its arguments are what `tests/src/an505/power` stops at.
///
/// # Safety
///
/// `to` is the address of `bytes` cells of one window, and every bit set at `from` is set in them.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn holdfast_flash_program(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the caller's promise; no Rust reference points into the flash.
    unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
}

/// Erases one unit; as [`holdfast_flash_program`].
///
/// # Safety
///
/// `unit` is the address of an erase unit that one window has whole.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn holdfast_flash_erase(unit: *mut u8) {
    // SAFETY: the caller's promise; no Rust reference points into the flash.
    unsafe { core::ptr::write_bytes(unit, 0xff, at::ERASE_BYTES as usize) };
}

/// What the factory wrote.
pub fn provision() -> &'static [u8] {
    // SAFETY: always mapped, and no window covers it, so that nothing on this machine ever changes it.
    unsafe {
        core::slice::from_raw_parts((at::AT + at::PROVISION) as *const u8, at::PROVISION_BYTES as usize)
    }
}
