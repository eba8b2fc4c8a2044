//! The application's memory, read and written for its calls: each byte once.
//!
//! Nothing else of the application's runs meanwhile, and no master but the processor reaches its memory. What is read is
//! judged after it was copied.

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

/// Copies words, aligned or not, four at a time: a call has to end within 100 us, and `memcpy` takes an instruction and a half
/// more for each where the two are not aligned alike. They may overlap; then what comes out is the application's mess.
///
/// # Safety
/// Both ranges are memory, whole.
unsafe fn copy(from: u32, to: u32, bytes: u32) {
    let word = |offset: u32| {
        let (from, to) = ((from + offset) as *const u32, (to + offset) as *mut u32);
        // SAFETY: within both ranges; the processor reads and writes unaligned words of memory.
        unsafe { to.write_unaligned(from.read_unaligned()) };
    };
    let mut offset = 0;
    while bytes - offset >= 16 {
        word(offset);
        word(offset + 4);
        word(offset + 8);
        word(offset + 12);
        offset += 16;
    }
    while offset < bytes {
        let (from, to) = ((from + offset) as *const u8, (to + offset) as *mut u8);
        // SAFETY: within both ranges.
        unsafe { to.write_volatile(from.read_volatile()) };
        offset += 1;
    }
}
