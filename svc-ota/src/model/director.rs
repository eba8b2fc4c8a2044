//! Which of a tenant's director keys does what. A device obeys the key that its keyset names, and not all devices hold the
//! newest keyset: while a key is being replaced there are two.
//!
//! Always holds: the key that the newest keyset names is never forgotten, nor one that no keyset names yet, and nothing is forgotten
//! while the governing key is not ours; a key that no keyset names yet is given again, not made again.

use wire::PublicKey;

/// Director keys a tenant has at once.
pub(crate) const DIRECTOR_KEYS_MAX: usize = 16;

/// The director key that a keyset names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) version: u32,
    pub(crate) key: PublicKey,
}

/// A tenant's director keys, oldest first, and what its keysets name, by version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directorship {
    pub(crate) held: Vec<PublicKey>,
    pub(crate) named: Vec<Named>,
}

/// What takes the place of the director key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Successor {
    /// Made before, and in no keyset yet.
    Made(PublicKey),
    ToBeMade,
    /// There are [`DIRECTOR_KEYS_MAX`].
    TooMany,
}

impl Directorship {
    /// The key that signs for devices that hold the newest keyset, if it is ours.
    pub(crate) fn governing(&self) -> Option<PublicKey> {
        let newest = self.named.last()?.key;
        self.held.contains(&newest).then_some(newest)
    }

    /// What a keyset is to name where nothing is to be replaced.
    pub(crate) fn current(&self) -> Option<PublicKey> {
        self.governing().or(self.held.last().copied())
    }

    pub(crate) fn successor(&self) -> Successor {
        match self.held.iter().rfind(|key| !self.is_named(key)) {
            Some(key) => Successor::Made(*key),
            None if self.held.len() >= DIRECTOR_KEYS_MAX => Successor::TooMany,
            None => Successor::ToBeMade,
        }
    }

    /// All that only older keysets name; none when the governing one is not ours.
    pub(crate) fn replaced(&self) -> Option<Vec<PublicKey>> {
        let governing = self.governing()?;
        let replaced = |key: &&PublicKey| **key != governing && self.is_named(key);
        Some(self.held.iter().filter(replaced).copied().collect())
    }

    /// Made to take the governing one's place, by a keyset that is not uploaded yet.
    pub(crate) fn waiting(&self) -> Option<PublicKey> {
        self.governing()?;
        self.held.iter().rfind(|key| !self.is_named(key)).copied()
    }

    /// Those that nobody obeys any more, when `oldest` is the lowest version of a keyset that a device holds; none: there is
    /// no device.
    pub(crate) fn idle(&self, oldest: Option<u32>) -> Vec<PublicKey> {
        let obeyed = |key: &PublicKey| {
            let mut named = self.named.iter().filter(|named| named.key == *key);
            named.any(|named| oldest.is_some_and(|oldest| named.version >= oldest))
        };
        let replaced = self.replaced().unwrap_or_default();
        replaced.into_iter().filter(|key| !obeyed(key)).collect()
    }

    fn is_named(&self, key: &PublicKey) -> bool {
        self.named.iter().any(|named| named.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not a point, and never taken for one here.
    fn key(number: u8) -> PublicKey {
        let mut bytes = [number; 33];
        bytes[0] = 2;
        PublicKey::from_compressed(&bytes).unwrap()
    }

    fn directorship(held: &[u8], named: &[u8]) -> Directorship {
        let named = named.iter().zip(1..).map(|(number, version)| Named { version, key: key(*number) });
        Directorship { held: held.iter().map(|number| key(*number)).collect(), named: named.collect() }
    }

    #[test]
    fn a_successor_is_made_once_and_given_until_a_keyset_names_it() {
        assert_eq!(directorship(&[], &[]).successor(), Successor::ToBeMade);
        assert_eq!(directorship(&[1], &[]).successor(), Successor::Made(key(1)));
        assert_eq!(directorship(&[1], &[1]).successor(), Successor::ToBeMade);
        assert_eq!(directorship(&[1, 2], &[1]).successor(), Successor::Made(key(2)));
        assert_eq!(directorship(&[1, 2], &[1, 2]).successor(), Successor::ToBeMade);
        // A backup brought the first key back, and the second one is lost.
        assert_eq!(directorship(&[1], &[1, 2]).successor(), Successor::ToBeMade);
    }

    #[test]
    fn no_more_than_the_limit_are_held() {
        let all: Vec<u8> = (1..=DIRECTOR_KEYS_MAX as u8).collect();
        let most = &all[..DIRECTOR_KEYS_MAX - 1];
        assert_eq!(directorship(most, most).successor(), Successor::ToBeMade);
        assert_eq!(directorship(&all, &all).successor(), Successor::TooMany);
        assert_eq!(directorship(&all, most).successor(), Successor::Made(key(DIRECTOR_KEYS_MAX as u8)));
    }

    #[test]
    fn the_newest_keysets_key_governs_if_it_is_ours() {
        assert_eq!(directorship(&[1, 2], &[1]).governing(), Some(key(1)));
        assert_eq!(directorship(&[1, 2], &[1]).current(), Some(key(1)));
        assert_eq!(directorship(&[1, 2], &[1, 2, 1]).governing(), Some(key(1)));
        assert_eq!(directorship(&[1], &[1, 2]).governing(), None);
        assert_eq!(directorship(&[1], &[1, 2]).current(), Some(key(1)));
        assert_eq!(directorship(&[], &[1]).current(), None);
    }

    #[test]
    fn a_key_is_idle_when_no_device_holds_a_keyset_that_names_it() {
        let two = directorship(&[1, 2], &[1, 1, 2]);
        // 0: it never said what it holds.
        for oldest in [0, 1, 2] {
            assert_eq!(two.idle(Some(oldest)), [], "one holds version {oldest}");
        }
        for oldest in [Some(3), Some(9), None] {
            assert_eq!(two.idle(oldest), [key(1)]);
        }
        assert_eq!(directorship(&[1, 2], &[1]).idle(None), [], "the successor waits for its keyset");
        assert_eq!(
            directorship(&[1], &[1, 2]).idle(None),
            [],
            "while the governing one is lost nothing is forgotten"
        );
        assert_eq!(directorship(&[1, 2], &[1, 2, 1]).idle(Some(3)), [key(2)]);
    }

    #[test]
    fn forgetting_at_once_spares_the_governing_key_and_the_one_that_waits_for_its_keyset() {
        let three = directorship(&[1, 2, 3], &[1, 2]);
        assert_eq!((three.replaced(), three.waiting()), (Some(vec![key(1)]), Some(key(3))));
        assert_eq!(directorship(&[1, 2], &[1, 2]).waiting(), None);
        assert_eq!(directorship(&[1], &[]).waiting(), None, "the first one: it takes nobody's place");
        assert_eq!(directorship(&[1], &[1]).replaced(), Some(vec![]));
        assert_eq!(directorship(&[1], &[1, 2]).replaced(), None);
    }
}
