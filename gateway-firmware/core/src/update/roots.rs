//! Roots that left the keyset are revoked in the first stage's record, so that it believes no keyset of theirs any more.
//!
//! Always holds: a root is revoked only when neither slot of the microvisor needs it, and no keyset in them names it. A device whose
//! journal was lost begins from the keyset of the slot that runs (`device::trust`): so it has one, and nobody who holds a revoked root
//! may sign what follows. Until then a stolen root that the keyset has
//! dropped is good for nothing over the network, and for a microvisor only to who writes the flash; a slot without a keyset that
//! counts would be worse: there would be nothing to fall back on.

use heapless::Vec;
use wire::KeyHash;
use wire::cbor::Reader;
use wire::keyset::{self, KeysetError, Provisioned};
use wire::limits::{KEYSET_BYTES_MAX, ROOT_KEYS_MAX};

use super::slots::Layout;
use crate::boot::first::{Record, Slot};
use crate::device::{Device, KeysetRefused, Notice};
use crate::mutation::mutated;
use crate::ports::{Board, Exchange, Firmware as _, Flash};
use crate::store::StoreError;

/// The keyset that goes with a slot, read but not believed; `into` has room for the longest.
pub(crate) fn read_keyset<'b, F: Flash>(
    exchange: &mut Exchange<'_, F>,
    slot: Slot,
    into: &'b mut [u8],
) -> Result<&'b [u8], KeysetRefused> {
    let Exchange { slots, layout, .. } = exchange;
    let at = Layout::of_microvisor(slots.geometry(), layout).keyset_at(slot.index(), layout);
    slots.read(at, into).map_err(StoreError::from)?;
    Ok(Reader::new(into).item().map_err(KeysetError::from)?)
}

/// Which provisioned roots stay, and the bitmap of those that go; `named`: the keyset names it.
fn sort(
    provisioned: &[KeyHash],
    revoked: u8,
    named: impl Fn(&KeyHash) -> bool,
) -> (Vec<KeyHash, ROOT_KEYS_MAX>, u8) {
    let mut unrevoked = (0..u8::BITS as u8).filter(|index| revoked >> index & 1 == 0);
    let (mut stay, mut go) = (Vec::new(), 0);
    for hash in provisioned {
        let Some(index) = unrevoked.next() else { break };
        if named(hash) {
            // Cannot fail: there are no more than were provisioned.
            let _ = stay.push(*hash);
        } else {
            go |= 1 << index;
        }
    }
    (stay, go)
}

impl<B: Board> Device<'_, B> {
    /// Revokes what the keyset no longer names, if both slots can do without. While nothing is staged: it uses the
    /// envelope's buffer.
    pub(crate) fn settle_roots(&mut self) {
        let Some(revoked) = self.revoked_roots() else { return };
        let Some((stay, go)) = self.dropped_roots(revoked) else { return };
        if go == 0 || stay.len() < usize::from(self.facts.root_threshold.max(1)) {
            return;
        }
        if !Slot::BOTH.into_iter().all(|slot| self.does_without(slot, &stay)) {
            return;
        }
        if self.change_record(|record, _| Record { revoked: record.revoked | go, ..record }).is_err() {
            return;
        }
        self.own.revoked |= go;
        self.facts.root_key_hashes = stay;
        self.note(Notice::RootsRevoked(go));
    }

    /// Provisioned roots that the first stage believes no more, bit n is root n; nothing without a first stage.
    pub(crate) fn revoked_roots(&self) -> Option<u8> {
        self.ports.firmware.handover().map(|handover| handover.revoked | self.own.revoked)
    }

    /// Which provisioned roots the keyset still names, and those it dropped.
    #[inline(never)]
    fn dropped_roots(&self, revoked: u8) -> Option<(Vec<KeyHash, ROOT_KEYS_MAX>, u8)> {
        let keyset = self.keyset()?;
        let named =
            |hash: &KeyHash| keyset.root_keys.iter().any(|key| key.hash().is_ok_and(|it| it == *hash));
        Some(sort(&self.facts.root_key_hashes, revoked, named))
    }

    /// Whether a slot is vouched for by these roots alone and names no other provisioned one, or holds nothing that runs.
    fn does_without(&mut self, slot: Slot, roots: &[KeyHash]) -> bool {
        match self.vouching(slot, roots) {
            Ok(names_no_other) => names_no_other || mutated!(RootsNamed),
            Err(KeysetRefused::Store(_)) => false,
            Err(KeysetRefused::Keyset(KeysetError::Threshold)) => mutated!(RootsInUse),
            Err(KeysetRefused::Keyset(_)) => true,
        }
    }

    /// Whether the keyset of a slot, signed by enough of these roots, is this tenant's and names no other provisioned one. Uses the
    /// envelope's buffer.
    #[inline(never)]
    pub(super) fn vouching(&mut self, slot: Slot, roots: &[KeyHash]) -> Result<bool, KeysetRefused> {
        self.envelope.clear();
        // Cannot fail: an envelope is longer than a keyset.
        let _ = self.envelope.resize_default(KEYSET_BYTES_MAX);
        let tenant = self.tenant_id();
        let mut exchange = self.ports.firmware.exchange().ok_or(KeysetError::Version)?;
        let keyset = read_keyset(&mut exchange, slot, self.envelope)?;
        let provisioned = Provisioned { root_key_hashes: roots, threshold: self.facts.root_threshold };
        let keyset = keyset::open_provisioned(keyset, &provisioned, &self.ports.verify)?;
        let goes = |hash| self.facts.root_key_hashes.contains(&hash) && !roots.contains(&hash);
        let names_other = keyset.root_keys.iter().any(|key| key.hash().is_ok_and(goes));
        Ok(tenant == Some(keyset.tenant) && !names_other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_provisioned_list_whatever_was_revoked_before() {
        let hash = |byte| KeyHash([byte; 32]);
        let provisioned = [hash(1), hash(2), hash(3)];
        let named = |named: &'static [u8]| move |it: &KeyHash| named.iter().any(|byte| *it == hash(*byte));
        assert_eq!(sort(&provisioned, 0, named(&[1, 2, 3])).1, 0);
        assert_eq!(sort(&provisioned, 0, named(&[1, 3])).1, 0b010);
        // The second of four was revoked before: the list has the others.
        let (stay, go) = sort(&provisioned, 0b0010, named(&[1]));
        assert_eq!((stay.as_slice(), go), ([hash(1)].as_slice(), 0b1100));
        assert_eq!(sort(&provisioned, 0b1101_1110, |_| false).1, 0b0010_0001, "no more than there are bits");
    }
}
