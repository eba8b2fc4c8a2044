//! The making itself: a store as a factory leaves it, written by the code that will read it.
//!
//! Everything is checked as the device would check it before a byte is written: the keyset against the provisioned roots,
//! each application against the keyset, the board, the microvisor and the slot. A board makes nothing here; a tool does.

use heapless::String;
use wire::cose::Verify;
use wire::keyset::{self, Keyset, KeysetError, Provisioned};
use wire::manifest::{self, Component, Version};
use wire::msg::UpdateReason;
use wire::{Digest, KeyHash, key::Hasher};

use super::{Commission, Stage, Test};
use crate::ports::{Flash, FlashError};
use crate::store::{Health, Key, Store, StoreError};
use crate::update::check::{self, Here};
use crate::update::codec;
use crate::update::ledger::{LEDGER_BYTES_MAX, Ledger, Slot};
use crate::update::slots::{self, BLOCK, Layout, LayoutError};

/// An application: its signed envelope, and its area up to the last byte that is not blank.
#[derive(Debug, Clone, Copy)]
pub struct Application<'a> {
    pub envelope: &'a [u8],
    pub area: &'a [u8],
}

/// What a store is made of.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    pub board: &'a str,
    /// Of the microvisor that is to run it.
    pub microvisor: Version,
    pub root_key_hashes: &'a [KeyHash],
    pub root_threshold: u8,
    pub build_time_s: u64,
    /// The tenant's first one, signed.
    pub keyset: &'a [u8],
    /// What runs from the first start on, or after the test.
    pub first: Option<Application<'a>>,
    /// What tests the hardware before that.
    pub test: Option<Application<'a>>,
}

/// Which of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    First,
    Test,
}

/// Why there is no such store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    Keyset(KeysetError),
    /// The device would not install this.
    Application(Role, UpdateReason),
    Layout(LayoutError),
    Store(StoreError),
    Flash(FlashError),
}

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        Unfit::Store(error)
    }
}

impl From<FlashError> for Unfit {
    fn from(error: FlashError) -> Self {
        Unfit::Flash(error)
    }
}

impl Making<'_> {
    /// Checks everything, then writes it to a blank store flash.
    pub fn write(&self, flash: &mut dyn Flash, verify: &impl Verify) -> Result<(), Unfit> {
        let layout = Layout::new(flash.geometry()).map_err(Unfit::Layout)?;
        let provisioned =
            Provisioned { root_key_hashes: self.root_key_hashes, threshold: self.root_threshold };
        let keyset = keyset::open_first(self.keyset, &provisioned, verify).map_err(Unfit::Keyset)?;
        let judge = |role, application: Option<Application<'_>>| {
            let judged = application.map(|it| self.judge(&it, &layout, &keyset, verify)).transpose();
            judged.map_err(|reason| Unfit::Application(role, reason))
        };
        let first = judge(Role::First, self.first)?;
        let test = judge(Role::Test, self.test)?;

        let mut store = Store::mount(flash, layout.store_at)?;
        store.put(flash, Key::Keyset, self.keyset)?;
        let mut ledger = Ledger::default();
        if let (Some(application), Some(entry)) = (self.first, first) {
            place(flash, &layout, &ledger, &application, Role::First)?;
            // The three steps of every update, none of which waits for anything here. They fit an empty ledger.
            let _ = ledger.stage(Component::App, entry).and_then(|()| ledger.switch());
            let _ = ledger.confirm(self.build_time_s);
            store.put(flash, Key::Ledger, &codec::encode(&ledger))?;
        }
        if let (Some(application), Some(entry)) = (self.test, test) {
            let slot = place(flash, &layout, &ledger, &application, Role::Test)?;
            let Slot { manifest, envelope_bytes, .. } = entry;
            let test = Some(Test { slot, manifest, envelope_bytes });
            let commission = Commission { stage: Stage::Testing, test };
            store.put(flash, Key::Commission, &commission.encode())?;
        }
        Ok(())
    }

    /// The ledger's entry of an application that the device would install.
    fn judge(
        &self,
        application: &Application<'_>,
        layout: &Layout,
        keyset: &Keyset<'_>,
        verify: &impl Verify,
    ) -> Result<Slot, UpdateReason> {
        let Application { envelope, area } = *application;
        let target = manifest::read(envelope).map_err(check::reason)?.digest;
        let here = Here {
            component: Component::App,
            board: self.board,
            microvisor: self.microvisor,
            area_bytes: layout.area_bytes,
            floor: 0,
        };
        let manifest = check::examine(envelope, target, here, keyset, verify)?;
        if area_digest(area, manifest.area_bytes) != Some(manifest.area_digest) {
            return Err(UpdateReason::DigestMismatch);
        }
        Ok(Slot {
            manifest: manifest.digest,
            version: String::try_from(manifest.version).map_err(|_| UpdateReason::Malformed)?,
            security_counter: manifest.security_counter,
            envelope_bytes: envelope.len().try_into().map_err(|_| UpdateReason::TooLarge)?,
            ..Slot::default()
        })
    }
}

/// Writes an application into the slot that the ledger has to spare, and reads it back.
fn place(
    flash: &mut dyn Flash,
    layout: &Layout,
    ledger: &Ledger,
    application: &Application<'_>,
    role: Role,
) -> Result<u8, Unfit> {
    // Never none: nothing is on trial.
    let spare = ledger.spare().ok_or(Unfit::Flash(FlashError::Range))?;
    layout.write_envelope(flash, &spare, application.envelope)?;
    for (block, bytes) in (0..).zip(application.area.chunks(BLOCK as usize)) {
        layout.write_block(flash, &spare, block, bytes)?;
    }
    let mut written = Hasher::new();
    slots::hash(flash, &mut written, layout.block_at(spare.slot(), 0), application.area.len() as u32)?;
    if written.finish() != Digest::of(application.area) {
        return Err(Unfit::Application(role, UpdateReason::Flash));
    }
    Ok(spare.slot() as u8)
}

/// Of an area this long whose rest is blank; none if it is shorter than what it holds.
fn area_digest(area: &[u8], area_bytes: u32) -> Option<Digest> {
    let blank = (area_bytes as usize).checked_sub(area.len())?;
    let mut hasher = Hasher::new();
    hasher.update(area);
    const PIECE: [u8; 512] = [0xff; 512];
    let mut left = blank;
    while left > 0 {
        let piece = left.min(PIECE.len());
        hasher.update(&PIECE[..piece]);
        left -= piece;
    }
    Some(hasher.finish())
}

/// What a store holds, for whoever looks at a flash from outside.
#[derive(Debug, Clone)]
pub struct Look {
    /// `Formatted`: nothing was ever written.
    pub health: Health,
    pub commission: Commission,
    pub keyset_version: Option<u32>,
    pub ledger: Ledger,
}

/// Looks at a store as a device would that starts; give it a copy, for what is torn is mended there.
pub fn look(flash: &mut dyn Flash) -> Result<Look, Unfit> {
    let layout = Layout::new(flash.geometry()).map_err(Unfit::Layout)?;
    let store = Store::mount(flash, layout.store_at)?;
    let mut keyset = [0; wire::limits::KEYSET_BYTES_MAX];
    let keyset = store.read(flash, Key::Keyset, &mut keyset)?.and_then(|bytes| keyset::read(bytes).ok());
    let keyset_version = keyset.map(|keyset| keyset.version);
    let mut bytes = [0; LEDGER_BYTES_MAX];
    let ledger = store.read(flash, Key::Ledger, &mut bytes)?.and_then(codec::decode);
    let mut bytes = [0; super::COMMISSION_BYTES_MAX];
    let commission = store.read(flash, Key::Commission, &mut bytes)?.and_then(Commission::decode);
    Ok(Look {
        health: store.health(),
        commission: commission.unwrap_or_default(),
        keyset_version,
        ledger: ledger.unwrap_or_default(),
    })
}
