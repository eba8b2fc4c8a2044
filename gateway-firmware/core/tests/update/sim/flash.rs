//! A flash in memory that counts, wears, and loses power.
//!
//! It is stricter than a real one: words touched by a torn write or an interrupted erase count as programmed even when
//! they happen to read blank, and every write over a programmed word is a violation, for both geometries. A cut happens
//! at the n-th erase or write; from then on every operation fails until the power is back.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use gateway_core::ports::{Flash, FlashError, Geometry};

use super::firmware::FIRMWARE_BYTES;

/// Bytes of every simulated store flash: two banks and two slots of 64 KiB.
const BYTES: u32 = 2 * 16 * 1024 + 2 * (8 * 1024 + 64 * 1024);
/// Behind them on the same chip, beyond what the core is told of: the first stage's record and the microvisor's slots.
pub(crate) const FIRMWARE_AT: u32 = BYTES;
pub(crate) const SMALL: Geometry =
    Geometry { bytes: BYTES, erase_bytes: 4096, write_bytes: 1, write_once: false };
pub(crate) const WRITE_ONCE: Geometry =
    Geometry { bytes: BYTES, erase_bytes: 8192, write_bytes: 16, write_once: true };
pub(crate) const GEOMETRIES: [Geometry; 2] = [SMALL, WRITE_ONCE];

/// What the operation during which power fails leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    NotDone,
    /// The first half of the bytes.
    HalfDone,
    /// Each word done, blank or random.
    RandomBits,
    /// The first half done, the rest cannot be read.
    Unreadable,
}

impl Mode {
    pub(crate) const ALL: [Mode; 4] = [Mode::NotDone, Mode::HalfDone, Mode::RandomBits, Mode::Unreadable];
}

/// Power fails during the `at`-th operation from now, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub at: u64,
    pub mode: Mode,
}

/// State of words is kept for this many bytes at least: no two records share so many.
const WORD_BYTES_MIN: u32 = 8;

#[derive(Debug, Clone)]
struct Chip {
    geometry: Geometry,
    cells: Vec<u8>,
    programmed: Vec<bool>,
    unreadable: Vec<bool>,
    unreadable_count: usize,
    erases: Vec<u32>,
    operations: u64,
    cut: Option<Cut>,
    is_dead: bool,
    protected: Option<Range<u32>>,
    violations: Vec<String>,
    /// The next write pretends to succeed and leaves other bytes.
    lies: bool,
    random: u64,
}

/// A handle; the chip stays when a device is dropped.
#[derive(Debug, Clone)]
pub(crate) struct SimFlash(Rc<RefCell<Chip>>);

impl SimFlash {
    pub(crate) fn new(geometry: Geometry) -> SimFlash {
        let bytes = geometry.bytes.max(FIRMWARE_AT) + FIRMWARE_BYTES;
        let words = (bytes / word_bytes(geometry)) as usize;
        SimFlash(Rc::new(RefCell::new(Chip {
            geometry,
            cells: vec![0xff; bytes as usize],
            programmed: vec![false; words],
            unreadable: vec![false; words],
            unreadable_count: 0,
            erases: vec![0; (bytes / geometry.erase_bytes) as usize],
            operations: 0,
            cut: None,
            is_dead: false,
            protected: None,
            violations: Vec::new(),
            lies: false,
            random: 1,
        })))
    }

    /// Another chip with the same content.
    pub(crate) fn fork(&self) -> SimFlash {
        SimFlash(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    pub(crate) fn cut(&self, cut: Cut) {
        let mut chip = self.0.borrow_mut();
        let at = chip.operations + cut.at;
        chip.random = at << 3 | cut.mode as u64;
        chip.cut = Some(Cut { at, ..cut });
    }

    pub(crate) fn power_on(&self) {
        let mut chip = self.0.borrow_mut();
        chip.cut = None;
        chip.is_dead = false;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.borrow().is_dead
    }

    /// Erases and writes so far.
    pub(crate) fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Erases of each sector so far.
    pub(crate) fn erases(&self) -> Vec<u32> {
        self.0.borrow().erases.clone()
    }

    /// Touching these bytes is a violation from now on.
    pub(crate) fn protect(&self, bytes: Option<Range<u32>>) {
        self.0.borrow_mut().protected = bytes;
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    /// Changes a byte as if cells had worn out.
    pub(crate) fn corrupt(&self, at: u32) {
        self.0.borrow_mut().cells[at as usize] ^= 0x55;
    }

    /// The next write leaves other bytes than asked for and reports success.
    pub(crate) fn lie_once(&self) {
        self.0.borrow_mut().lies = true;
    }

    /// Puts bytes there from outside.
    pub(crate) fn overwrite(&self, at: u32, bytes: &[u8]) {
        let mut chip = self.0.borrow_mut();
        let range = chip.range(at, bytes.len()).unwrap();
        chip.mark_programmed(&range);
        chip.cells[range].copy_from_slice(bytes);
    }
}

impl Flash for SimFlash {
    fn geometry(&self) -> Geometry {
        self.0.borrow().geometry
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let chip = self.0.borrow();
        let range = chip.range(at, into.len())?;
        if chip.unreadable_count > 0 && chip.unreadable[chip.words(&range)].contains(&true) {
            return Err(FlashError::Unreadable);
        }
        into.copy_from_slice(&chip.cells[range]);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.borrow_mut().write(at, bytes)
    }

    fn erase(&mut self, at: u32) -> Result<(), FlashError> {
        self.0.borrow_mut().erase(at)
    }
}

impl Chip {
    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let range = self.range(at, bytes.len())?;
        let unit = self.geometry.write_bytes;
        if !at.is_multiple_of(unit) || !(bytes.len() as u32).is_multiple_of(unit) || bytes.is_empty() {
            self.violations.push(format!("misaligned write at {at:#x}"));
            return Err(FlashError::Range);
        }
        self.check_touch(&range)?;
        if self.programmed[self.words(&range)].contains(&true) {
            self.violations.push(format!("write over programmed words at {at:#x}"));
            return Err(FlashError::NotBlank);
        }
        let mode = self.begin()?;
        let Some(mode) = mode else {
            self.mark_programmed(&range);
            self.cells[range.clone()].copy_from_slice(bytes);
            if std::mem::take(&mut self.lies) {
                self.cells[range.start] ^= 0x10;
            }
            return Ok(());
        };
        self.tear(range, mode, Some(bytes));
        Err(FlashError::Failed)
    }

    fn erase(&mut self, at: u32) -> Result<(), FlashError> {
        let size = self.geometry.erase_bytes;
        let range = self.range(at, size as usize)?;
        if !at.is_multiple_of(size) {
            self.violations.push(format!("misaligned erase at {at:#x}"));
            return Err(FlashError::Range);
        }
        self.check_touch(&range)?;
        let mode = self.begin()?;
        self.erases[(at / size) as usize] += 1;
        if let Some(mode) = mode {
            if mode != Mode::NotDone {
                // Cells of an interrupted erase are never to be relied on, blank or not.
                self.mark_programmed(&range);
            }
            self.tear(range, mode, None);
            return Err(FlashError::Failed);
        }
        let words = self.words(&range);
        self.programmed[words.clone()].fill(false);
        self.set_readable(words);
        self.cells[range].fill(0xff);
        Ok(())
    }

    /// Counts the operation; how power fails during it, if it does.
    fn begin(&mut self) -> Result<Option<Mode>, FlashError> {
        if self.is_dead {
            return Err(FlashError::Failed);
        }
        self.operations += 1;
        let mode = self.cut.filter(|cut| cut.at == self.operations).map(|cut| cut.mode);
        self.is_dead = mode.is_some();
        Ok(mode)
    }

    /// Leaves the range as the mode says; nothing to write means an erase.
    fn tear(&mut self, range: Range<usize>, mode: Mode, bytes: Option<&[u8]>) {
        let middle = range.len() / 2;
        let done = |index: usize| bytes.map_or(0xff, |bytes| bytes[index]);
        match mode {
            Mode::NotDone => {}
            Mode::HalfDone => {
                (0..middle).for_each(|index| self.cells[range.start + index] = done(index));
                self.mark_programmed(&(range.start..range.start + middle));
            }
            Mode::RandomBits => {
                let word_bytes = WORD_BYTES_MIN as usize;
                for word in (range.start..range.end).step_by(word_bytes) {
                    let fate = self.random() % 4;
                    let word = word..(word + word_bytes).min(range.end);
                    if fate > 0 {
                        self.mark_programmed(&word);
                    }
                    for index in word {
                        match fate {
                            0 => {}
                            1 => self.cells[index] = done(index - range.start),
                            _ => self.cells[index] = self.random() as u8,
                        }
                    }
                }
            }
            Mode::Unreadable => {
                (0..middle).for_each(|index| self.cells[range.start + index] = done(index));
                self.mark_programmed(&range);
                for word in self.words(&(range.start + middle..range.end)) {
                    self.unreadable_count += usize::from(!self.unreadable[word]);
                    self.unreadable[word] = true;
                }
            }
        }
    }

    fn check_touch(&mut self, range: &Range<usize>) -> Result<(), FlashError> {
        if let Some(protected) = &self.protected
            && range.start < protected.end as usize
            && (protected.start as usize) < range.end
            && !self.is_dead
        {
            self.violations.push(format!("the confirmed slot was touched at {:#x}", range.start));
            return Err(FlashError::Failed);
        }
        Ok(())
    }

    fn mark_programmed(&mut self, range: &Range<usize>) {
        let words = self.words(range);
        self.programmed[words].fill(true);
    }

    fn set_readable(&mut self, words: Range<usize>) {
        if self.unreadable_count > 0 {
            self.unreadable_count -= self.unreadable[words.clone()].iter().filter(|it| **it).count();
            self.unreadable[words].fill(false);
        }
    }

    fn range(&self, at: u32, len: usize) -> Result<Range<usize>, FlashError> {
        let end = at as usize + len;
        if end > self.cells.len() { Err(FlashError::Range) } else { Ok(at as usize..end) }
    }

    fn words(&self, range: &Range<usize>) -> Range<usize> {
        let word = word_bytes(self.geometry) as usize;
        range.start / word..range.end.div_ceil(word)
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

fn word_bytes(geometry: Geometry) -> u32 {
    geometry.write_bytes.max(WORD_BYTES_MIN)
}
