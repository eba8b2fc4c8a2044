//! What the next keyset says: the one before and what is to change. Pure: no file, no network, no signature.
//!
//! Always holds: what comes out differs from what went in, is the next version, and can be followed by another keyset (a
//! release key is left, and as many root keys as the threshold asks for). [`difference`] says it in words.

use wire::keyset::Keyset;
use wire::limits::{BROKER_ANCHORS_MAX, RELEASE_KEYS_MAX, ROOT_KEYS_MAX};
use wire::sign::{KeysetSpec, ReleaseKeySpec};
use wire::{Digest, PublicKey};

/// Hex digits of a key's id that must be given at least.
pub(crate) const KEY_ID_DIGITS_MIN: usize = 6;
/// Hex digits of a key's id in sentences.
const SHORT_DIGITS: usize = 16;

/// One thing to change. Keys that are there already are named by their id or the beginning of it.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    AddRoot(PublicKey),
    AddRelease(ReleaseKeySpec),
    AddBroker(Vec<u8>),
    Revoke(String),
    RotateRoot(String, PublicKey),
    RotateRelease(String, PublicKey),
    Director(PublicKey),
    /// In place of all there are.
    Brokers(Vec<u8>),
    Threshold(u8),
}

/// Why there is no such keyset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(
        "`{0}` is not a key's id: write at least {KEY_ID_DIGITS_MIN} of its hex digits, as `keyset show` prints them"
    )]
    NotAnId(String),
    #[error("the keyset has no {0} key {1}")]
    Unknown(&'static str, String),
    #[error("{0} keys of the keyset begin with {1}: write more digits")]
    Ambiguous(usize, String),
    #[error("{0} is the director key: it is replaced, not revoked (`holdfast keys rotate --director`)")]
    IsDirector(String),
    #[error("the keyset has this {0} key already: {1}")]
    Twice(&'static str, String),
    #[error("no release key would be left, and nothing could be installed any more: add another first")]
    LastRelease,
    #[error("{roots} root keys would be left, and {threshold} must sign: change that too with --threshold")]
    Threshold { roots: usize, threshold: u8 },
    #[error("a keyset has at most {1} {0}")]
    TooMany(&'static str, usize),
    #[error("the next keyset would say what this one says")]
    Nothing,
    #[error("this was the last version there can be")]
    LastVersion,
}

/// A keyset as it can be changed.
pub(crate) fn spec_of(keyset: &Keyset<'_>) -> KeysetSpec {
    let release = |release: &wire::keyset::ReleaseKey<'_>| ReleaseKeySpec {
        key: release.key,
        component: release.component,
        board: release.board.map(str::to_owned),
    };
    KeysetSpec {
        tenant: keyset.tenant,
        version: keyset.version,
        root_keys: keyset.root_keys.to_vec(),
        root_threshold: keyset.root_threshold,
        release_keys: keyset.release_keys.iter().map(release).collect(),
        director_key: keyset.director_key,
        crash_key: keyset.crash_key,
        broker_anchors: keyset.broker_anchors.iter().map(|anchor| anchor.to_vec()).collect(),
    }
}

/// The keyset after `old`, all changes made in their order.
pub(crate) fn next(old: &KeysetSpec, changes: &[Change]) -> Result<KeysetSpec, ChangeError> {
    let mut new = old.clone();
    changes.iter().try_for_each(|change| apply(&mut new, change))?;
    if new == *old {
        return Err(ChangeError::Nothing);
    }
    if new.release_keys.is_empty() {
        return Err(ChangeError::LastRelease);
    }
    for (what, count, max) in [
        ("root keys", new.root_keys.len(), ROOT_KEYS_MAX),
        ("release keys", new.release_keys.len(), RELEASE_KEYS_MAX),
        ("broker CAs", new.broker_anchors.len(), BROKER_ANCHORS_MAX),
    ] {
        if count > max {
            return Err(ChangeError::TooMany(what, max));
        }
    }
    if !(1..=new.root_keys.len()).contains(&usize::from(new.root_threshold)) {
        return Err(ChangeError::Threshold { roots: new.root_keys.len(), threshold: new.root_threshold });
    }
    new.version = old.version.checked_add(1).ok_or(ChangeError::LastVersion)?;
    Ok(new)
}

/// The first stage of a board believes root keys by the hashes it was made with, those of the first keyset: a keyset that names
/// fewer of them than must sign can vouch for no microvisor there.
pub(crate) fn strands_first_stages(first: &KeysetSpec, new: &KeysetSpec) -> bool {
    let provisioned = first.root_keys.iter().filter(|key| new.root_keys.contains(key)).count();
    provisioned < usize::from(first.root_threshold)
}

/// Devices that take it would believe no broker they believed before.
pub(crate) fn strands_connections(old: &KeysetSpec, new: &KeysetSpec) -> bool {
    !new.broker_anchors.iter().any(|anchor| old.broker_anchors.contains(anchor))
}

/// What changes from one keyset to the next, a line each.
pub(crate) fn difference(old: &KeysetSpec, new: &KeysetSpec) -> Vec<String> {
    let mut lines = Vec::new();
    both_ways(&old.root_keys, &new.root_keys, |key| format!("root key {}", short(key)), &mut lines);
    if old.root_threshold != new.root_threshold {
        lines.push(format!(
            "root keys that must sign: {} instead of {}",
            new.root_threshold, old.root_threshold
        ));
    }
    both_ways(&old.release_keys, &new.release_keys, describe_release, &mut lines);
    if old.director_key != new.director_key {
        let (old, new) = (short(&old.director_key), short(&new.director_key));
        lines.push(format!("director key {new} instead of {old}"));
    }
    let broker = |anchor: &Vec<u8>| {
        let digest = Digest::of(anchor).to_string();
        format!("broker CA {}", digest.get(..SHORT_DIGITS).unwrap_or_default())
    };
    both_ways(&old.broker_anchors, &new.broker_anchors, broker, &mut lines);
    lines
}

/// A release key with what it is good for.
pub(crate) fn describe_release(release: &ReleaseKeySpec) -> String {
    let component = release.component.map_or("any component", wire::manifest::Component::name);
    format!(
        "release key {} for {component} on {}",
        short(&release.key),
        release.board.as_deref().unwrap_or("any board")
    )
}

/// A key's id as `keyset show` prints it: the whole SHA-256.
pub(crate) fn id(key: &PublicKey) -> String {
    // A key off the curve is in no keyset that was accepted.
    key.hash().map(|hash| hex::encode(hash.0)).unwrap_or_default()
}

/// The beginning of a key's id.
pub(crate) fn short(key: &PublicKey) -> String {
    id(key).get(..SHORT_DIGITS).unwrap_or_default().to_owned()
}

fn apply(new: &mut KeysetSpec, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::AddRoot(key) => {
            if new.root_keys.contains(key) {
                return Err(ChangeError::Twice("root", short(key)));
            }
            new.root_keys.push(*key);
        }
        Change::AddRelease(release) => {
            if new.release_keys.contains(release) {
                return Err(ChangeError::Twice("release", short(&release.key)));
            }
            new.release_keys.push(release.clone());
        }
        Change::AddBroker(anchor) => {
            if !new.broker_anchors.contains(anchor) {
                new.broker_anchors.push(anchor.clone());
            }
        }
        Change::Revoke(id) => {
            let key =
                find(id, "root or release", &[roots(new), releases(new), vec![new.director_key]].concat())?;
            if key == new.director_key {
                return Err(ChangeError::IsDirector(short(&key)));
            }
            new.root_keys.retain(|root| *root != key);
            new.release_keys.retain(|release| release.key != key);
        }
        Change::RotateRoot(old, key) => {
            let old = find(old, "root", &roots(new))?;
            if new.root_keys.contains(key) {
                return Err(ChangeError::Twice("root", short(key)));
            }
            new.root_keys.iter_mut().filter(|root| **root == old).for_each(|root| *root = *key);
        }
        Change::RotateRelease(old, key) => {
            let old = find(old, "release", &releases(new))?;
            if releases(new).contains(key) {
                return Err(ChangeError::Twice("release", short(key)));
            }
            new.release_keys.iter_mut().filter(|it| it.key == old).for_each(|it| it.key = *key);
        }
        Change::Director(key) => new.director_key = *key,
        Change::Brokers(anchor) => new.broker_anchors = vec![anchor.clone()],
        Change::Threshold(threshold) => new.root_threshold = *threshold,
    }
    Ok(())
}

fn roots(spec: &KeysetSpec) -> Vec<PublicKey> {
    spec.root_keys.clone()
}

fn releases(spec: &KeysetSpec) -> Vec<PublicKey> {
    spec.release_keys.iter().map(|release| release.key).collect()
}

/// The one of these keys whose id begins so.
fn find(prefix: &str, what: &'static str, keys: &[PublicKey]) -> Result<PublicKey, ChangeError> {
    let named: Vec<(String, PublicKey)> = keys.iter().map(|key| (id(key), *key)).collect();
    only(prefix, what, &named)
}

fn only(prefix: &str, what: &'static str, keys: &[(String, PublicKey)]) -> Result<PublicKey, ChangeError> {
    let prefix = prefix.to_ascii_lowercase();
    if prefix.len() < KEY_ID_DIGITS_MIN || !prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(ChangeError::NotAnId(prefix));
    }
    let mut found: Vec<PublicKey> =
        keys.iter().filter(|(id, _)| id.starts_with(&prefix)).map(|(_, key)| *key).collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [key] => Ok(*key),
        [] => Err(ChangeError::Unknown(what, prefix)),
        several => Err(ChangeError::Ambiguous(several.len(), prefix)),
    }
}

fn both_ways<T: PartialEq>(old: &[T], new: &[T], name: impl Fn(&T) -> String, lines: &mut Vec<String>) {
    let gone = old.iter().filter(|it| !new.contains(it)).map(|it| format!("{} leaves", name(it)));
    let come = new.iter().filter(|it| !old.contains(it)).map(|it| format!("{} comes", name(it)));
    lines.extend(gone.chain(come));
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::TenantId;
    use wire::manifest::Component;
    use wire::sign::{Signer, SoftKey};

    fn key(number: u8) -> PublicKey {
        SoftKey::from_scalar(&[number; 32]).unwrap().public_key()
    }

    fn any(number: u8) -> ReleaseKeySpec {
        ReleaseKeySpec { key: key(number), component: None, board: None }
    }

    /// Root keys 1 and 2 of which `threshold` sign, release keys 11 (twice, by scope) and 12, director 20.
    fn old(threshold: u8) -> KeysetSpec {
        let scoped =
            ReleaseKeySpec { component: Some(Component::App), board: Some("host".into()), ..any(11) };
        KeysetSpec {
            tenant: TenantId::new([1; 16]),
            version: 7,
            root_keys: vec![key(1), key(2)],
            root_threshold: threshold,
            release_keys: vec![any(11), scoped, any(12)],
            director_key: key(20),
            crash_key: Some([5; 32]),
            broker_anchors: vec![vec![1]],
        }
    }

    fn one(change: Change) -> Result<KeysetSpec, ChangeError> {
        next(&old(1), &[change])
    }

    #[test]
    fn what_is_not_changed_stays_and_the_version_is_the_next() {
        let new = one(Change::AddRoot(key(3))).unwrap();
        assert_eq!(new, KeysetSpec { version: 8, root_keys: vec![key(1), key(2), key(3)], ..old(1) });
        assert_eq!(
            one(Change::Director(key(21))).unwrap(),
            KeysetSpec { version: 8, director_key: key(21), ..old(1) }
        );
        let last = KeysetSpec { version: u32::MAX, ..old(1) };
        assert_eq!(next(&last, &[Change::AddRoot(key(3))]), Err(ChangeError::LastVersion));
    }

    #[test]
    fn a_revoked_key_leaves_with_all_its_scopes() {
        let new = one(Change::Revoke(id(&key(11)))).unwrap();
        assert_eq!(new.release_keys, [any(12)]);
        let new = one(Change::Revoke(id(&key(2))[..KEY_ID_DIGITS_MIN].to_uppercase())).unwrap();
        assert_eq!(new.root_keys, [key(1)]);
    }

    #[test]
    fn a_rotated_release_key_hands_its_scopes_on() {
        let new = one(Change::RotateRelease(id(&key(11)), key(13))).unwrap();
        let scopes = |spec: &KeysetSpec| -> Vec<_> {
            spec.release_keys.iter().map(|it| (it.component, it.board.clone())).collect()
        };
        assert_eq!(scopes(&new), scopes(&old(1)));
        assert_eq!(releases(&new), [key(13), key(13), key(12)]);
    }

    #[test]
    fn a_key_is_named_by_enough_of_its_id_and_by_that_alone() {
        let not_an_id = |text: &str| Err(ChangeError::NotAnId(text.into()));
        for text in ["", "release.pem", &id(&key(1))[..KEY_ID_DIGITS_MIN - 1]] {
            assert_eq!(one(Change::Revoke(text.into())), not_an_id(text));
        }
        let stranger = id(&key(99));
        assert_eq!(
            one(Change::Revoke(stranger.clone())),
            Err(ChangeError::Unknown("root or release", stranger))
        );
        let release = id(&key(11));
        assert_eq!(
            one(Change::RotateRoot(release.clone(), key(3))),
            Err(ChangeError::Unknown("root", release)),
            "a release key is no root key"
        );
        assert_eq!(one(Change::Revoke(id(&key(20)))), Err(ChangeError::IsDirector(short(&key(20)))));
    }

    #[test]
    fn a_prefix_of_two_keys_names_neither() {
        let named = |id: &str, number| (id.to_owned(), key(number));
        let keys = [named("abcdef01", 1), named("abcdef02", 2), named("abcdef02", 2)];
        assert_eq!(only("abcdef", "root", &keys), Err(ChangeError::Ambiguous(2, "abcdef".into())));
        assert_eq!(only("abcdef02", "root", &keys), Ok(key(2)), "the same key twice is one key");
    }

    #[test]
    fn no_keyset_is_made_that_nothing_could_follow() {
        let revoke = |number| Change::Revoke(id(&key(number)));
        assert_eq!(next(&old(1), &[revoke(11), revoke(12)]), Err(ChangeError::LastRelease));
        assert_eq!(next(&old(2), &[revoke(1)]), Err(ChangeError::Threshold { roots: 1, threshold: 2 }));
        assert!(next(&old(2), &[revoke(1), Change::Threshold(1)]).is_ok());
        assert_eq!(
            next(&old(1), &[revoke(1), revoke(2)]),
            Err(ChangeError::Threshold { roots: 0, threshold: 1 })
        );
        for threshold in [0, 3] {
            assert_eq!(
                one(Change::Threshold(threshold)),
                Err(ChangeError::Threshold { roots: 2, threshold })
            );
        }
    }

    #[test]
    fn every_limit_holds_at_its_edge() {
        let roots = |count: u8| (0..count).map(|n| Change::AddRoot(key(30 + n))).collect::<Vec<_>>();
        assert!(next(&old(1), &roots(2)).is_ok());
        assert_eq!(next(&old(1), &roots(3)), Err(ChangeError::TooMany("root keys", ROOT_KEYS_MAX)));
        let releases = |count: u8| (0..count).map(|n| Change::AddRelease(any(40 + n))).collect::<Vec<_>>();
        assert!(next(&old(1), &releases(5)).is_ok());
        assert_eq!(next(&old(1), &releases(6)), Err(ChangeError::TooMany("release keys", RELEASE_KEYS_MAX)));
        let brokers = |count: u8| (0..count).map(|n| Change::AddBroker(vec![9, n])).collect::<Vec<_>>();
        assert!(next(&old(1), &brokers(1)).is_ok());
        assert_eq!(next(&old(1), &brokers(2)), Err(ChangeError::TooMany("broker CAs", BROKER_ANCHORS_MAX)));
    }

    #[test]
    fn what_is_there_already_is_not_added_and_nothing_is_no_change() {
        assert_eq!(one(Change::AddRoot(key(1))), Err(ChangeError::Twice("root", short(&key(1)))));
        assert_eq!(one(Change::AddRelease(any(12))), Err(ChangeError::Twice("release", short(&key(12)))));
        assert_eq!(
            one(Change::RotateRelease(id(&key(12)), key(11))),
            Err(ChangeError::Twice("release", short(&key(11))))
        );
        assert_eq!(
            one(Change::RotateRoot(id(&key(1)), key(2))),
            Err(ChangeError::Twice("root", short(&key(2))))
        );
        for change in [Change::Threshold(1), Change::Director(key(20)), Change::AddBroker(vec![1])] {
            assert_eq!(one(change), Err(ChangeError::Nothing));
        }
        assert_eq!(next(&old(1), &[]), Err(ChangeError::Nothing));
    }

    #[test]
    fn boards_with_a_first_stage_are_stranded_when_too_few_of_their_roots_are_left() {
        let first = KeysetSpec { version: 1, ..old(2) };
        let one_left = next(&old(2), &[Change::RotateRoot(id(&key(1)), key(3))]).unwrap();
        assert!(strands_first_stages(&first, &one_left));
        assert!(!strands_first_stages(&KeysetSpec { root_threshold: 1, ..first.clone() }, &one_left));
        assert!(!strands_first_stages(&first, &one(Change::AddRoot(key(3))).unwrap()));
    }

    #[test]
    fn connections_are_stranded_when_no_broker_ca_stays() {
        assert!(strands_connections(&old(1), &one(Change::Brokers(vec![2])).unwrap()));
        let both = one(Change::AddBroker(vec![2])).unwrap();
        assert!(!strands_connections(&old(1), &both));
        assert!(!strands_connections(&both, &next(&both, &[Change::Brokers(vec![2])]).unwrap()));
    }

    #[test]
    fn the_difference_is_said_in_words() {
        let changes = [
            Change::RotateRoot(id(&key(1)), key(3)),
            Change::Threshold(2),
            Change::Revoke(id(&key(12))),
            Change::Director(key(21)),
        ];
        let said = difference(&old(1), &next(&old(1), &changes).unwrap());
        let expected = [
            format!("root key {} leaves", short(&key(1))),
            format!("root key {} comes", short(&key(3))),
            "root keys that must sign: 2 instead of 1".to_owned(),
            format!("release key {} for any component on any board leaves", short(&key(12))),
            format!("director key {} instead of {}", short(&key(21)), short(&key(20))),
        ];
        assert_eq!(said, expected);
    }
}
