//! Which memory an application may hand over: its own, whole, and nothing that touches anything else.
//!
//! The regions given are all an application has; whatever lies between two of them, holes that the SAU calls non-secure
//! and only an MPC closes included, is not its. A range is good only inside one of them: two neighbours are never joined.

/// What the microvisor is going to do with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The microvisor reads it.
    Read,
    /// The microvisor writes it.
    Write,
}

/// Memory the application has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it starts.
    pub at: u32,
    /// Bytes of it; it does not wrap.
    pub bytes: u32,
    /// Results may be written there. Code is not written by calls, whatever the memory it lies in could do.
    pub write: bool,
}

impl Region {
    const fn holds(&self, at: u32, bytes: u32) -> bool {
        // Neither side can wrap: `at - self.at` is taken only when it is not negative.
        at >= self.at && bytes <= self.bytes && at - self.at <= self.bytes - bytes
    }
}

/// Whether `bytes` bytes from `at` lie whole in one of `regions` that allows the access. An empty range does not: no call
/// means one.
pub fn owns(regions: &[Region], at: u32, bytes: u32, access: Access) -> bool {
    bytes != 0
        && regions.iter().any(|region| (region.write || access == Access::Read) && region.holds(at, bytes))
}

/// Whether two ranges have a byte in common. Neither wraps.
pub const fn overlap(one_at: u32, one_bytes: u32, other_at: u32, other_bytes: u32) -> bool {
    // The later begins before the earlier ends.
    if one_at <= other_at { other_at - one_at < one_bytes } else { one_at - other_at < other_bytes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODE: Region = Region { at: 0x20_0000, bytes: 0x10_0000, write: false };
    const RAM: Region = Region { at: 0x2820_0000, bytes: 0x8_0000, write: true };
    /// Directly after `RAM`: a neighbour.
    const MORE: Region = Region { at: 0x2828_0000, bytes: 0x400, write: true };
    const TOP: Region = Region { at: 0xffff_ff00, bytes: 0x100, write: true };
    const ALL: [Region; 4] = [CODE, RAM, MORE, TOP];

    #[test]
    fn a_range_ends_with_its_region() {
        for region in ALL {
            let last = region.at + (region.bytes - 1);
            assert!(owns(&ALL, region.at, region.bytes, Access::Read));
            assert!(owns(&ALL, last, 1, Access::Read));
            assert!(!owns(&ALL, last, 2, Access::Read));
            assert!(!owns(&ALL, region.at - 1, 2, Access::Read));
            assert!(!owns(&ALL, region.at, 0, Access::Read));
        }
    }

    #[test]
    fn neighbours_are_not_joined_and_code_is_not_written() {
        assert!(!owns(&ALL, RAM.at + RAM.bytes - 8, 16, Access::Read));
        assert!(!owns(&ALL, CODE.at, 4, Access::Write));
        assert!(owns(&ALL, RAM.at, 4, Access::Write));
    }

    #[test]
    fn a_range_that_wraps_is_nobodys() {
        assert!(!owns(&ALL, 0xffff_fff0, 0x20, Access::Read));
        assert!(!owns(&ALL, RAM.at, u32::MAX, Access::Read));
        assert!(!owns(&ALL, 1, u32::MAX, Access::Read));
    }

    #[test]
    fn ranges_overlap_where_they_share_a_byte() {
        let table = [(10, true), (9, true), (15, true), (8, false), (16, false), (0, false)];
        for (at, want) in table {
            assert_eq!(overlap(10, 6, at, 2), want, "{at}");
            assert_eq!(overlap(at, 2, 10, 6), want, "{at}");
        }
        assert!(overlap(u32::MAX - 1, 2, u32::MAX, 1));
    }

    fn near() -> impl Strategy<Value = u32> {
        let edges = ALL.map(|region| [region.at, region.at.wrapping_add(region.bytes)]).concat();
        prop_oneof![
            (prop::sample::select(edges), -40i32..40).prop_map(|(edge, by)| edge.wrapping_add_signed(by)),
            any::<u32>(),
        ]
    }

    proptest! {
        /// The verdict is that of a check of every byte by itself (in 64 bits, where nothing wraps).
        #[test]
        fn a_range_is_owned_when_each_of_its_bytes_is(at in near(), bytes in prop_oneof![0u32..100, any::<u32>()], write: bool) {
            let access = if write { Access::Write } else { Access::Read };
            let inside = |region: &Region| {
                let (from, to) = (u64::from(at), u64::from(at) + u64::from(bytes));
                let (start, end) = (u64::from(region.at), u64::from(region.at) + u64::from(region.bytes));
                from >= start && to <= end && (region.write || !write)
            };
            prop_assert_eq!(owns(&ALL, at, bytes, access), bytes > 0 && ALL.iter().any(inside));
        }
    }
}
