//! The application's memory, read and written for its calls: each byte once.
//!
//! Nothing else of the application's runs meanwhile, and no master but the processor reaches its memory. What is read is
//! judged after it was copied.

use core::arch::asm;

use abi::lent::Piece;

/// A structure, copied.
///
/// # Safety
/// `at` was judged for `T`, reading. Any bytes are a `T`.
pub(super) unsafe fn fetch<T: Copy>(at: u32) -> T {
    // SAFETY: the caller's; no Rust object of ours lies there.
    unsafe { (at as *const T).read_volatile() }
}

/// Writes a result.
///
/// # Safety
/// `at` was judged for `T`, writing.
pub(super) unsafe fn put<T>(at: u32, value: T) {
    // SAFETY: the caller's; no Rust object of ours lies there.
    unsafe { (at as *mut T).write_volatile(value) };
}

/// Fills `into` from the application's memory.
///
/// # Safety
/// As many bytes from `at` on were judged, reading.
pub(super) unsafe fn fetch_bytes(at: u32, into: &mut [u8]) {
    // SAFETY: the caller's, and all of `into`.
    unsafe { copy(at, into.as_mut_ptr() as u32, into.len() as u32) };
}

/// Copies from the application's memory to where it lent some.
///
/// # Safety
/// As many bytes from `from` on as the pieces have were judged, reading; the pieces, writing.
pub(super) unsafe fn lay(from: u32, pieces: [Piece; 2]) {
    let [head, tail] = pieces;
    // SAFETY: the caller's.
    unsafe { copy(from, head.at, head.bytes) };
    // SAFETY: the caller's.
    unsafe { copy(from + head.bytes, tail.at, tail.bytes) };
}

/// Copies words, aligned or not, with two instructions each: a call has to end within 100 us. The ranges may overlap; then what
/// comes out is the application's mess.
///
/// # Safety
/// Both ranges are memory, whole.
unsafe fn copy(mut from: u32, mut to: u32, bytes: u32) {
    let rounds = bytes / 16;
    if rounds > 0 {
        // SAFETY: within both ranges; the processor reads and writes unaligned words of memory.
        unsafe {
            asm!(
                "1:",
                "ldr {word}, [{from}], #4", "str {word}, [{to}], #4",
                "ldr {word}, [{from}], #4", "str {word}, [{to}], #4",
                "ldr {word}, [{from}], #4", "str {word}, [{to}], #4",
                "ldr {word}, [{from}], #4", "str {word}, [{to}], #4",
                "subs {rounds}, #1",
                "bne 1b",
                word = out(reg) _,
                from = inout(reg) from,
                to = inout(reg) to,
                rounds = inout(reg) rounds => _,
                options(nostack),
            );
        }
    }
    for _ in 0..bytes % 16 {
        // SAFETY: within both ranges.
        unsafe { (to as *mut u8).write_volatile((from as *const u8).read_volatile()) };
        (from, to) = (from + 1, to + 1);
    }
}
