//! Records that one key alone opens: `Noise_N_25519_AESGCM_SHA256` (Noise, §7.4), from a writer who has no key to whoever owns one.
//!
//! Counters are implicit, so a record that was altered, left out, moved or put in is an [`Error`]; the last record says that it is the last, so what
//! was cut off is told from what ended. After each record both sides go on with another key (Noise, §11.3) that does not lead back: who takes the
//! writer over reads what it writes from then on, and nothing of before (but for what snow leaves where it was: see the crate's header). A writer proves nothing about itself: whoever knows the owner's public
//! key can write such records.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use snow::{Builder, TransportState};
use zeroize::Zeroizing;

use crate::Error;
use crate::key::{KEY_BYTES, PublicKey, StaticKey};
use crate::primitives::{Primitives, TAG_BYTES};

const PARAMS: &str = "Noise_N_25519_AESGCM_SHA256";
/// Bytes of what comes before the first record: an ephemeral key, and the tag of a payload of nothing.
pub const OPENING_BYTES: usize = KEY_BYTES + TAG_BYTES;
/// Bytes of the longest sealed record (Noise, §3); two bytes hold its length.
pub const RECORD_SEALED_BYTES_MAX: usize = 65_535;
/// The most that one record holds.
pub const RECORD_PLAIN_BYTES_MAX: usize = RECORD_SEALED_BYTES_MAX - TAG_BYTES - 1;

/// First byte of a record's plaintext.
const MORE: u8 = 0;
const LAST: u8 = 1;

/// The writer's side.
pub struct Sealer {
    state: TransportState,
    is_over: bool,
}

/// The owner's side.
pub struct Opener {
    state: TransportState,
    is_over: bool,
}

impl Sealer {
    /// Begins; what it returns goes first. `prologue` is what both sides must have read alike; `ephemeral` is random and for this once only.
    pub fn new(
        owner: &PublicKey,
        prologue: &[u8],
        ephemeral: [u8; KEY_BYTES],
    ) -> Result<(Self, [u8; OPENING_BYTES]), Error> {
        let builder = Builder::with_resolver(PARAMS.parse()?, Box::new(Primitives::new(ephemeral)));
        let mut state = builder.remote_public_key(owner)?.prologue(prologue)?.build_initiator()?;
        let mut opening = [0; OPENING_BYTES];
        state.write_message(&[], &mut opening)?;
        Ok((Self { state: state.into_transport_mode()?, is_over: false }, opening))
    }

    /// Seals the next record: its length in `sealed`. There is none after the last.
    pub fn seal(&mut self, plain: &[u8], is_last: bool, sealed: &mut [u8]) -> Result<usize, Error> {
        if self.is_over {
            return Err(Error::NotNext);
        }
        if plain.len() > RECORD_PLAIN_BYTES_MAX || sealed.len() < plain.len() + 1 + TAG_BYTES {
            return Err(Error::TooLong);
        }
        // As long as it will be: one that grows leaves what it held where it was.
        let mut whole = Zeroizing::new(Vec::with_capacity(1 + plain.len()));
        whole.push(if is_last { LAST } else { MORE });
        whole.extend_from_slice(plain);
        let length = self.state.write_message(&whole, sealed)?;
        self.state.rekey_outgoing();
        self.is_over = is_last;
        Ok(length)
    }
}

impl Opener {
    /// Begins with what the writer began with.
    pub fn new(key: &StaticKey, prologue: &[u8], opening: &[u8; OPENING_BYTES]) -> Result<Self, Error> {
        // It makes no key of its own.
        let primitives = Box::new(Primitives::new([0; KEY_BYTES]));
        let builder = Builder::with_resolver(PARAMS.parse()?, primitives);
        let mut state = builder.local_private_key(key.secret())?.prologue(prologue)?.build_responder()?;
        state.read_message(opening, &mut [0; TAG_BYTES])?;
        Ok(Self { state: state.into_transport_mode()?, is_over: false })
    }

    /// Opens the next record: what it holds, and whether it is the last. One that is not it changes nothing.
    pub fn open(&mut self, sealed: &[u8]) -> Result<(Zeroizing<Vec<u8>>, bool), Error> {
        if self.is_over {
            return Err(Error::NotNext);
        }
        if sealed.len() > RECORD_SEALED_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let mut plain = Zeroizing::new(alloc::vec![0; sealed.len()]);
        let length = self.state.read_message(sealed, &mut plain)?;
        plain.truncate(length);
        let is_last = match plain.first() {
            Some(&MORE) => false,
            Some(&LAST) => true,
            // The key's owner can be lied to by whoever writes, but not in this.
            _ => return Err(Error::Malformed),
        };
        plain.remove(0);
        self.state.rekey_incoming();
        self.is_over = is_last;
        Ok((plain, is_last))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(…)")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// `Noise_N_25519_AESGCM_SHA256` of cacophony's vectors (`tests/vectors/cacophony.txt` of snow): what they seal has no byte before it and no new
    /// key behind it, so it goes through what is below the records.
    #[test]
    fn an_opening_is_that_of_an_independent_implementation() {
        let bytes = |text: &str| hex::decode(text).expect("hex");
        let key = |text: &str| <[u8; KEY_BYTES]>::try_from(bytes(text)).expect("32 bytes");
        let primitives = |ephemeral| Box::new(Primitives::new(ephemeral));
        let params = || PARAMS.parse().expect("a pattern");
        let prologue = bytes("4a6f686e2047616c74");
        let owner = key("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
        let secret = key("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893");
        assert_eq!(StaticKey::new(secret).public(), owner);
        let ephemeral = key("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a");
        let builder = Builder::with_resolver(params(), primitives(ephemeral));
        let mut writer = builder
            .remote_public_key(&owner)
            .unwrap()
            .prologue(&prologue)
            .unwrap()
            .build_initiator()
            .unwrap();
        let builder = Builder::with_resolver(params(), primitives([0; KEY_BYTES]));
        let mut reader = builder
            .local_private_key(&secret)
            .unwrap()
            .prologue(&prologue)
            .unwrap()
            .build_responder()
            .unwrap();
        let (mut sealed, mut plain) = ([0; 128], [0; 128]);
        let said = bytes("4c756477696720766f6e204d69736573");
        let length = writer.write_message(&said, &mut sealed).unwrap();
        assert_eq!(
            hex::encode(&sealed[..length]),
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944579bcbff029d662564fea10d563023312ca97f6dcd2a0ff611e8ee5352825435"
        );
        assert_eq!(reader.read_message(&sealed[..length], &mut plain).unwrap(), said.len());
        let (mut writer, mut reader) =
            (writer.into_transport_mode().unwrap(), reader.into_transport_mode().unwrap());
        for (said, expected) in [
            (
                "4d757272617920526f746862617264",
                "ece41448702945ed9004d6d83e98f24eadf3ba377084829bcc1508f37ebf52",
            ),
            ("462e20412e20486179656b", "c23a5f1fbd44cc5ccf9f5173dbdc269cd62e4d3da636f9f7d86da8"),
        ] {
            let length = writer.write_message(&bytes(said), &mut sealed).unwrap();
            assert_eq!(hex::encode(&sealed[..length]), expected);
            let length = reader.read_message(&sealed[..length], &mut plain).unwrap();
            assert_eq!(hex::encode(&plain[..length]), said);
        }
    }
}
