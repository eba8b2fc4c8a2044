//! Where gdb, stepping a line, goes on without showing anybody that it stopped: the line tables of a program.
//!
//! gdb asks for one row of the tables at a time: what follows in the same line, and what is of another line but not the start of a statement, it
//! steps through by itself (`process_event_stop_test` in its infrun.c). All of these together are one range to the device.
//!
//! A range too few costs a round trip; one too many, and `next` runs past a line. So whatever is in doubt is none: another function, another
//! chain of inlined calls, a place where such a call begins, a row of which the tables say several things. And of another line a row of one
//! instruction at most: what is longer can be come to in its middle, by a jump or out of a call, and there gdb takes its line for the one that
//! is stepped, and then does not stop where that line begins.

use gimli::{EndianSlice, LittleEndian};
use object::read::elf::ElfFile32;
use object::{LittleEndian as Little, Object as _, ObjectSection as _, ObjectSegment as _};

/// Compilation units that are read; a program with more of anything has no rows.
const UNITS_MAX: usize = 1 << 14;
/// Rows of all tables.
const ROWS_MAX: usize = 1 << 20;
/// Ranges of functions and of calls that were inlined.
const BLOCKS_MAX: usize = 1 << 18;
/// Rows of one function that are looked at on either side.
const LOOKED_AT_MAX: usize = 2048;
/// Bytes of a row's code that are looked at.
const ROW_BYTES_MAX: u32 = 1024;
/// Inlined calls in one function; one with more has nothing besides.
const INLINED_MAX: usize = 4096;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
/// The file's number in its unit, and the line.
type Line = (u64, u64);

/// What the tables say of an address, up to the next row.
#[derive(Debug, Clone, Copy)]
struct Row {
    unit: u32,
    at: u32,
    /// The last statement's that begins here; without any, that of what is said last.
    line: Line,
    is_statement: bool,
    /// Statements of several lines begin here.
    is_mixed: bool,
    /// One instruction, not more.
    is_single: bool,
    /// It may leave its function, other than into a call.
    returns: bool,
    /// A call may return to it.
    is_returned_to: bool,
    /// Nothing more is said from here on.
    is_end: bool,
}

/// From an address up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    from: u32,
    to: u32,
    /// A function's unit; of an inlined call a number of its own, the same for all of its blocks.
    of: u32,
}

/// All there are.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By unit and address, each once.
    rows: Vec<Row>,
    functions: Vec<Block>,
    inlined: Vec<Block>,
}

impl Rows {
    /// None: the file has no line tables, or they cannot be read.
    pub(crate) fn of(elf: &[u8]) -> Option<Rows> {
        let file: ElfFile32<'_, Little> = ElfFile32::parse(elf).ok()?;
        let section = |id: gimli::SectionId| {
            let section = file.section_by_name(id.name());
            let bytes = section.and_then(|section| section.data().ok()).unwrap_or_default();
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let mut dwarf = gimli::Dwarf::load(section).ok()?;
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::All);
        let mut rows = Rows::default();
        let (mut units, mut number, mut seen) = (dwarf.units(), 0, 0);
        while let Some(header) = units.next().ok()? {
            let unit = dwarf.unit(header).ok()?;
            rows.read_lines(&unit, number, &mut seen)?;
            rows.read_blocks(&dwarf, &unit, number)?;
            number += 1;
            if number as usize == UNITS_MAX {
                return None;
            }
        }
        rows.rows.sort_by_key(|row| (row.unit, row.at));
        rows.rows.dedup_by(|next, row| (next.unit, next.at) == (row.unit, row.at) && row.join(next));
        rows.measure(&file);
        rows.inlined.sort_unstable();
        (!rows.rows.is_empty()).then_some(rows)
    }

    /// A unit's table, as gdb reads it (`lnp_state_machine::record_line` in its dwarf2/read.c).
    fn read_lines(&mut self, unit: &gimli::Unit<Slice<'_>>, number: u32, seen: &mut usize) -> Option<()> {
        let Some(program) = unit.line_program.clone() else { return Some(()) };
        let mut lines = program.rows();
        let mut sequence = self.rows.len();
        let (mut last, mut line_before, mut is_split) = (None, None, false);
        while let Ok(Some((_, row))) = lines.next_row() {
            *seen += 1;
            if *seen > ROWS_MAX {
                return None;
            }
            let Ok(at) = u32::try_from(row.address()) else { continue };
            let new = |line, is_statement, is_end| Row {
                unit: number,
                at,
                line,
                is_statement,
                is_mixed: false,
                is_single: false,
                returns: true,
                is_returned_to: true,
                is_end,
            };
            if row.end_sequence() {
                // What is said of no instruction is not said.
                while self.rows.len() > sequence && self.rows.last().is_some_and(|row| row.at == at) {
                    self.rows.pop();
                }
                // Linkers leave what they threw away at address 0.
                if self.rows.get(sequence).is_some_and(|first| first.at == 0) {
                    self.rows.truncate(sequence);
                } else {
                    self.rows.push(new((0, 0), false, true));
                }
                sequence = self.rows.len();
                (last, line_before, is_split) = (None, None, false);
                continue;
            }
            // Parts of a line that only a discriminator tells apart are one row; and so is with the row before it what has no line.
            is_split = row.discriminator() != 0 || is_split && row.line() == line_before;
            line_before = row.line();
            let Some(line) = row.line().map(|line| (row.file_index(), line.get())) else { continue };
            if !(is_split && last == Some(line)) {
                self.rows.push(new(line, row.is_stmt(), false));
            }
            last = Some(line);
        }
        Some(())
    }

    fn read_blocks<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Slice<'a>>,
        unit: &gimli::Unit<Slice<'a>>,
        number: u32,
    ) -> Option<()> {
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs().ok()? {
            let is_function = entry.tag() == gimli::DW_TAG_subprogram;
            if !is_function && entry.tag() != gimli::DW_TAG_inlined_subroutine {
                continue;
            }
            let call = u32::try_from(self.inlined.len()).ok()?;
            let mut ranges = dwarf.die_ranges(unit, entry).ok()?;
            while let Some(range) = ranges.next().ok()? {
                if self.functions.len() + self.inlined.len() >= BLOCKS_MAX {
                    return None;
                }
                let (Ok(from), Ok(to)) = (u32::try_from(range.begin), u32::try_from(range.end)) else {
                    continue;
                };
                if is_function {
                    self.functions.push(Block { from, to, of: number });
                } else {
                    self.inlined.push(Block { from, to, of: call });
                }
            }
        }
        Some(())
    }

    /// What the code of each row does.
    fn measure(&mut self, file: &ElfFile32<'_, Little>) {
        let code = |from: u32, bytes: u32| {
            let (from, bytes) = (u64::from(from), u64::from(bytes));
            file.segments().find_map(|segment| segment.data_range(from, bytes).ok()?)
        };
        for place in 1..self.rows.len() {
            let next = self.rows[place];
            let row = &mut self.rows[place - 1];
            let bytes = if row.unit == next.unit { next.at - row.at } else { 0 };
            if bytes > ROW_BYTES_MAX {
                continue;
            }
            let before = code(row.at.wrapping_sub(4), 4).unwrap_or_default();
            let Some(code) = code(row.at, bytes) else { continue };
            let halves = |bytes: &[u8]| -> Vec<u16> {
                bytes.chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]])).collect()
            };
            let (before, code) = (halves(before), halves(code));
            row.is_single = match code[..] {
                [_] => true,
                // Thumb: those of two halves begin with 11101, 11110 or 11111.
                [first, _] => first >= 0xe800,
                _ => false,
            };
            row.returns = returns(&code);
            row.is_returned_to = calls(&[before, code].concat());
        }
    }

    /// Ranges besides this one, which is to be exactly one row, through which gdb would go on by itself: sorted, and of more than `most` those
    /// that are nearest.
    pub(crate) fn besides(&self, from: u32, to: u32, most: usize) -> Vec<(u32, u32)> {
        self.all_besides(from, to, most).unwrap_or_default()
    }

    fn all_besides(&self, from: u32, to: u32, most: usize) -> Option<Vec<(u32, u32)>> {
        let functions = self.functions.iter().filter(|function| function.holds(from));
        let function = functions.min_by_key(|function| function.to - function.from)?;
        let place = self.rows.binary_search_by_key(&(function.of, from), |row| (row.unit, row.at)).ok()?;
        let asked = self.rows[place];
        if asked.is_end || self.end(place)? != to || to > function.to {
            return None;
        }
        // Of no statement: it may be any line that is stepped.
        let line = asked.is_statement.then_some(asked.line);
        let reaches = |block: &&Block| block.from < function.to && function.from < block.to;
        let inlined: Vec<Block> = self.inlined.iter().filter(reaches).copied().collect();
        if inlined.len() > INLINED_MAX {
            return None;
        }
        let calls = |at: u32| inlined.iter().filter(move |block| block.holds(at)).map(|block| block.of);
        let begins = |from: u32, to: u32| {
            inlined.iter().any(|block| (from..to).contains(&block.from) || from < block.to && block.to < to)
        };
        let mut passed: Vec<(Row, u32)> = Vec::new();
        let looked_at = place.saturating_sub(LOOKED_AT_MAX)..self.rows.len().min(place + LOOKED_AT_MAX);
        for place in looked_at {
            let row = self.rows[place];
            let is_elsewhere = row.unit != function.of || row.at <= function.from || row.at == from;
            let Some(end) = self.end(place).filter(|end| *end <= function.to && !is_elsewhere) else {
                continue;
            };
            if row.is_passed(line) && !begins(row.at, end) && calls(row.at).eq(calls(from)) {
                passed.push((row, end));
            }
        }
        // A function that called itself would come out of one call into another and be gone through there, with gdb thinking of the first.
        if asked.is_returned_to || passed.iter().any(|(row, _)| row.is_returned_to) {
            passed.retain(|(row, _)| if asked.returns { !row.is_returned_to } else { !row.returns });
        }
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for (row, end) in passed {
            match ranges.last_mut() {
                Some(last) if last.1 == row.at => last.1 = end,
                _ => ranges.push((row.at, end)),
            }
        }
        ranges.sort_by_key(|(start, end)| if *start < from { from - end } else { start - from });
        ranges.truncate(most);
        ranges.sort_unstable();
        Some(ranges)
    }

    /// Where a row ends: at the next one.
    fn end(&self, place: usize) -> Option<u32> {
        let (row, next) = (self.rows.get(place)?, self.rows.get(place + 1)?);
        (row.unit == next.unit).then_some(next.at)
    }
}

impl Block {
    fn holds(&self, at: u32) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Row {
    /// Nobody who steps this line, or whichever it is, is shown that it comes here.
    fn is_passed(&self, line: Option<Line>) -> bool {
        let is_of_line = Some(self.line) == line;
        !self.is_end && !self.is_mixed && (is_of_line || !self.is_statement && self.is_single)
    }

    /// Takes in what is said further of the same address.
    fn join(&mut self, next: &Row) -> bool {
        if self.is_end {
            *self = *next;
        } else if !next.is_end && (next.is_statement || !self.is_statement) {
            self.is_mixed |= self.is_statement && self.line != next.line;
            self.line = next.line;
            self.is_statement = next.is_statement;
        }
        true
    }
}

/// Whether there may be a call in this code. Where its instructions begin is not asked: data among them is taken for more, never for less.
fn calls(code: &[u16]) -> bool {
    let is_long = |pair: &[u16]| pair[0] & 0xf800 == 0xf000 && pair[1] & 0xd000 == 0xd000;
    // BLX Rm and BLXNS Rm; BL.
    code.iter().any(|half| half & 0xff80 == 0x4780) || code.windows(2).any(is_long)
}

/// Whether this code may go where a register or the stack says.
fn returns(code: &[u16]) -> bool {
    // POP with PC; BX and BXNS; MOV PC, Rm.
    let is_short = |half: &u16| half & 0xff00 == 0xbd00 || half & 0xff80 == 0x4700 || half & 0xff87 == 0x4687;
    // LDM with PC; LDR PC.
    let is_long = |pair: &[u16]| {
        pair[0] & 0xfe50 == 0xe810 && pair[1] & 0x8000 != 0 || pair[0] & 0xff70 == 0xf850 && pair[1] >= 0xf000
    };
    code.iter().any(is_short) || code.windows(2).any(is_long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::model::ELF;
    use proptest::prelude::*;

    /// A function from 0x100 to 0x140 whose rows are told: address, line, whether a statement begins there.
    fn told(rows: &[(u32, u64, bool)]) -> Rows {
        let mut rows: Vec<Row> =
            rows.iter().map(|&(at, line, is_statement)| row(at, line, is_statement)).collect();
        rows.push(Row { is_end: true, ..row(0x140, 0, false) });
        let sizes: Vec<u32> = rows.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        rows.iter_mut().zip(sizes).for_each(|(row, bytes)| row.is_single = bytes == 2);
        Rows { rows, functions: vec![Block { from: 0x100, to: 0x140, of: 0 }], inlined: Vec::new() }
    }

    fn row(at: u32, line: u64, is_statement: bool) -> Row {
        Row {
            unit: 0,
            at,
            line: (1, line),
            is_statement,
            is_mixed: false,
            is_single: false,
            returns: false,
            is_returned_to: false,
            is_end: false,
        }
    }

    #[test]
    fn a_line_in_pieces_is_stepped_as_one() {
        let rows = Rows::of(ELF).unwrap();
        // Line 30 of program.c is the call of `twice` and, behind the loop, the end of it.
        assert_eq!(rows.besides(0x0020_0064, 0x0020_0074, 16), [(0x0020_0088, 0x0020_0094)]);
        assert_eq!(rows.besides(0x0020_0088, 0x0020_0094, 16), [(0x0020_0064, 0x0020_0074)]);
        assert_eq!(rows.besides(0x0020_0064, 0x0020_0074, 0), []);
    }

    #[test]
    fn what_is_not_exactly_a_row_has_nothing_besides() {
        let rows = Rows::of(ELF).unwrap();
        // At 0x80 only the discriminator changes: to gdb that is no row.
        for (from, to) in [(0x64, 0x70), (0x66, 0x74), (0x64, 0x7a), (0x7a, 0x80), (0x80, 0x88)] {
            assert_eq!(rows.besides(0x0020_0000 + from, 0x0020_0000 + to, 16), [], "{from:x} to {to:x}");
        }
        assert_eq!(rows.besides(0, u32::MAX, 16), []);
        assert_eq!(rows.besides(u32::MAX, 0, 16), []);
    }

    #[test]
    fn of_another_line_only_single_instructions_are_passed_that_begin_no_statement() {
        let rows = told(&[
            (0x100, 7, true),
            (0x110, 7, true),
            (0x114, 8, false),
            (0x116, 7, false),
            (0x11a, 8, false),
            (0x11e, 8, true),
            (0x120, 7, true),
        ]);
        // Not the function's first row: who comes there was called.
        assert_eq!(rows.besides(0x110, 0x114, 16), [(0x114, 0x11a), (0x120, 0x140)]);
        assert_eq!(rows.besides(0x120, 0x140, 16), [(0x110, 0x11a)]);
        assert_eq!(rows.besides(0x120, 0x140, 1), [(0x110, 0x11a)]);
        assert_eq!(rows.besides(0x110, 0x114, 1), [(0x114, 0x11a)]);
        // From what begins no statement any line may be stepped.
        assert_eq!(rows.besides(0x116, 0x11a, 16), [(0x114, 0x116)]);
    }

    #[test]
    fn what_is_inlined_is_passed_only_from_within_and_not_where_it_begins() {
        let mut rows =
            told(&[(0x100, 6, true), (0x104, 7, true), (0x108, 7, true), (0x10c, 7, true), (0x110, 7, true)]);
        rows.inlined = vec![Block { from: 0x108, to: 0x110, of: 1 }];
        assert_eq!(rows.besides(0x104, 0x108, 16), [(0x110, 0x140)]);
        assert_eq!(rows.besides(0x108, 0x10c, 16), [(0x10c, 0x110)]);
        assert_eq!(rows.besides(0x10c, 0x110, 16), []);
    }

    #[test]
    fn nobody_comes_out_of_one_call_into_another_unseen() {
        let mut rows = told(&[(0x100, 6, true), (0x104, 7, true), (0x108, 7, true), (0x10c, 7, true)]);
        rows.rows[2].is_returned_to = true;
        rows.rows[3].returns = true;
        assert_eq!(rows.besides(0x104, 0x108, 16), [(0x108, 0x10c)]);
        assert_eq!(rows.besides(0x10c, 0x140, 16), [(0x104, 0x108)]);
        rows.rows[2].is_returned_to = false;
        assert_eq!(rows.besides(0x104, 0x108, 16), [(0x108, 0x140)]);
    }

    #[test]
    fn of_several_statements_at_an_address_the_last_counts_and_none_is_passed() {
        let mut first = row(0x104, 7, true);
        first.join(&row(0x104, 8, false));
        assert!(first.line == (1, 7) && first.is_passed(Some((1, 7))));
        first.join(&row(0x104, 9, true));
        assert!(first.line == (1, 9) && first.is_mixed && !first.is_passed(Some((1, 9))));
        let mut end = Row { is_end: true, ..row(0x104, 0, false) };
        end.join(&row(0x104, 8, true));
        assert!(end.line == (1, 8) && !end.is_end);
    }

    #[test]
    fn calls_and_returns_are_seen_in_the_code() {
        for code in [&[0xf7ff, 0xffdd][..], &[0x4798], &[0x478c], &[0xbf00, 0xf000, 0xf800]] {
            assert!(calls(code) && !returns(code), "{code:x?}");
        }
        for code in [&[0xbd10][..], &[0x4770], &[0x4774], &[0x46f7], &[0xe8bd, 0x8ff0], &[0xf85d, 0xfb04]] {
            assert!(returns(code) && !calls(code), "{code:x?}");
        }
        for code in
            [&[0xbc10][..], &[0xb002], &[0xe7f7], &[0xf89d, 0x0001], &[0xe8bd, 0x0ff0], &[0xf000, 0xb800]]
        {
            assert!(!returns(code) && !calls(code), "{code:x?}");
        }
    }

    #[test]
    fn a_program_without_tables_has_none() {
        assert!(Rows::of(&[]).is_none());
        assert!(Rows::of(&ELF[..52]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn whatever_the_file_is_it_is_read_or_not(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
            length in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
            asked in prop::collection::vec(any::<prop::sample::Index>(), 8),
        ) {
            let mut elf = ELF.to_vec();
            for (at, byte) in changes {
                let at = at.index(elf.len());
                elf[at] = byte;
            }
            if is_cut {
                elf.truncate(length.index(elf.len()));
            }
            if let Some(rows) = Rows::of(&elf) {
                for place in asked {
                    let place = place.index(rows.rows.len());
                    let from = rows.rows[place].at;
                    let to = rows.end(place).unwrap_or(u32::MAX);
                    let besides = rows.besides(from, to, 3);
                    prop_assert!(besides.len() <= 3 && besides.iter().all(|(from, to)| from < to));
                    prop_assert!(besides.iter().all(|range| range.1 <= from || to <= range.0));
                    prop_assert!(besides.windows(2).all(|pair| pair[0].1 < pair[1].0));
                }
            }
        }
    }
}
