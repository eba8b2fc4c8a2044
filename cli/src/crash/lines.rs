//! Addresses as functions and lines, inlined calls included, by the program's DWARF.
//!
//! `addr2line` walks calls that were inlined into each other by calling itself: a file that nests them as deep as it is long would end this
//! process for want of stack. So nesting is measured first, and a file beyond any compiler's has no lines.

use gimli::Dwarf;

use super::elf::{Program, Slice};

/// Nesting of debugging entries; compilers stay far below a hundred.
const DEPTH_MAX: isize = 1024;
/// Inlined calls told of one address.
const INLINED_MAX: usize = 64;
/// Characters of a name or path that are told.
const NAME_CHARS_MAX: usize = 512;

/// Where an address is in the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Place {
    /// Empty when nothing tells.
    pub(crate) function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u32>,
    /// Inlined into the next one.
    pub(crate) inlined: bool,
}

pub(super) struct Lines<'a> {
    context: addr2line::Context<Slice<'a>>,
}

impl<'a> Lines<'a> {
    /// None for a program without debugging information that can be read.
    pub(super) fn open(program: &Program<'a>) -> Option<Lines<'a>> {
        let load = |id: gimli::SectionId| Ok::<_, gimli::Error>(program.section(id.name()));
        let dwarf = Dwarf::load(load).ok()?;
        if dwarf.debug_info.units().next().ok()?.is_none() || !is_shallow(&dwarf)? {
            return None;
        }
        Some(Lines { context: addr2line::Context::from_dwarf(dwarf).ok()? })
    }

    /// The innermost first; the last one is not inlined.
    pub(super) fn places(&self, address: u32) -> Vec<Place> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.context.find_frames(u64::from(address)).skip_all_loads() else {
            return places;
        };
        while let Ok(Some(frame)) = frames.next() {
            if places.len() == INLINED_MAX {
                break;
            }
            let function = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let location = frame.location.as_ref();
            places.push(Place {
                function: function.map(|name| cut(&name)).unwrap_or_default(),
                file: location.and_then(|location| location.file).map(cut),
                line: location.and_then(|location| location.line).filter(|line| *line > 0),
                inlined: true,
            });
        }
        if let Some(last) = places.last_mut() {
            last.inlined = false;
        }
        places
    }
}

pub(super) fn is_shallow(dwarf: &Dwarf<Slice<'_>>) -> Option<bool> {
    let mut units = dwarf.units();
    while let Some(header) = units.next().ok()? {
        let abbreviations = dwarf.abbreviations(&header).ok()?;
        let mut entries = header.entries_raw(&abbreviations, None).ok()?;
        while !entries.is_empty() {
            if entries.next_depth() > DEPTH_MAX {
                return Some(false);
            }
            if let Some(abbreviation) = entries.read_abbreviation().ok()? {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
            }
        }
    }
    Some(true)
}

/// A symbol's name as its language has it.
pub(super) fn readable(name: &str) -> String {
    cut(&addr2line::demangle_auto(name.into(), None))
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}
