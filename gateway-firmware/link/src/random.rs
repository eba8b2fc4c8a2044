//! Randomness for keys, nonces and ports: ChaCha20 over seeds from the board.
//!
//! The generator is one for the program, since rustls asks for it from where no reference reaches. Until the board has
//! seeded it, it gives nothing: a connection then fails, and no key is ever guessable. Its key is replaced after every use,
//! so that a later look at the memory tells nothing about the past.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use spin::Mutex;
use zeroize::Zeroizing;

/// Bytes of a seed, all of them from the board's entropy source.
pub const SEED_BYTES: usize = 32;

type Key = Zeroizing<[u8; SEED_BYTES]>;

/// The lock is held for a few hundred cycles and never by an interrupt handler.
static KEY: Mutex<Option<Key>> = Mutex::new(None);

/// Mixes a seed in; a seed that is known to others takes nothing away from those before it.
pub fn seed(seed: &[u8; SEED_BYTES]) {
    let mut key = KEY.lock();
    let mut hash = Sha256::new();
    if let Some(key) = key.as_ref() {
        hash.update(key.as_slice());
    }
    hash.update(seed);
    *key = Some(Zeroizing::new(hash.finalize().into()));
}

/// Fills `into`; `false`, with nothing written, where no seed was given.
#[must_use]
pub fn fill(into: &mut [u8]) -> bool {
    generator().map(|mut generator| generator.fill_bytes(into)).is_some()
}

/// Four bytes as a number.
pub(crate) fn word() -> Option<u32> {
    generator().map(|mut generator| generator.next_u32())
}

/// A generator of its own for one use.
pub(crate) fn generator() -> Option<ChaCha20Rng> {
    let mut key = KEY.lock();
    let mut parent = ChaCha20Rng::from_seed(**key.as_ref()?);
    let mut child = Key::default();
    parent.fill_bytes(child.as_mut_slice());
    let mut next = Key::default();
    parent.fill_bytes(next.as_mut_slice());
    *key = Some(next);
    Some(ChaCha20Rng::from_seed(*child))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike_and_a_repeated_seed_does_not_repeat_them() {
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..3 {
            seed(&[7; SEED_BYTES]);
            for _ in 0..100 {
                let mut drawn = [0; 32];
                assert!(fill(&mut drawn));
                assert!(seen.insert(drawn));
            }
        }
    }
}
