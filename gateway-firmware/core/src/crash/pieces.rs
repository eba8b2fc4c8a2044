//! Which memory is worth keeping of a crash: one pure decision from where the stack pointer was and how much may be kept.
//!
//! Always holds: pieces lie in the application's RAM, do not overlap, are not empty, and have no more bytes than allowed.

use heapless::Vec;
use wire::limits::CRASH_MEMORY_PIECES_MAX;
use wire::msg::DebugMemory;

use crate::ports::Region;

/// Bytes of stack that come first, at most; half of what may be kept if that is less.
pub const CRASH_MEMORY_STACK_BYTES: u32 = 8 * 1024;
/// Addresses and lengths are multiples of this: what a processor pushes at once.
const ALIGN: u32 = 8;

/// Some memory, as it is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub at: u32,
    pub bytes: u32,
}

/// In the order in which they are kept and sent: what a backtrace needs, then from the start of the RAM on, where a program's
/// data are, up to that stack and beyond it. `bytes` in all, or what there is.
pub(super) fn pieces(regions: &[Region], sp: Option<u32>, bytes: u32) -> Vec<Piece, CRASH_MEMORY_PIECES_MAX> {
    let mut pieces = Vec::new();
    let Some(ram) = regions.iter().find(|region| region.memory == DebugMemory::Ram) else { return pieces };
    // A region never wraps: its end is an address, or one beyond the last.
    let end = ram.at.saturating_add(ram.bytes);
    let mut left = bytes / ALIGN * ALIGN;
    let mut take = |from: u32, to: u32, most: u32| {
        let bytes = to.saturating_sub(from).min(left).min(most) / ALIGN * ALIGN;
        left -= bytes;
        // Cannot fail: called three times.
        let _ = if bytes > 0 { pieces.push(Piece { at: from, bytes }) } else { Ok(()) };
        from.saturating_add(bytes)
    };
    let sp = sp.map(|sp| sp / ALIGN * ALIGN).filter(|sp| (ram.at..end).contains(sp)).unwrap_or(end);
    let stack_end = take(sp, end, CRASH_MEMORY_STACK_BYTES.min(bytes / 2));
    take(ram.at, sp, u32::MAX);
    take(stack_end, end, u32::MAX);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RAM: Region = Region { at: 0x2820_0000, bytes: 512 * 1024, memory: DebugMemory::Ram };
    const CODE: Region = Region { at: 0x0020_0000, bytes: 1024, memory: DebugMemory::Code };
    const END: u32 = RAM.at + RAM.bytes;

    fn kept(sp: Option<u32>, bytes: u32) -> std::vec::Vec<(u32, u32)> {
        pieces(&[CODE, RAM], sp, bytes).iter().map(|piece| (piece.at, piece.bytes)).collect()
    }
    extern crate std;

    #[test]
    fn the_stack_comes_first_and_then_the_data() {
        assert_eq!(kept(Some(END - 100), 65_536), [(END - 104, 104), (RAM.at, 65_432)]);
        assert_eq!(kept(Some(END - 9000), 65_536), [(END - 9000, 8192), (RAM.at, 57_344)]);
        assert_eq!(kept(Some(END - 9000), 4096), [(END - 9000, 2048), (RAM.at, 2048)]);
    }

    #[test]
    fn a_stack_among_the_data_is_kept_once() {
        let sp = RAM.at + 1024;
        assert_eq!(kept(Some(sp), 4096), [(sp, 2048), (RAM.at, 1024), (sp + 2048, 1024)]);
        assert_eq!(kept(Some(RAM.at), 4096), [(RAM.at, 2048), (RAM.at + 2048, 2048)]);
    }

    #[test]
    fn without_a_stack_pointer_the_data_are_kept_and_without_ram_nothing() {
        for sp in [None, Some(0), Some(END), Some(u32::MAX)] {
            assert_eq!(kept(sp, 4096), [(RAM.at, 4096)]);
        }
        assert!(pieces(&[CODE], Some(RAM.at), 4096).is_empty());
        assert_eq!(kept(Some(END - 8), 7), []);
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_leave_the_ram_or_exceed_what_is_allowed(
            at in any::<u32>(), size in 0u32..1 << 20, sp in any::<Option<u32>>(), near in 0u32..1 << 20,
            is_near in any::<bool>(), bytes in 0u32..1 << 17,
        ) {
            let at = at / 8 * 8;
            let size = size.min(u32::MAX - at);
            let sp = if is_near { Some(at.wrapping_add(near)) } else { sp };
            let ram = Region { at, bytes: size, memory: DebugMemory::Ram };
            let pieces = pieces(&[ram], sp, bytes);
            let total: u64 = pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
            prop_assert!(total <= u64::from(bytes));
            // Nothing is left out but what alignment costs.
            prop_assert!(total + 16 > u64::from(bytes.min(size)) || bytes < 16);
            let mut sorted: std::vec::Vec<_> = pieces.iter().map(|p| (u64::from(p.at), u64::from(p.at) + u64::from(p.bytes))).collect();
            sorted.sort();
            for (start, end) in &sorted {
                prop_assert!(start < end && *start >= u64::from(at) && *end <= u64::from(at) + u64::from(size));
            }
            for pair in sorted.windows(2) {
                prop_assert!(pair[0].1 <= pair[1].0);
            }
        }
    }
}
