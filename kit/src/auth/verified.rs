//! Tokens that were verified under one set of keys: a caller's next call costs a digest and a look, no curve arithmetic.
//!
//! It lies with the keys it was made with and is forgotten with them, so a withdrawn key takes its tokens along. What is kept is a
//! token's SHA-256 and who bears it, never the token; whether it has expired is asked at every look. Refusals are not kept: strangers
//! take no room. Two generations of [`VERIFIED_MAX`]: what is used stays, what is not is dropped with its generation.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::Person;

/// Tokens of one generation; together some 2 MiB for both.
pub const VERIFIED_MAX: usize = 4096;

type Digest = [u8; SHA256_OUTPUT_LEN];

#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Person>,
    old: HashMap<Digest, Person>,
}

impl Verified {
    /// Who bears the token, if it was verified before; it may have expired since.
    pub(super) fn bearer(&self, token: &str) -> Option<Person> {
        let key = digest_of(token);
        let mut kept = self.kept();
        if let Some(person) = kept.young.get(&key) {
            return Some(person.clone());
        }
        let person = kept.old.remove(&key)?;
        kept.put(key, person.clone());
        Some(person)
    }

    pub(super) fn keep(&self, token: &str, person: &Person) {
        self.kept().put(digest_of(token), person.clone());
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn put(&mut self, key: Digest, person: Person) {
        if self.young.len() >= VERIFIED_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, person);
    }
}

fn digest_of(token: &str) -> Digest {
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use wire::TenantId;

    fn person(until_s: u64) -> Person {
        let (subject, tenant) = (format!("k{until_s}"), TenantId::new([1; 16]));
        Person { subject, tenant, role: Role::Viewer, installation: false, until_s }
    }

    #[test]
    fn a_token_is_known_by_all_of_its_bytes() {
        let verified = Verified::default();
        verified.keep("a.b.c", &person(1));
        assert_eq!(verified.bearer("a.b.c"), Some(person(1)));
        for other in ["a.b.d", "a.b.c ", "a.b", ""] {
            assert_eq!(verified.bearer(other), None, "{other:?}");
        }
    }

    #[test]
    fn no_more_than_two_generations_are_kept_and_what_is_used_is_not_dropped() {
        let verified = Verified::default();
        let count = 3 * VERIFIED_MAX as u64;
        for n in 0..count {
            verified.keep(&n.to_string(), &person(n));
            assert!(verified.bearer("0").is_some(), "dropped at {n} though it is used");
        }
        let kept = verified.kept();
        assert!(kept.young.len() <= VERIFIED_MAX && kept.old.len() <= VERIFIED_MAX);
        drop(kept);
        assert_eq!(verified.bearer("1"), None);
        assert_eq!(verified.bearer(&(count - 1).to_string()), Some(person(count - 1)));
    }
}
