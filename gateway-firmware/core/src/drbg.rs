//! Randomness for keys and nonces from few bytes of entropy: ChaCha20, its key replaced after every use.
//!
//! Always holds: no output is given before the first seed; what was given out cannot be computed from the state after it;
//! a new seed is mixed in with the old state, so that a bad one takes nothing away.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use wire::Digest;

use crate::ports::{Entropy, EntropyError};

/// Bytes of entropy in a seed, at least.
pub const SEED_BYTES: usize = 32;
/// Bytes given out before a new seed is due.
pub const RESEED_BYTES: u64 = 1 << 20;

/// A seeded generator, over a source of entropy.
pub struct Drbg<S> {
    source: S,
    key: [u8; 32],
    /// Given out since the last seed; nothing before the first one.
    given: Option<u64>,
}

impl<S> core::fmt::Debug for Drbg<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Drbg(…)")
    }
}

impl<S: Entropy> Drbg<S> {
    /// Not seeded: the first `fill` or `seed` does it.
    pub fn new(source: S) -> Self {
        Self { source, key: [0; 32], given: None }
    }

    /// Mixes in entropy. Without any the old state goes on, and a generator that never had one gives nothing.
    pub fn seed(&mut self) -> Result<(), EntropyError> {
        let mut entropy = [0; SEED_BYTES];
        self.source.fill(&mut entropy)?;
        self.key = Digest::of_parts(&[b"holdfast drbg 1", &self.key, &entropy]).0;
        self.given = Some(0);
        Ok(())
    }
}

impl<S: Entropy> Entropy for Drbg<S> {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        match self.given {
            None => self.seed()?,
            // The source may be gone for now; the state is as good as it was, and it is tried again at the next use.
            Some(given) if given >= RESEED_BYTES => drop(self.seed()),
            Some(_) => {}
        }
        let mut stream = ChaCha20Rng::from_seed(self.key);
        stream.fill_bytes(&mut self.key);
        stream.fill_bytes(into);
        self.given = self.given.map(|given| given.saturating_add(into.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::cell::Cell;

    use super::*;

    /// Gives the same byte each time, and fails when empty.
    struct Source<'a> {
        left: &'a Cell<u32>,
        byte: u8,
    }

    impl Entropy for Source<'_> {
        fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
            self.left.set(self.left.get().checked_sub(1).ok_or(EntropyError)?);
            into.fill(self.byte);
            Ok(())
        }
    }

    fn take<S: Entropy>(drbg: &mut Drbg<S>) -> [u8; 48] {
        let mut bytes = [0; 48];
        drbg.fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn nothing_is_given_without_a_seed() {
        let left = Cell::new(0);
        let mut drbg = Drbg::new(Source { left: &left, byte: 7 });
        let mut bytes = [0; 8];
        assert_eq!(drbg.fill(&mut bytes), Err(EntropyError));
        assert_eq!(bytes, [0; 8]);
        left.set(1);
        assert_eq!(drbg.fill(&mut bytes), Ok(()));
        assert_ne!(bytes, [0; 8]);
    }

    #[test]
    fn no_two_outputs_and_no_two_seeds_are_alike() {
        let left = Cell::new(9);
        let mut one = Drbg::new(Source { left: &left, byte: 1 });
        let mut two = Drbg::new(Source { left: &left, byte: 2 });
        let outputs = [take(&mut one), take(&mut one), take(&mut two), take(&mut two)];
        for (at, output) in outputs.iter().enumerate() {
            assert!(outputs[..at].iter().all(|other| other != output));
        }
        let mut again = Drbg::new(Source { left: &left, byte: 1 });
        assert_eq!(take(&mut again), outputs[0]);
        again.seed().unwrap();
        assert_ne!(take(&mut again), outputs[1], "a seed is mixed in");
    }

    #[test]
    fn it_is_seeded_again_after_so_many_bytes_and_goes_on_when_it_cannot_be() {
        let left = Cell::new(2);
        let mut drbg = Drbg::new(Source { left: &left, byte: 1 });
        let mut bytes = std::vec![0; RESEED_BYTES as usize];
        drbg.fill(&mut bytes).unwrap();
        assert_eq!(left.get(), 1);
        take(&mut drbg);
        assert_eq!(left.get(), 0, "seeded again");
        drbg.fill(&mut bytes).unwrap();
        assert_ne!(take(&mut drbg), take(&mut drbg), "goes on");
    }
}
