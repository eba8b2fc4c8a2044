//! One 32-bit register at a time.

/// Reads a register of this board.
pub(crate) fn read(at: u32) -> u32 {
    // SAFETY: every caller passes the address of a 32-bit register of `map`, which are aligned, always there, and read
    // without touching memory that Rust knows of.
    unsafe { (at as *const u32).read_volatile() }
}

/// Writes a register of this board.
pub(crate) fn write(at: u32, value: u32) {
    // SAFETY: as in `read`; none of these registers makes a device write to memory.
    unsafe { (at as *mut u32).write_volatile(value) }
}
