//! What an operation is about, by where it lies: the chip's map, and the core's layout of the store.

use std::fmt;

use anyhow::{Context, Result};
use factory::map;

use super::operation::{Operation, What};
use crate::an505::flash::{BANK_BYTES, store};

/// A part of the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Provisioning,
    BootRecord,
    Counter,
    Identity,
    /// A slot of the microvisor's: its keyset, its envelope, its image.
    SlotKeyset(usize),
    SlotEnvelope(usize),
    SlotImage(usize),
    /// What makes a bank of the journal count, or no more.
    BankHeader(usize),
    /// Records of a bank.
    Journal(usize),
    AppEnvelope(usize),
    AppArea(usize),
    /// Used by nobody.
    Gap,
}

/// A part, and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    pub part: Part,
    pub erases: bool,
}

/// Bytes at the start of a bank that make it count.
const HEADER_BYTES: u32 = 16;

impl Part {
    /// Whose an offset is.
    pub fn of(at: u32) -> Result<Part> {
        let layout = store()?;
        let mut parts = vec![
            (map::PROVISION, map::PROVISION_BYTES, Part::Provisioning),
            (map::BOOT_RECORD, map::BOOT_RECORD_BYTES, Part::BootRecord),
            (map::COUNTER, map::COUNTER_BYTES, Part::Counter),
            (map::IDENTITY, map::IDENTITY_BYTES, Part::Identity),
        ];
        for (index, slot) in map::SLOTS.into_iter().enumerate() {
            let keyset = (slot + map::SLOT_KEYSET, map::SLOT_ENVELOPE - map::SLOT_KEYSET);
            let envelope = (slot + map::SLOT_ENVELOPE, map::SLOT_IMAGE - map::SLOT_ENVELOPE);
            let image = (slot + map::SLOT_IMAGE, map::SLOT_BYTES - map::SLOT_IMAGE);
            let named = [Part::SlotKeyset(index), Part::SlotEnvelope(index), Part::SlotImage(index)];
            parts.extend(
                [keyset, envelope, image].into_iter().zip(named).map(|((at, n), part)| (at, n, part)),
            );
        }
        for (index, place) in layout.slots.iter().enumerate() {
            let bank = layout.store_at + index as u32 * BANK_BYTES;
            parts.push((bank, HEADER_BYTES, Part::BankHeader(index)));
            parts.push((bank + HEADER_BYTES, BANK_BYTES - HEADER_BYTES, Part::Journal(index)));
            parts.push((place.envelope_at, place.area_at - place.envelope_at, Part::AppEnvelope(index)));
            parts.push((place.area_at, layout.area_bytes, Part::AppArea(index)));
        }
        let found = parts.into_iter().find(|(start, bytes, _)| (*start..start + bytes).contains(&at));
        Ok(found.map_or(Part::Gap, |(.., part)| part))
    }

    /// Whether it is a body of data, of which one operation is like the next.
    pub fn is_data(self) -> bool {
        matches!(self, Part::SlotImage(_) | Part::AppArea(_))
    }
}

impl Class {
    pub fn of(operation: &Operation) -> Result<Class> {
        let part = Part::of(operation.at).context("the layout")?;
        Ok(Class { part, erases: operation.what == What::Erase })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.erases { "erase" } else { "program" };
        let slot = |index: usize| if index == 0 { 'a' } else { 'b' };
        match self.part {
            Part::Provisioning => write!(f, "{verb} provisioning"),
            Part::BootRecord => write!(f, "{verb} boot record"),
            Part::Counter => write!(f, "{verb} counter"),
            Part::Identity => write!(f, "{verb} identity"),
            Part::SlotKeyset(index) => write!(f, "{verb} microvisor slot {} keyset", slot(index)),
            Part::SlotEnvelope(index) => write!(f, "{verb} microvisor slot {} envelope", slot(index)),
            Part::SlotImage(index) => write!(f, "{verb} microvisor slot {} image", slot(index)),
            Part::BankHeader(index) => write!(f, "{verb} bank {index} header"),
            Part::Journal(index) => write!(f, "{verb} bank {index} records"),
            Part::AppEnvelope(index) => write!(f, "{verb} application {index} envelope"),
            Part::AppArea(index) => write!(f, "{verb} application {index} area"),
            Part::Gap => write!(f, "{verb} gap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_is_of_one_part_and_the_edges_are_where_the_map_says() -> Result<()> {
        for (at, part) in [
            (0, Part::Gap),
            (map::PROVISION - 1, Part::Gap),
            (map::PROVISION, Part::Provisioning),
            (map::BOOT_RECORD - 1, Part::Provisioning),
            (map::BOOT_RECORD, Part::BootRecord),
            (map::COUNTER, Part::Counter),
            (map::IDENTITY + map::IDENTITY_BYTES - 1, Part::Identity),
            (map::SLOTS[0], Part::SlotKeyset(0)),
            (map::SLOTS[0] + map::SLOT_ENVELOPE, Part::SlotEnvelope(0)),
            (map::SLOTS[1] - 1, Part::SlotImage(0)),
            (map::SLOTS[1] + map::SLOT_IMAGE, Part::SlotImage(1)),
            (map::STORE, Part::BankHeader(0)),
            (map::STORE + HEADER_BYTES, Part::Journal(0)),
            (map::STORE + BANK_BYTES, Part::BankHeader(1)),
            (map::STORE + 2 * BANK_BYTES, Part::AppEnvelope(0)),
            (map::STORE + map::STORE_BYTES - 1, Part::AppArea(1)),
            (map::STORE + map::STORE_BYTES, Part::Gap),
        ] {
            assert_eq!(Part::of(at)?, part, "{at:#x}");
        }
        Ok(())
    }
}
