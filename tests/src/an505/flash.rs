//! The flash of a board without power, as a scenario changes it: what wears out, what was never there, what another firmware left.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use factory::map;
use factory::memory::Region;
use gateway_core::boot::first::Record;
use gateway_core::ports::Geometry;
use gateway_core::store::{Key, Store};
use gateway_core::update::slots::Layout;

/// Bytes that damage changes: more than any code would mend.
const DAMAGE_BYTES: usize = 32;
/// Bytes of one bank of the journal.
pub const BANK_BYTES: u32 = gateway_core::store::STORE_BANK_BYTES.next_multiple_of(map::ERASE_BYTES);

/// Changes every bit of a few bytes; done twice, they are as before.
pub fn spoil(flash: &Path, at: u32) -> Result<()> {
    change(flash, at, DAMAGE_BYTES, |bytes| bytes.iter_mut().for_each(|byte| *byte = !*byte))
}

/// Slot B of the microvisor becomes what slot A is.
pub fn fill_slot_b(flash: &Path) -> Result<()> {
    let file = open(flash)?;
    let mut slot = vec![0; map::SLOT_BYTES as usize];
    file.read_exact_at(&mut slot, map::SLOTS[0].into())?;
    file.write_all_at(&slot, map::SLOTS[1].into()).context("writing slot B")
}

/// Writes a record for the first stage, as a microvisor does.
pub fn write_record(flash: &Path, record: Record) -> Result<()> {
    change_units(flash, map::BOOT_RECORD, map::BOOT_RECORD_BYTES, |region| {
        record.write(region).ok().context("the record was not taken")
    })
}

/// Where the journal and the application's slots are, from the start of the flash.
pub fn store() -> Result<Layout> {
    let geometry = Geometry {
        bytes: map::STORE_BYTES,
        erase_bytes: map::ERASE_BYTES,
        write_bytes: 1,
        write_once: false,
    };
    let mut layout = Layout::new(geometry).ok().context("the store has room")?;
    layout.store_at += map::STORE;
    for place in &mut layout.slots {
        place.envelope_at += map::STORE;
        place.area_at += map::STORE;
    }
    Ok(layout)
}

/// Fills the journal as boots and updates do, up to so many bytes before its bank is full.
pub fn fill_journal(flash: &Path, left_bytes: u32) -> Result<()> {
    change(flash, map::STORE, map::STORE_BYTES as usize, |read| {
        let mut probe = read.to_vec();
        // Of a value put again and again one is left when the bank is full and the other one begins.
        let puts = (0..).take_while(|_| put_again(&mut probe).is_some_and(|bank| bank)).count();
        let left = left_bytes.div_ceil(PUT_BYTES) as usize;
        for _ in 0..puts.saturating_sub(left) {
            put_again(read);
        }
    })
}

/// Bytes of the record that says how many boots there were.
const PUT_BYTES: u32 = 16;

/// Puts the number of boots again; whether its bank had room for it, if there is a journal.
fn put_again(store: &mut [u8]) -> Option<bool> {
    let generations = |store: &[u8]| [0, BANK_BYTES as usize].map(|at| store[at..at + 16].to_vec());
    let before = generations(store);
    let mut region = Region::new(store, 0, map::STORE_BYTES)?;
    let mut journal = Store::mount(&mut region, 0).ok()?;
    let mut boots = [0; Key::Boot.bytes_max()];
    let boots = journal.read(&mut region, Key::Boot, &mut boots).ok()??.to_vec();
    journal.put(&mut region, Key::Boot, &boots).ok()?;
    Some(generations(store) == before)
}

fn change(flash: &Path, at: u32, bytes: usize, change: impl FnOnce(&mut [u8])) -> Result<()> {
    let (file, mut read) = (open(flash)?, vec![0; bytes]);
    file.read_exact_at(&mut read, at.into())?;
    change(&mut read);
    file.write_all_at(&read, at.into()).with_context(|| format!("writing {}", flash.display()))
}

fn change_units(
    flash: &Path,
    at: u32,
    bytes: u32,
    step: impl FnOnce(&mut Region<'_>) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    change(flash, at, bytes as usize, |read| {
        outcome = Region::new(read, 0, bytes).context("a region").and_then(|mut region| step(&mut region));
    })?;
    outcome
}

fn open(flash: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).open(flash).with_context(|| format!("opening {}", flash.display()))
}
