//! The application's memory, with as few round trips as can be: from the ELF file, from what was read at this stop, or from the device in
//! lines, with what lies around.

use proto::device::v1::{DebugCall, DebugProblem, DebugWrite};
use wire::limits::DEBUG_READS_MAX;

use super::{Machine, Ranges, SP, STACK_BYTES, Trouble};
use crate::debug::about::Region;
use crate::debug::cache::{LINE_BYTES, line_of};
use crate::debug::link::CALLS_MAX;

/// Lines read beyond what was asked for, and before it.
const AHEAD_LINES: usize = 6;
const BEFORE_LINES: usize = 1;

/// What was to be read, and what is there.
type Read = ((u32, u32), Vec<u8>);

impl Machine {
    /// What to read with the next stop: what was looked at since the last one, but for what comes by itself.
    pub(super) fn wanted(&mut self) -> Ranges {
        let Some(stop) = self.stop() else { return Vec::new() };
        let Some(registers) = stop.registers else { return Vec::new() };
        let (sp, begins_at_sp) = (registers[SP], stop.said.stack_at == 0);
        let mut lines = self.cache.take_wanted();
        let is_on_stack = |line: &u32| line_of(sp) <= *line && *line - line_of(sp) < STACK_BYTES;
        lines.retain(|line| !is_on_stack(line));
        if begins_at_sp {
            // gdb reads whole lines of its own, and a function that is called puts its frame below.
            lines.insert(0, line_of(sp));
            lines.extend(line_of(sp).checked_sub(LINE_BYTES));
        }
        self.ranges_of(lines, self.about.read_bytes_max.saturating_sub(self.stack_bytes()))
    }

    /// As many of these lines as there is room for, the first ones first.
    pub(super) fn ranges_of(&self, lines: Vec<u32>, mut room: u32) -> Ranges {
        let mut ranges = Vec::new();
        for line in lines {
            let Some(region) = self.about.region(line).filter(|region| !region.is_peripheral()) else {
                continue;
            };
            let (at, bytes) = piece(region, line);
            let is_in_file = self.program.as_ref().is_some_and(|program| program.at(at).is_some());
            if bytes <= room && !is_in_file {
                room -= bytes;
                ranges.push((at, bytes));
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        merged(ranges)
    }

    /// Reads from `at` on, as much as lies in one region; how many bytes.
    pub(crate) fn read(&mut self, at: u32, into: &mut [u8]) -> Result<usize, Trouble> {
        self.catch_up()?;
        let forbidden = Trouble::Problem(DebugProblem::Forbidden, at);
        let region = self.about.region(at).ok_or(forbidden.clone())?;
        let length = u32::try_from(into.len()).unwrap_or(u32::MAX).min(region.end() - at);
        let into = &mut into[..length as usize];
        let read = if self.plain || region.is_peripheral() || self.stop().is_none() {
            self.read_directly(at, into)?
        } else {
            self.cache.want(at, length);
            self.read_cached(region, at, into)?
        };
        if read == 0 && length > 0 { Err(forbidden) } else { Ok(read) }
    }

    fn read_directly(&mut self, at: u32, into: &mut [u8]) -> Result<usize, Trouble> {
        let mut ranges = Vec::new();
        let (mut next, mut left) = (at, u32::try_from(into.len()).unwrap_or(u32::MAX));
        while left > 0 {
            let bytes = left.min(self.about.read_bytes_max);
            ranges.push((next, bytes));
            (next, left) = (next + bytes, left - bytes);
        }
        let mut read = 0;
        for data in self.fetch(ranges)? {
            let whole = data.1.len() == data.0.1 as usize;
            into[read..read + data.1.len()].copy_from_slice(&data.1);
            read += data.1.len();
            if !whole {
                break;
            }
        }
        Ok(read)
    }

    /// Code from the ELF file, the rest from the cache, which is filled first.
    fn read_cached(&mut self, region: Region, at: u32, into: &mut [u8]) -> Result<usize, Trouble> {
        let mut read = 0;
        while read < into.len() {
            let here = at + u32::try_from(read).unwrap_or(u32::MAX);
            let left = into.len() - read;
            if let Some(bytes) = self.program.as_ref().and_then(|program| program.at(here)) {
                let bytes = &bytes[..bytes.len().min(left)];
                into[read..read + bytes.len()].copy_from_slice(bytes);
                self.cost.bytes_from_elf += bytes.len() as u64;
                read += bytes.len();
                continue;
            }
            let until = self.program.as_ref().and_then(|program| program.next(here));
            let bytes = until.map_or(left, |until| left.min((until - here) as usize));
            let length = u32::try_from(bytes).unwrap_or(u32::MAX);
            if self.cache.has(here, length) {
                self.cost.bytes_from_cache += bytes as u64;
            } else if self.is_second_due() {
                // All of it as it is then.
                self.settle()?;
                read = 0;
                continue;
            } else {
                self.fill(region, here, length)?;
            }
            let got = self.cache.copy(here, &mut into[read..read + bytes]);
            read += got;
            if got < bytes {
                break;
            }
        }
        Ok(read)
    }

    /// Reads what of this range is not known, and what lies around it while there is room.
    fn fill(&mut self, region: Region, at: u32, length: u32) -> Result<(), Trouble> {
        let first = line_of(at);
        let count = (at - first + length).div_ceil(LINE_BYTES) as usize;
        let lines = |from: u32| {
            std::iter::successors(Some(from), |line| line.checked_add(LINE_BYTES))
                .take_while(|line| *line < region.end())
        };
        let mut wanted: Vec<u32> =
            lines(first).take(count).filter(|line| !self.is_known(region, *line)).collect();
        let room = (self.about.read_bytes_max / LINE_BYTES) as usize;
        let ahead = lines(first).skip(count).take(AHEAD_LINES);
        let before = (1..=BEFORE_LINES as u32).filter_map(|n| first.checked_sub(n * LINE_BYTES));
        let around = ahead.chain(before.filter(|line| *line >= line_of(region.at)));
        for line in around {
            if wanted.len() < room && !self.is_known(region, line) {
                wanted.push(line);
            }
        }
        wanted.sort_unstable();
        let ranges = wanted.into_iter().map(|line| piece(region, line)).collect();
        for ((from, _), data) in self.fetch(ranges)? {
            self.cache.put(from, &data);
        }
        Ok(())
    }

    fn is_known(&self, region: Region, line: u32) -> bool {
        let (from, bytes) = piece(region, line);
        self.cache.has(from, bytes)
    }

    /// Reads these from the device: as much in one call as fits, and all calls before the first answer is waited for.
    fn fetch(&mut self, ranges: Ranges) -> Result<Vec<Read>, Trouble> {
        let mut calls = Vec::new();
        for group in grouped(ranges, self.about.read_bytes_max) {
            calls.push((DebugCall::default(), group));
        }
        let mut all = Vec::new();
        let mut rest = calls.into_iter().peekable();
        while rest.peek().is_some() {
            let batch: Vec<_> = rest.by_ref().take(CALLS_MAX - 1).collect();
            for (reads, answer) in self.ask(batch)? {
                for (range, data) in reads.into_iter().zip(answer.data) {
                    self.cost.bytes_from_device += data.data.len() as u64;
                    all.push((range, data.data));
                }
            }
        }
        Ok(all)
    }

    /// All of it, or an error: then what was written before the error stays.
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Trouble> {
        self.may_change(at)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let region = self.about.region(at).filter(|region| length <= region.end() - at);
        region.ok_or(Trouble::Problem(DebugProblem::Forbidden, at))?;
        self.settle()?;
        self.must_be_told(at)?;
        self.stepped = None;
        self.cache.void();
        if let Some(program) = &mut self.program {
            program.forget(at, length);
        }
        // gdb looks anew after it wrote: what it saw before comes with the answer.
        let seen = self.cache.wanted();
        let mut again = if self.plain { Vec::new() } else { self.ranges_of(seen, self.about.read_bytes_max) };
        let (mut at, mut pieces) = (at, bytes.chunks(self.about.write_bytes_max).peekable());
        while let Some(piece) = pieces.next() {
            let writes = vec![DebugWrite { address: at, data: piece.to_vec() }];
            let reads = if pieces.peek().is_none() { std::mem::take(&mut again) } else { Vec::new() };
            for (reads, answer) in self.ask(vec![(DebugCall { writes, ..DebugCall::default() }, reads)])? {
                for ((at, _), data) in reads.into_iter().zip(answer.data) {
                    self.cost.bytes_from_device += data.data.len() as u64;
                    self.cache.put(at, &data.data);
                }
            }
            at = at.wrapping_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}

/// What of a line lies in a region.
fn piece(region: Region, line: u32) -> (u32, u32) {
    let from = line.max(region.at);
    (from, (LINE_BYTES - (from - line)).min(region.end() - from))
}

/// Neighbours as one.
fn merged(ranges: Ranges) -> Ranges {
    let mut all: Ranges = Vec::new();
    for (at, bytes) in ranges {
        match all.last_mut() {
            Some(last) if last.0 + last.1 == at => last.1 += bytes,
            _ => all.push((at, bytes)),
        }
    }
    all.truncate(DEBUG_READS_MAX);
    all
}

/// As many as one call may have, in one call; neighbours as one, what is too long in pieces.
fn grouped(ranges: Ranges, bytes_max: u32) -> Vec<Ranges> {
    let mut groups: Vec<Ranges> = Vec::new();
    let mut room = 0;
    for (mut at, mut left) in ranges {
        while left > 0 {
            let is_full = room == 0 || groups.last().is_none_or(|group| group.len() >= DEBUG_READS_MAX);
            if is_full {
                groups.push(Vec::new());
                room = bytes_max.max(1);
            }
            let bytes = left.min(room);
            if let Some(group) = groups.last_mut() {
                match group.last_mut() {
                    Some(last) if last.0.wrapping_add(last.1) == at => last.1 += bytes,
                    _ => group.push((at, bytes)),
                }
            }
            room -= bytes;
            left -= bytes;
            at = at.wrapping_add(bytes);
        }
    }
    groups
}
