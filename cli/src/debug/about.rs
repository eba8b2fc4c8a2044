//! What there is to debug, as the device says: checked once, and bounded.

use proto::device::v1::{DebugMemory, DebugTarget};
use wire::Digest;
use wire::limits::{
    DEBUG_BREAKPOINTS_MAX, DEBUG_HARDWARE_BREAKPOINTS_MAX, DEBUG_READ_BYTES_MAX, DEBUG_WRITE_BYTES_MAX,
};

use crate::debug::link::Gone;
use crate::output::printable;

const REGIONS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 64;
/// A device that gives less at a time is none.
const BYTES_MIN: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Lower-case hex.
    pub(crate) manifest_digest: String,
    pub(crate) version: String,
    pub(crate) image_digest: Option<Digest>,
    pub(crate) image_bytes: u32,
    /// By address; none touches the end of the address space, and no two overlap.
    pub(crate) regions: Vec<Region>,
    pub(crate) breakpoints_max: usize,
    /// 0: its board has none.
    pub(crate) hardware_breakpoints_max: usize,
    pub(crate) read_bytes_max: u32,
    pub(crate) write_bytes_max: usize,
    pub(crate) read_only: bool,
    pub(crate) hold_s: u32,
    pub(crate) microvisor: String,
    pub(crate) board: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) at: u32,
    pub(crate) bytes: u32,
    pub(crate) memory: DebugMemory,
}

impl Region {
    pub(crate) fn end(&self) -> u32 {
        self.at + self.bytes
    }

    /// Reading it may change something.
    pub(crate) fn is_peripheral(&self) -> bool {
        !matches!(self.memory, DebugMemory::Code | DebugMemory::Ram)
    }
}

impl About {
    pub(crate) fn of(target: DebugTarget) -> Result<About, Gone> {
        if target.regions.len() > REGIONS_MAX {
            return Err(Gone::Nonsense("too many regions of memory"));
        }
        let mut regions = Vec::new();
        for region in &target.regions {
            let (at, bytes) = (region.address, region.length);
            if at.checked_add(bytes).is_none() {
                return Err(Gone::Nonsense("a region beyond the end of memory"));
            }
            regions.push(Region { at, bytes, memory: region.memory() });
        }
        regions.retain(|region| region.bytes > 0);
        regions.sort_by_key(|region| region.at);
        if regions.windows(2).any(|pair| pair[0].end() > pair[1].at) {
            return Err(Gone::Nonsense("regions of memory that overlap"));
        }
        let within = |said: u32, most: usize| (said as usize).clamp(BYTES_MIN, most);
        let read_bytes_max = within(target.read_bytes_max, DEBUG_READ_BYTES_MAX);
        Ok(About {
            manifest_digest: hex::encode(&target.manifest_digest),
            version: text(&target.version),
            image_digest: <[u8; 32]>::try_from(&target.image_digest[..]).ok().map(Digest),
            image_bytes: target.image_bytes,
            regions,
            breakpoints_max: (target.breakpoints_max as usize).min(DEBUG_BREAKPOINTS_MAX),
            hardware_breakpoints_max: (target.hardware_breakpoints_max as usize)
                .min(DEBUG_HARDWARE_BREAKPOINTS_MAX),
            read_bytes_max: u32::try_from(read_bytes_max).unwrap_or(u32::MAX),
            write_bytes_max: within(target.write_bytes_max, DEBUG_WRITE_BYTES_MAX),
            read_only: target.read_only,
            hold_s: target.hold_s,
            microvisor: text(&target.microvisor),
            board: text(&target.board),
        })
    }

    pub(crate) fn region(&self, at: u32) -> Option<Region> {
        self.regions.iter().copied().find(|region| region.at <= at && at < region.end())
    }
}

fn text(said: &str) -> String {
    printable(said).chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::device::v1::DebugRegion;

    fn target(regions: &[(u32, u32)]) -> DebugTarget {
        let region = |&(address, length): &(u32, u32)| DebugRegion { address, length, memory: 2 };
        DebugTarget { regions: regions.iter().map(region).collect(), ..DebugTarget::default() }
    }

    #[test]
    fn what_a_device_says_of_itself_is_bounded() {
        let said = DebugTarget {
            read_bytes_max: u32::MAX,
            write_bytes_max: 0,
            breakpoints_max: u32::MAX,
            hardware_breakpoints_max: u32::MAX,
            version: "1\u{1b}".repeat(1000),
            ..target(&[(0x2000, 0x100), (0x1000, 0x100), (0, 0)])
        };
        let about = About::of(said).unwrap();
        assert_eq!((about.read_bytes_max, about.write_bytes_max), (3584, 64));
        assert_eq!((about.breakpoints_max, about.hardware_breakpoints_max), (32, 8));
        assert_eq!(about.version.chars().count(), 64);
        assert!(!about.version.contains('\u{1b}'));
        assert_eq!(about.region(0x10ff).unwrap().at, 0x1000);
        assert!(about.region(0x1100).is_none() && about.region(0).is_none());
    }

    #[test]
    fn memory_that_cannot_be_is_refused() {
        for regions in [&[(u32::MAX, 1)][..], &[(0, 10), (9, 1)], &[(0, 1); 33]] {
            assert!(matches!(About::of(target(regions)), Err(Gone::Nonsense(_))), "{regions:?}");
        }
    }
}
