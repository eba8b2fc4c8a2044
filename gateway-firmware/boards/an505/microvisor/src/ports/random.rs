//! The board's randomness: one generator, seeded by the entropy UART, shared by the core, the keys and TLS.

use chip::entropy::EntropyUart;
use gateway_core::drbg::Drbg;
use gateway_core::ports::{Entropy, EntropyError};

use super::single::Single;

static GENERATOR: Single<Option<Drbg<EntropyUart>>> = Single::new(None);

/// A handle; every one is of the same generator.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Random;

impl Entropy for Random {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        let fill = |generator: &mut Option<_>| {
            generator.get_or_insert_with(|| Drbg::new(EntropyUart::new())).fill(into)
        };
        GENERATOR.with(fill).ok_or(EntropyError)?
    }
}
