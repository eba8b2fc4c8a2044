//! Randomness: the generator of `gateway-link`, which TLS uses too, over seeds from the entropy UART.

use chip::entropy::EntropyUart;
use gateway_core::ports::{Entropy, EntropyError};
use gateway_link::random::{self, SEED_BYTES};
use zeroize::Zeroizing;

/// Bytes the core takes before a new seed is mixed in.
const RESEED_BYTES: u32 = 64 * 1024;

/// The one user of the entropy UART.
#[derive(Debug)]
pub(crate) struct BoardEntropy {
    source: EntropyUart,
    given_bytes: u32,
}

impl BoardEntropy {
    /// Seeds the generator. Without a seed it gives nothing, and `fill` tries again.
    pub(crate) fn start() -> Self {
        let mut entropy = Self { source: EntropyUart::new(), given_bytes: 0 };
        let _ = entropy.seed();
        entropy
    }

    fn seed(&mut self) -> Result<(), EntropyError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        self.source.fill(seed.as_mut_slice())?;
        random::seed(&seed);
        self.given_bytes = 0;
        Ok(())
    }
}

impl Entropy for BoardEntropy {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        if self.given_bytes >= RESEED_BYTES {
            // What was there is as good as before, and it is tried again at the next use.
            let _ = self.seed();
        }
        if !random::fill(into) {
            self.seed()?;
            random::fill(into).then_some(()).ok_or(EntropyError)?;
        }
        self.given_bytes = self.given_bytes.saturating_add(into.len() as u32);
        Ok(())
    }
}
