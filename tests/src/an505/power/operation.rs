//! What is done to flash, and what is left when the power fails in it.

use std::ops::Range;

use anyhow::{Context, Result};
use factory::map;

use crate::broker::random::Random;

/// One change of the flash, at an offset from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub at: u32,
    pub what: What,
}

/// What becomes of the cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A unit is all ones.
    Erase,
    /// The cells are these; bits were only cleared.
    Program(Vec<u8>),
}

/// How much of an operation was done when the power failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    NotDone,
    /// The first half of its bytes.
    Half,
    /// Of the bits that change some did, which follows from the seed.
    Bits,
}

/// A moment at which the power fails: in which operation of a recording, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cut {
    pub operation: usize,
    pub mode: Mode,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::NotDone, Mode::Half, Mode::Bits];
}

impl Operation {
    /// The cells it changes.
    pub fn range(&self) -> Range<usize> {
        let bytes = match &self.what {
            What::Erase => map::ERASE_BYTES as usize,
            What::Program(bytes) => bytes.len(),
        };
        self.at as usize..self.at as usize + bytes
    }

    /// Does it.
    pub fn apply(&self, flash: &mut [u8]) -> Result<()> {
        let cells = flash.get_mut(self.range()).context("beyond what is ever used")?;
        match &self.what {
            What::Erase => cells.fill(0xff),
            What::Program(bytes) => cells.copy_from_slice(bytes),
        }
        Ok(())
    }

    /// Does some of it.
    pub fn tear(&self, flash: &mut [u8], mode: Mode, random: &mut Random) -> Result<()> {
        let mut whole = flash.get(self.range()).context("beyond what is ever used")?.to_vec();
        let cells = flash.get_mut(self.range()).context("beyond what is ever used")?;
        match &self.what {
            What::Erase => whole.fill(0xff),
            What::Program(bytes) => whole.copy_from_slice(bytes),
        }
        match mode {
            Mode::NotDone => {}
            Mode::Half => {
                let half = cells.len().div_ceil(2);
                cells[..half].copy_from_slice(&whole[..half]);
            }
            Mode::Bits => {
                for (cell, new) in cells.iter_mut().zip(whole) {
                    *cell ^= (*cell ^ new) & random.number() as u8;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_torn_lies_between_before_and_after() -> Result<()> {
        let unit = map::ERASE_BYTES as usize;
        for what in [What::Erase, What::Program(vec![0; 9])] {
            let operation = Operation { at: 4096, what };
            let before = vec![0x5a; 3 * unit];
            let mut after = before.clone();
            operation.apply(&mut after)?;
            assert_eq!(before[..4096], after[..4096]);
            let mut seen = Vec::new();
            for mode in Mode::ALL {
                let mut torn = before.clone();
                operation.tear(&mut torn, mode, &mut Random::new(1, 2))?;
                let between =
                    |((torn, before), after): ((&u8, &u8), &u8)| (torn ^ before) & (torn ^ after) == 0;
                assert!(torn.iter().zip(&before).zip(&after).all(between));
                assert!(!seen.contains(&torn) && torn != after);
                seen.push(torn);
            }
            assert_eq!(seen[0], before);
        }
        let outside = Operation { at: 4096, what: What::Erase };
        assert!(outside.apply(&mut [0; 4097]).is_err());
        Ok(())
    }
}
