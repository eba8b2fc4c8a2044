//! What the application has, as a debugger reads and writes it: by the addresses the application uses, whose accesses meet
//! the walls that an application meets.

use chip::map::app::{CODE_AT, CODE_BYTES, RAM_AT, RAM_BYTES, TIMERS_AT, TIMERS_BYTES, UART_AT, UART_BYTES};
use chip::special::barrier;
use gateway_core::ports::{Forbidden, Region};
use wire::msg::DebugMemory;

use super::trap;

pub(super) const REGIONS: [Region; 4] = [
    Region { at: CODE_AT, bytes: CODE_BYTES, memory: DebugMemory::Code },
    Region { at: RAM_AT, bytes: RAM_BYTES, memory: DebugMemory::Ram },
    Region { at: TIMERS_AT, bytes: TIMERS_BYTES, memory: DebugMemory::Peripheral },
    Region { at: UART_AT, bytes: UART_BYTES, memory: DebugMemory::Peripheral },
];

/// What the range is of, if it is whole in one region. Of peripherals only a word is, of one, two or four bytes, aligned.
fn judge(at: u32, bytes: usize) -> Result<DebugMemory, Forbidden> {
    let bytes = u32::try_from(bytes).map_err(|_| Forbidden)?;
    let holds = |region: &&Region| {
        // Neither side wraps: `at - region.at` is taken only when it is not negative.
        at >= region.at && bytes <= region.bytes && at - region.at <= region.bytes - bytes
    };
    let memory = REGIONS.iter().find(holds).ok_or(Forbidden)?.memory;
    let word = matches!(bytes, 1 | 2 | 4) && at.is_multiple_of(bytes);
    if memory == DebugMemory::Peripheral && !word { Err(Forbidden) } else { Ok(memory) }
}

pub(super) fn read(at: u32, into: &mut [u8]) -> Result<(), Forbidden> {
    let memory = judge(at, into.len())?;
    // SAFETY: judged.
    let mut read = || unsafe { fetch(at, into) };
    if memory == DebugMemory::Peripheral {
        read()
    } else {
        trap::aside(read)
    }
    Ok(())
}

pub(super) fn write(at: u32, bytes: &[u8]) -> Result<(), Forbidden> {
    let memory = judge(at, bytes.len())?;
    // SAFETY: judged.
    let write = || unsafe { put(at, bytes) };
    if memory == DebugMemory::Peripheral {
        write()
    } else {
        trap::aside(write)
    }
    // It may be what runs next.
    barrier();
    Ok(())
}

/// So many bytes at once: an aligned word is never torn, and a register is touched once.
fn width(at: u32, rest: usize) -> usize {
    match rest {
        4.. if at.is_multiple_of(4) => 4,
        2.. if at.is_multiple_of(2) => 2,
        _ => 1,
    }
}

/// # Safety
/// The range is whole in a region of the application's.
unsafe fn fetch(mut at: u32, mut into: &mut [u8]) {
    while !into.is_empty() {
        let (piece, rest) = into.split_at_mut(width(at, into.len()));
        match piece.len() {
            // SAFETY: aligned and in the range, here and below; no Rust object of ours lies there.
            4 => piece.copy_from_slice(&unsafe { (at as *const u32).read_volatile() }.to_le_bytes()),
            // SAFETY: as above.
            2 => piece.copy_from_slice(&unsafe { (at as *const u16).read_volatile() }.to_le_bytes()),
            // SAFETY: as above.
            _ => piece.fill(unsafe { (at as *const u8).read_volatile() }),
        }
        (at, into) = (at.wrapping_add(piece.len() as u32), rest);
    }
}

/// # Safety
/// As for `fetch`.
unsafe fn put(mut at: u32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(width(at, bytes.len()));
        match *piece {
            // SAFETY: aligned and in the range, here and below; no Rust object of ours lies there.
            [a, b, c, d] => unsafe { (at as *mut u32).write_volatile(u32::from_le_bytes([a, b, c, d])) },
            // SAFETY: as above.
            [a, b] => unsafe { (at as *mut u16).write_volatile(u16::from_le_bytes([a, b])) },
            // SAFETY: as above.
            [a] => unsafe { (at as *mut u8).write_volatile(a) },
            _ => {}
        }
        (at, bytes) = (at.wrapping_add(piece.len() as u32), rest);
    }
}
