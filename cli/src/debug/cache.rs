//! Memory of the application as it was at this stop, and which of it was asked for.
//!
//! Always holds: what is in here was read from the device since it last stood still and since anything was last written. Whoever lets the
//! application run, or writes, calls [`Cache::void`] before. Bounded by [`BYTES_MAX`].

use std::collections::{BTreeMap, VecDeque};

/// Bytes of a line: what is read at least, where there is so much.
pub(crate) const LINE_BYTES: u32 = 256;
/// Bytes kept at most; a whole dump goes through, it does not stay.
const BYTES_MAX: usize = 1 << 20;
const LINES_MAX: usize = BYTES_MAX / LINE_BYTES as usize;
/// Lines remembered as asked for.
const WANTED_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Cache {
    lines: BTreeMap<u32, Line>,
    /// Starts of lines that were asked for since the application last ran; the newest last.
    wanted: VecDeque<u32>,
}

#[derive(Debug)]
struct Line {
    bytes: [u8; LINE_BYTES as usize],
    known: [bool; LINE_BYTES as usize],
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; LINE_BYTES as usize], known: [false; LINE_BYTES as usize] }
    }
}

/// The start of the line an address is in.
pub(crate) fn line_of(at: u32) -> u32 {
    at & !(LINE_BYTES - 1)
}

impl Cache {
    /// Nothing is known any more.
    pub(crate) fn void(&mut self) {
        self.lines.clear();
    }

    /// What was asked for since the last call of this: it will be asked for again, for programs and people look at the same places after
    /// each step.
    pub(crate) fn take_wanted(&mut self) -> Vec<u32> {
        let wanted = self.wanted();
        self.wanted.clear();
        wanted
    }

    /// The same, without forgetting it.
    pub(crate) fn wanted(&self) -> Vec<u32> {
        self.wanted.iter().rev().copied().collect()
    }

    /// What the device said is there.
    pub(crate) fn put(&mut self, at: u32, bytes: &[u8]) {
        for (offset, byte) in (0u32..).zip(bytes) {
            let Some(at) = at.checked_add(offset) else { return };
            if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&line_of(at)) {
                self.void();
            }
            let line = self.lines.entry(line_of(at)).or_default();
            let place = (at - line_of(at)) as usize;
            (line.bytes[place], line.known[place]) = (*byte, true);
        }
    }

    /// Copies what is known from `at` on, up to the first byte that is not; how many bytes.
    pub(crate) fn copy(&self, at: u32, into: &mut [u8]) -> usize {
        for (offset, place) in (0u32..).zip(into.iter_mut()) {
            match at.checked_add(offset).and_then(|at| self.byte(at)) {
                Some(byte) => *place = byte,
                None => return offset as usize,
            }
        }
        into.len()
    }

    /// Whether all of a range is known.
    pub(crate) fn has(&self, at: u32, length: u32) -> bool {
        (0..length).all(|offset| at.checked_add(offset).and_then(|at| self.byte(at)).is_some())
    }

    /// Somebody asked for this range.
    pub(crate) fn want(&mut self, at: u32, length: u32) {
        let (mut line, last) = (line_of(at), line_of(at.saturating_add(length.saturating_sub(1))));
        // Of what is larger, as a dump, the beginning is as good as nothing.
        for _ in 0..WANTED_MAX {
            self.wanted.retain(|wanted| *wanted != line);
            self.wanted.push_back(line);
            if self.wanted.len() > WANTED_MAX {
                self.wanted.pop_front();
            }
            match line.checked_add(LINE_BYTES) {
                Some(next) if next <= last => line = next,
                _ => return,
            }
        }
    }

    fn byte(&self, at: u32) -> Option<u8> {
        let line = self.lines.get(&line_of(at))?;
        let place = (at - line_of(at)) as usize;
        line.known[place].then(|| line.bytes[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_copied_up_to_the_first_gap() {
        let mut cache = Cache::default();
        cache.put(0x2000_00fe, &[1, 2, 3, 4]);
        let mut bytes = [0; 8];
        assert_eq!(cache.copy(0x2000_00fe, &mut bytes), 4);
        assert_eq!(bytes[..4], [1, 2, 3, 4]);
        assert_eq!(cache.copy(0x2000_0100, &mut bytes), 2);
        assert_eq!(cache.copy(0x2000_00fd, &mut bytes), 0);
        assert!(cache.has(0x2000_00ff, 3) && !cache.has(0x2000_00ff, 4));
        cache.void();
        assert_eq!(cache.copy(0x2000_00fe, &mut bytes), 0);
    }

    #[test]
    fn the_end_of_the_address_space_is_an_end() {
        let mut cache = Cache::default();
        cache.put(u32::MAX - 1, &[1, 2, 3, 4]);
        let mut bytes = [0; 4];
        assert_eq!(cache.copy(u32::MAX - 1, &mut bytes), 2);
        cache.want(u32::MAX, u32::MAX);
        assert!(!cache.has(0, 1));
    }

    #[test]
    fn the_newest_wishes_are_kept_and_taken_once() {
        let mut cache = Cache::default();
        cache.want(0, 1 << 20);
        cache.want(0x5000, 4);
        cache.want(0x50ff, 2);
        let wanted = cache.take_wanted();
        assert_eq!((wanted.len(), &wanted[..2]), (WANTED_MAX, &[0x5100, 0x5000][..]));
        assert!(cache.take_wanted().is_empty());
    }

    #[test]
    fn it_stays_within_its_bound() {
        let mut cache = Cache::default();
        for line in 0..(LINES_MAX as u32 * 2) {
            cache.put(line * LINE_BYTES, &[1]);
            assert!(cache.lines.len() <= LINES_MAX);
        }
    }
}
