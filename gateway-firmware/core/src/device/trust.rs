//! What the device believes: who it is, its keyset, and a lower bound of the time. Each is one record of the store.

use wire::keyset::{self, Keyset, KeysetError, Provisioned};
use wire::limits::KEYSET_BYTES_MAX;
use wire::{DeviceId, TenantId};

use super::Device;
use super::api::{KeysetRefused, Notice};
use crate::mutation::mutated;
use crate::ports::{Board, Firmware as _, Ports};
use crate::store::{ENROLMENT_BYTES_MAX, IDENTITY_BYTES_MAX, Key, Store, StoreError};
use crate::update::roots::read_keyset;

/// The time bound is journaled when it has moved this far; in between it is only in memory.
pub(crate) const TIME_STEP_S: u64 = 24 * 60 * 60;
/// Device id and tenant id before the identity record.
const IDS_BYTES: usize = 32;
/// Room for an identity record as it is read.
pub const IDENTITY_RECORD_BYTES: usize = IDS_BYTES + IDENTITY_BYTES_MAX;

impl<B: Board> Device<'_, B> {
    pub fn device_id(&self) -> Option<DeviceId> {
        self.who.map(|(device, _)| device)
    }

    pub fn tenant_id(&self) -> Option<TenantId> {
        self.who.map(|(_, tenant)| tenant)
    }

    /// The record `enrolled` was given.
    pub fn identity_record<'b>(
        &mut self,
        into: &'b mut [u8; IDENTITY_RECORD_BYTES],
    ) -> Result<Option<&'b [u8]>, StoreError> {
        let record = self.store.read(&mut self.ports.flash, Key::Identity, into)?;
        Ok(record.and_then(|record| record.get(IDS_BYTES..)))
    }

    /// Keeps what enrolment or a renewal issued. A device without a keyset takes one here: that of the slot it runs from, if that is
    /// later than the tenant's first one; else the first one, checked against the root keys it was provisioned with. Under another id
    /// it owes nobody what the old one was directed to.
    // Each part is kept out of its caller: it needs a large frame once in a device's life.
    #[inline(never)]
    pub fn enrolled(
        &mut self,
        device: DeviceId,
        tenant: TenantId,
        record: &[u8],
        first_keyset: &[u8],
    ) -> Result<(), KeysetRefused> {
        match self.keyset_tenant() {
            Some(held) if held != tenant => return Err(KeysetError::Tenant.into()),
            Some(_) => {}
            None => self.take_first_keyset(first_keyset, tenant)?,
        }
        self.keep_identity(device, tenant, record)
    }

    #[inline(never)]
    fn keyset_tenant(&self) -> Option<TenantId> {
        self.keyset().map(|held| held.tenant)
    }

    #[inline(never)]
    fn keep_identity(
        &mut self,
        device: DeviceId,
        tenant: TenantId,
        record: &[u8],
    ) -> Result<(), KeysetRefused> {
        let mut bytes = [0; IDENTITY_RECORD_BYTES];
        let (ids, rest) = bytes.split_at_mut(IDS_BYTES);
        ids[..16].copy_from_slice(device.bytes());
        ids[16..].copy_from_slice(tenant.bytes());
        rest.get_mut(..record.len()).ok_or(StoreError::TooLong)?.copy_from_slice(record);
        if self.who.is_some_and(|(before, _)| before != device) {
            self.forget_results()?;
        }
        self.store.put(&mut self.ports.flash, Key::Identity, &bytes[..IDS_BYTES + record.len()])?;
        self.who = Some((device, tenant));
        Ok(())
    }

    /// An enrolment under way, as `save_enrolment` was given it.
    pub fn enrolment<'b>(
        &mut self,
        into: &'b mut [u8; ENROLMENT_BYTES_MAX],
    ) -> Result<Option<&'b [u8]>, StoreError> {
        self.store.read(&mut self.ports.flash, Key::Enrolment, into)
    }

    /// Keeps the state of an enrolment under way; empty forgets it.
    pub fn save_enrolment(&mut self, state: &[u8]) -> Result<(), StoreError> {
        self.store.put(&mut self.ports.flash, Key::Enrolment, state)
    }

    /// The keyset held.
    pub fn keyset(&self) -> Option<Keyset<'_>> {
        keyset::read(self.keyset).ok()
    }

    /// Its version; 0 for none.
    pub fn keyset_version(&self) -> u32 {
        self.keyset().map_or(0, |held| held.version)
    }

    /// Takes the next keyset, signed by the one held; returns its version. The first one comes with `enrolled`.
    pub fn offer_keyset(&mut self, bytes: &[u8]) -> Result<u32, KeysetRefused> {
        let version = {
            let held = keyset::read(self.keyset)?;
            keyset::open_next(bytes, &held, &self.ports.verify)?.version
        };
        self.keep_keyset(bytes, version)?;
        Ok(version)
    }

    /// A lower bound of the time, Unix seconds.
    pub fn time_bound_s(&self) -> u64 {
        self.time_bound_s
    }

    /// Believes a signed time; it never goes back.
    pub(crate) fn raise_time(&mut self, signed_s: u64) {
        self.time_heard = true;
        self.time_bound_s = self.time_bound_s.max(signed_s);
        if self.time_bound_s < self.time_kept_s.saturating_add(TIME_STEP_S) {
            return;
        }
        let bytes = self.time_bound_s.to_le_bytes();
        match self.store.put(&mut self.ports.flash, Key::Time, &bytes) {
            Ok(()) => self.time_kept_s = self.time_bound_s,
            Err(error) => self.note(Notice::StoreFailed(error)),
        }
    }

    /// Reads identity, keyset and time from the store; what cannot be read is as if it had never been.
    pub(crate) fn restore_trust(&mut self) {
        self.restore_keyset();
        if let Some(tenant) = self.keyset_tenant().filter(|_| self.own_keyset_is_later()) {
            // A part of the journal was lost, and it went back. If it cannot be taken, what is held is what there is.
            let _ = self.take_own_keyset(tenant);
        }
        let Ports { flash, .. } = &mut self.ports;
        self.who = read_who(&self.store, flash);
        let mut bytes = [0; 8];
        if let Ok(Some(_)) = self.store.read(flash, Key::Time, &mut bytes) {
            self.time_kept_s = u64::from_le_bytes(bytes);
            self.time_bound_s = self.time_bound_s.max(self.time_kept_s);
        }
    }

    /// Reads the keyset that the store has.
    pub(crate) fn restore_keyset(&mut self) {
        // Cannot fail: it is as long as it can be.
        let _ = self.keyset.resize_default(KEYSET_BYTES_MAX);
        let read = self.store.read(&mut self.ports.flash, Key::Keyset, self.keyset);
        let bytes = read.ok().flatten().map_or(0, <[u8]>::len);
        self.keyset.truncate(bytes);
    }

    /// The keyset of the slot that runs is later than what is held, or than the first where nothing is held.
    fn own_keyset_is_later(&self) -> bool {
        let held = self.keyset_version().max(1);
        self.ports.firmware.handover().is_some_and(|handover| handover.keyset_version > held)
            && !mutated!(OwnKeyset)
    }

    /// Takes the keyset of the slot that runs, which the first stage believed at this start. It went there from here, after all before
    /// it, or from the factory; what a device holds is older only when its journal was lost.
    #[inline(never)]
    fn take_own_keyset(&mut self, tenant: TenantId) -> Result<(), KeysetRefused> {
        let taken = self.keep_own_keyset(tenant);
        if taken.is_err() {
            self.restore_keyset();
        }
        taken
    }

    /// Its bytes pass through the place of what is held.
    fn keep_own_keyset(&mut self, tenant: TenantId) -> Result<(), KeysetRefused> {
        // Cannot fail: it is as long as it can be.
        let _ = self.keyset.resize_default(KEYSET_BYTES_MAX);
        let mut exchange = self.ports.firmware.exchange().ok_or(KeysetError::Version)?;
        let (slot, version) = (exchange.handover.slot, exchange.handover.keyset_version);
        let bytes = read_keyset(&mut exchange, slot, self.keyset)?.len();
        self.keyset.truncate(bytes);
        let provisioned = Provisioned {
            root_key_hashes: &self.facts.root_key_hashes,
            threshold: self.facts.root_threshold,
        };
        let own = keyset::open_provisioned(self.keyset, &provisioned, &self.ports.verify);
        let (owner, read) = own.map(|own| (own.tenant, own.version))?;
        if owner != tenant {
            return Err(KeysetError::Tenant.into());
        }
        if read != version {
            return Err(KeysetError::Version.into());
        }
        self.store.put(&mut self.ports.flash, Key::Keyset, self.keyset)?;
        self.keyset_accepted(version);
        Ok(())
    }

    #[inline(never)]
    fn take_first_keyset(&mut self, bytes: &[u8], tenant: TenantId) -> Result<(), KeysetRefused> {
        if self.own_keyset_is_later() {
            let taken = self.take_own_keyset(tenant);
            // The first one may name a root that is revoked by now: whoever holds that would sign the second.
            if taken.is_ok() || self.revoked_roots().is_some_and(|revoked| revoked != 0) {
                return taken;
            }
        }
        let provisioned = Provisioned {
            root_key_hashes: &self.facts.root_key_hashes,
            threshold: self.facts.root_threshold,
        };
        let first = keyset::open_first(bytes, &provisioned, &self.ports.verify)?;
        if first.tenant != tenant {
            return Err(KeysetError::Tenant.into());
        }
        self.keep_keyset(bytes, first.version)
    }

    fn keep_keyset(&mut self, bytes: &[u8], version: u32) -> Result<(), KeysetRefused> {
        if bytes.len() > KEYSET_BYTES_MAX {
            return Err(KeysetError::TooLong.into());
        }
        self.store.put(&mut self.ports.flash, Key::Keyset, bytes)?;
        self.keyset.clear();
        // Cannot fail: its length was checked above.
        let _ = self.keyset.extend_from_slice(bytes);
        self.keyset_accepted(version);
        Ok(())
    }

    fn keyset_accepted(&mut self, version: u32) {
        self.own.roots_due = true;
        self.note(Notice::KeysetAccepted(version));
    }
}

fn read_who(store: &Store, flash: &mut dyn crate::ports::Flash) -> Option<(DeviceId, TenantId)> {
    let mut bytes = [0; IDENTITY_RECORD_BYTES];
    let record = store.read(flash, Key::Identity, &mut bytes).ok()??;
    let (device, rest) = record.split_first_chunk()?;
    let (tenant, _) = rest.split_first_chunk()?;
    Some((DeviceId::new(*device), TenantId::new(*tenant)))
}
