//! Where gdb, stepping a line, goes on without showing anybody that it stopped: the line tables of a program.
//!
//! gdb asks for one row of the tables at a time: what follows in the same line, and what is of another line but not the start of a statement, it
//! steps through by itself (`process_event_stop_test` in its infrun.c). All of these together are one range to the device.
//!
//! A range too few costs a round trip; one too many, and `next` runs past a line. So whatever is in doubt is none: another function, another
//! chain of inlined calls, a place where such a call begins, a row without a line.

use gimli::{EndianSlice, LittleEndian};
use object::read::elf::ElfFile32;
use object::{LittleEndian as Little, Object as _, ObjectSection as _};

/// Rows of all tables that are read; a program with more has none.
const ROWS_MAX: usize = 1 << 20;
/// Ranges of functions, and as many of calls that were inlined.
const BLOCKS_MAX: usize = 1 << 18;
/// Rows of one function that are looked at.
const LOOKED_AT_MAX: usize = 4096;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
/// In one compilation unit: its number, the file's, and the line.
type Line = (u32, u64, u64);

/// What the tables say of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    at: u32,
    /// The last statement that begins here, if any does.
    statement: Option<Line>,
    /// Statements of several lines begin here.
    is_mixed: bool,
    /// Something is said of it, and always with a line.
    has_line: bool,
}

/// All there are.
#[derive(Debug)]
pub(crate) struct Rows {
    /// By address, each once.
    rows: Vec<Row>,
    /// Of functions, from an address up to another.
    functions: Vec<(u32, u32)>,
    /// Of calls that were inlined; each with a number that all ranges of one call have.
    inlined: Vec<(u32, u32, u32)>,
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
        let dwarf = gimli::Dwarf::load(section).ok()?;
        let mut rows = Rows { rows: Vec::new(), functions: Vec::new(), inlined: Vec::new() };
        let (mut units, mut number) = (dwarf.units(), 0);
        while let Some(header) = units.next().ok()? {
            let unit = dwarf.unit(header).ok()?;
            rows.read_lines(&unit, number)?;
            rows.read_blocks(&dwarf, &unit)?;
            number += 1;
        }
        rows.rows.sort_by_key(|row| row.at);
        rows.rows.dedup_by(|next, row| next.at == row.at && row.join(next));
        rows.functions.sort_unstable();
        (!rows.rows.is_empty()).then_some(rows)
    }

    fn read_lines(&mut self, unit: &gimli::Unit<Slice<'_>>, number: u32) -> Option<()> {
        let Some(program) = unit.line_program.clone() else { return Some(()) };
        let mut lines = program.rows();
        while let Ok(Some((_, row))) = lines.next_row() {
            if self.rows.len() >= ROWS_MAX {
                return None;
            }
            let Ok(at) = u32::try_from(row.address()) else { continue };
            let line = row.line().map(|line| (number, row.file_index(), line.get()));
            let line = line.filter(|_| !row.end_sequence());
            let statement = line.filter(|_| row.is_stmt());
            self.rows.push(Row { at, statement, is_mixed: false, has_line: line.is_some() });
        }
        Some(())
    }

    fn read_blocks<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Slice<'a>>,
        unit: &gimli::Unit<Slice<'a>>,
    ) -> Option<()> {
        let mut entries = unit.entries();
        let mut number = u32::try_from(self.inlined.len()).ok()?;
        while let Some((_, entry)) = entries.next_dfs().ok()? {
            let is_function = entry.tag() == gimli::DW_TAG_subprogram;
            if !is_function && entry.tag() != gimli::DW_TAG_inlined_subroutine {
                continue;
            }
            number += 1;
            let mut ranges = dwarf.die_ranges(unit, entry).ok()?;
            while let Some(range) = ranges.next().ok()? {
                let (Ok(from), Ok(to)) = (u32::try_from(range.begin), u32::try_from(range.end)) else {
                    continue;
                };
                if self.functions.len().max(self.inlined.len()) >= BLOCKS_MAX {
                    return None;
                }
                if is_function {
                    self.functions.push((from, to));
                } else {
                    self.inlined.push((from, to, number));
                }
            }
        }
        Some(())
    }

    /// Ranges besides this one, which is to be a row or several of one line, through which gdb would go on by itself; at most so many, those that are nearest.
    pub(crate) fn besides(&self, from: u32, to: u32, most: usize) -> Vec<(u32, u32)> {
        self.all_besides(from, to, most).unwrap_or_default()
    }

    fn all_besides(&self, from: u32, to: u32, most: usize) -> Option<Vec<(u32, u32)>> {
        let place = self.rows.binary_search_by_key(&from, |row| row.at).ok()?;
        let first = self.rows[place];
        // Of several gdb takes the last.
        let line = first.statement.filter(|_| first.has_line)?;
        // gdb makes one of several of a line, as where it has discriminators (`dwarf_record_line_p` in its dwarf2/read.c).
        let last =
            self.rows[place + 1..].iter().take(LOOKED_AT_MAX).find(|row| row.at >= to || !row.is_of(line))?;
        if last.at != to {
            return None;
        }
        let holds = |&&(start, end): &&(u32, u32)| (start..end).contains(&from);
        let function = *self.functions.iter().filter(holds).min_by_key(|(start, end)| end - start)?;
        let calls = self.calls_at(function, from);
        let begin = self.rows.partition_point(|row| row.at <= function.0);
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for pair in self.rows[begin..].windows(2).take(LOOKED_AT_MAX) {
            let (row, end) = (pair[0], pair[1].at);
            if end > function.1 {
                break;
            }
            let is_known = (from..to).contains(&row.at);
            if is_known || !row.is_of(line) || !self.is_in(&calls, function, row.at, end) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.1 == row.at => last.1 = end,
                _ => ranges.push((row.at, end)),
            }
        }
        ranges.sort_by_key(|(start, _)| start.abs_diff(from));
        ranges.truncate(most);
        ranges.sort_unstable();
        Some(ranges)
    }

    /// Calls inlined into a function that an address is in: their ranges' numbers, of which each call has one.
    fn calls_at(&self, function: (u32, u32), at: u32) -> Vec<u32> {
        let holds = |&&(from, to, _): &&(u32, u32, u32)| {
            (from..to).contains(&at) && function.0 <= from && to <= function.1
        };
        self.inlined.iter().filter(holds).map(|(.., number)| *number).collect()
    }

    /// All of a range is in these calls, and in no others; none begins there.
    fn is_in(&self, calls: &[u32], function: (u32, u32), from: u32, to: u32) -> bool {
        let begins =
            |&(start, end, _): &(u32, u32, u32)| (from..to).contains(&start) || from < end && end < to;
        !self.inlined.iter().any(begins) && self.calls_at(function, from) == calls
    }
}

impl Row {
    /// Nobody who steps this line is shown that it comes here.
    fn is_of(&self, line: Line) -> bool {
        self.has_line && !self.is_mixed && self.statement.is_none_or(|it| it == line)
    }

    /// Takes in what else is said of the same address.
    fn join(&mut self, other: &Row) -> bool {
        self.is_mixed |= other.is_mixed
            || self.statement.zip(other.statement).is_some_and(|(one, another)| one != another);
        self.statement = other.statement.or(self.statement);
        self.has_line &= other.has_line;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::model::ELF;
    use proptest::prelude::*;

    fn rows() -> Rows {
        Rows::of(ELF).unwrap()
    }

    #[test]
    fn a_line_in_pieces_is_stepped_as_one() {
        let rows = rows();
        // Line 30 of program.c is the call of `twice` and, behind the loop, the end of it; line 32 is of two rows.
        assert_eq!(rows.besides(0x0020_0064, 0x0020_0074, 16), [(0x0020_0088, 0x0020_0094)]);
        assert_eq!(rows.besides(0x0020_0088, 0x0020_0094, 16), [(0x0020_0064, 0x0020_0074)]);
        assert_eq!(rows.besides(0x0020_007a, 0x0020_0080, 16), [(0x0020_0080, 0x0020_0088)]);
        // Both rows asked for as one are known; of no more than there may be the nearest are kept.
        assert_eq!(rows.besides(0x0020_007a, 0x0020_0088, 16), []);
        assert_eq!(rows.besides(0x0020_0064, 0x0020_0074, 0), []);
    }

    #[test]
    fn what_is_no_row_of_one_line_has_nothing_besides() {
        let rows = rows();
        for (from, to) in [(0x0020_0064, 0x0020_0070), (0x0020_0066, 0x0020_0074), (0x0020_0064, 0x0020_007a)]
        {
            assert_eq!(rows.besides(from, to, 16), [], "{from:x} to {to:x}");
        }
        assert_eq!(rows.besides(0, u32::MAX, 16), []);
        assert_eq!(rows.besides(u32::MAX, 0, 16), []);
    }

    #[test]
    fn no_statement_of_another_line_is_ever_stepped_over() {
        let rows = rows();
        for pair in rows.rows.windows(2) {
            let line = pair[0].statement;
            for (from, to) in rows.besides(pair[0].at, pair[1].at, 16) {
                let passed = rows.rows.iter().filter(|row| (from..to).contains(&row.at));
                assert!(passed.clone().all(|row| row.statement.is_none() || row.statement == line));
                assert!(rows.functions.iter().all(|function| !(from..to).contains(&function.0)));
            }
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
            asked in prop::collection::vec((0x0020_0000u32..0x0020_00a0, 0x0020_0000u32..0x0020_00a0), 8),
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
                for (from, to) in asked {
                    let besides = rows.besides(from, to, 3);
                    prop_assert!(besides.len() <= 3 && besides.iter().all(|(from, to)| from < to));
                }
            }
        }
    }
}
