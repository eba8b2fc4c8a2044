//! The three messages of XX. Each step takes its end by value, so that none can be taken twice or out of order; an end that took a
//! wrong message is gone.

use alloc::boxed::Box;
use core::fmt;

use snow::{Builder, HandshakeState};
use wire::{DebugSessionId, DeviceId};
use zeroize::Zeroizing;

use crate::key::{KEY_BYTES, PublicKey, StaticKey, VOUCHER_BYTES, Voucher};
use crate::primitives::{Primitives, TAG_BYTES};
use crate::transport::Transport;
use crate::{Error, Kind};

const PARAMS: &str = "Noise_XX_25519_AESGCM_SHA256";
const WORDS_BYTES: usize = 16;
const PROLOGUE_BYTES: usize = WORDS_BYTES + DeviceId::BYTES + DebugSessionId::BYTES;

/// What a session is for. The relay says it to the device before anybody else can; both ends have it in the prologue, so a relay that says
/// the one to the device and the other to the developer is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Halts, steps, writes.
    Writer,
    /// Only reads.
    Watcher,
}

impl Role {
    fn words(self) -> &'static [u8; WORDS_BYTES] {
        match self {
            Role::Writer => b"holdfast debug 1",
            Role::Watcher => b"holdfast watch 1",
        }
    }
}

/// Bytes of message 1 as a frame: the ephemeral key.
pub const MESSAGE_1_BYTES: usize = 1 + KEY_BYTES;
/// Bytes of message 2 as a frame: ephemeral key, static key, voucher.
pub const MESSAGE_2_BYTES: usize = 1 + KEY_BYTES + KEY_BYTES + TAG_BYTES + VOUCHER_BYTES + TAG_BYTES;
/// Bytes of message 3 as a frame: static key, and a payload of nothing.
pub const MESSAGE_3_BYTES: usize = 1 + KEY_BYTES + TAG_BYTES + TAG_BYTES;

/// What both ends must agree on before they begin: protocol and role, device and session.
pub fn prologue(role: Role, device: DeviceId, session: DebugSessionId) -> [u8; PROLOGUE_BYTES] {
    let mut bytes = [0; PROLOGUE_BYTES];
    let (words, ids) = bytes.split_at_mut(WORDS_BYTES);
    let (of_device, of_session) = ids.split_at_mut(DeviceId::BYTES);
    words.copy_from_slice(role.words());
    of_device.copy_from_slice(device.text().as_bytes());
    of_session.copy_from_slice(session.text().as_bytes());
    bytes
}

/// The developer's end, which waits for message 2.
pub struct Initiator(HandshakeState);

/// The developer's end after message 2: who answered is known, and this end not yet.
pub struct Greeted {
    state: HandshakeState,
    voucher: Voucher,
    key: PublicKey,
}

/// The device's end, which waits for message 3.
pub struct Responder(HandshakeState);

impl Initiator {
    /// Begins; what it returns is message 1. `ephemeral` is random and for this handshake only.
    pub fn new(
        key: &StaticKey,
        prologue: &[u8],
        ephemeral: [u8; KEY_BYTES],
    ) -> Result<(Self, [u8; MESSAGE_1_BYTES]), Error> {
        let mut state = begin(key.secret(), prologue, ephemeral, End::Initiator)?;
        let frame = write(&mut state, Kind::Message1, &[])?;
        Ok((Self(state), frame))
    }

    /// Takes message 2.
    pub fn hear(self, message_2: &[u8]) -> Result<Greeted, Error> {
        let Self(mut state) = self;
        let payload = read(&mut state, Kind::Message2, MESSAGE_2_BYTES, message_2)?;
        let key = remote(&state)?;
        Ok(Greeted { state, voucher: Voucher::read(&payload), key })
    }
}

impl Greeted {
    /// What the device says of its static key. Nobody has checked it.
    pub fn voucher(&self) -> &Voucher {
        &self.voucher
    }

    /// The device's static key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Makes message 3, which tells the device who this is.
    pub fn finish(self) -> Result<(Transport, [u8; MESSAGE_3_BYTES]), Error> {
        let Self { mut state, .. } = self;
        let frame = write(&mut state, Kind::Message3, &[])?;
        Ok((Transport::new(state)?, frame))
    }
}

impl Responder {
    /// Takes message 1; what it returns is message 2. `ephemeral` is random and for this handshake only.
    pub fn answer(
        key: &StaticKey,
        prologue: &[u8],
        ephemeral: [u8; KEY_BYTES],
        message_1: &[u8],
        voucher: &Voucher,
    ) -> Result<(Self, [u8; MESSAGE_2_BYTES]), Error> {
        let mut state = begin(key.secret(), prologue, ephemeral, End::Responder)?;
        read(&mut state, Kind::Message1, MESSAGE_1_BYTES, message_1)?;
        let frame = write(&mut state, Kind::Message2, &voucher.bytes())?;
        Ok((Self(state), frame))
    }

    /// Takes message 3. The key is the developer's: whether it may attach is the caller's to say.
    pub fn finish(self, message_3: &[u8]) -> Result<(Transport, PublicKey), Error> {
        let Self(mut state) = self;
        read(&mut state, Kind::Message3, MESSAGE_3_BYTES, message_3)?;
        let key = remote(&state)?;
        Ok((Transport::new(state)?, key))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Initiator,
    Responder,
}

fn begin(
    secret: &[u8; KEY_BYTES],
    prologue: &[u8],
    ephemeral: [u8; KEY_BYTES],
    end: End,
) -> Result<HandshakeState, Error> {
    let primitives = Box::new(Primitives::new(ephemeral));
    let builder =
        Builder::with_resolver(PARAMS.parse()?, primitives).local_private_key(secret)?.prologue(prologue)?;
    Ok(match end {
        End::Initiator => builder.build_initiator()?,
        End::Responder => builder.build_responder()?,
    })
}

/// Room snow wants beside a message, used or not.
const SPARE_BYTES: usize = TAG_BYTES;
/// The longest message, without the byte that says which it is.
const MESSAGE_BYTES_MAX: usize = MESSAGE_2_BYTES - 1;

fn write<const BYTES: usize>(
    state: &mut HandshakeState,
    kind: Kind,
    payload: &[u8],
) -> Result<[u8; BYTES], Error> {
    let mut message = [0; MESSAGE_BYTES_MAX + SPARE_BYTES];
    let length = state.write_message(payload, &mut message)?;
    let mut frame = [0; BYTES];
    let (first, rest) = frame.split_first_mut().ok_or(Error::Malformed)?;
    *first = kind as u8;
    // The lengths are the pattern's: it is a mistake of this file if they differ.
    let message = message.get(..length).filter(|message| message.len() == rest.len());
    rest.copy_from_slice(message.ok_or(Error::Malformed)?);
    Ok(frame)
}

/// The payload; of messages without one, zeros.
fn read(
    state: &mut HandshakeState,
    kind: Kind,
    bytes: usize,
    frame: &[u8],
) -> Result<Zeroizing<[u8; VOUCHER_BYTES]>, Error> {
    if Kind::of(frame) != Some(kind) || frame.len() != bytes {
        return Err(Error::Malformed);
    }
    let mut payload = Zeroizing::new([0; VOUCHER_BYTES]);
    state.read_message(&frame[1..], payload.as_mut())?;
    Ok(payload)
}

fn remote(state: &HandshakeState) -> Result<PublicKey, Error> {
    state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Error::Malformed)
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(…)")
    }
}

impl fmt::Debug for Greeted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeted")
            .field("voucher", &self.voucher)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder(…)")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn key(hex: &str) -> [u8; 32] {
        hex::decode(hex).expect("hex").try_into().expect("32 bytes")
    }

    /// `Noise_XX_25519_AESGCM_SHA256` of cacophony's vectors (`tests/vectors/cacophony.txt` of snow): its messages have payloads, so they
    /// go through what is below the frames, with the same primitives and the same way to an ephemeral key.
    #[test]
    fn a_handshake_is_that_of_an_independent_implementation() {
        let prologue = hex::decode("4a6f686e2047616c74").expect("hex");
        let statics = [
            "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
            "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        ];
        let ephemerals = [
            "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
            "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        ];
        let messages = [
            (
                "4c756477696720766f6e204d69736573",
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
            ),
            (
                "4d757272617920526f746862617264",
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843757117acceb05bd7a45733bc22015c97\
                 a9d0cbaf41b80446d5988ff5127235d76b79eade70f473d6a4ef521fdcbeda5340d01e028ba793fc059f2724a83af05f\
                 12dda0448a7621a926b379a92477fd",
            ),
            (
                "462e20412e20486179656b",
                "c90f1cf77eba4e50edb038991565e36c9758943a989229b6051244dc4fbecb6946744b401af2ee1a5881b65fbb87fd07\
                 cb6a328ececc9ce6ce84c399dc332d4fd521fa4bb7f467ce909395",
            ),
            ("4361726c204d656e676572", "bc3fa77f6aca3e8466d7dc6bea10013e88a6a29add5132b461806c"),
            (
                "4a65616e2d426170746973746520536179",
                "250b01074cdfe0df2ecf8ccbf1737b15a2ddb5b52fd9a396604e9c793cee3b3bb9",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "449d4d433b3cdc3d02bf6fc881774b9df54366ebcffb9689bb13f14709822cd7ef42bcdb4d",
            ),
        ];
        let [mut from, mut to] = [(0, End::Initiator), (1, End::Responder)].map(|(place, end)| {
            begin(&key(statics[place]), &prologue, key(ephemerals[place]), end).expect("begun")
        });
        let mut buffer = [0; 256];
        for (payload, ciphertext) in &messages[..3] {
            let payload = hex::decode(payload).expect("hex");
            let length = from.write_message(&payload, &mut buffer).expect("written");
            assert_eq!(hex::encode(&buffer[..length]), *ciphertext);
            let mut heard = [0; 256];
            let of = to.read_message(&buffer[..length], &mut heard).expect("read");
            assert_eq!(heard[..of], payload);
            core::mem::swap(&mut from, &mut to);
        }
        assert_eq!(
            hex::encode(from.get_handshake_hash()),
            "1b7aefb1125762aa21a252890d00af54519638b76437444538f9a52f21e2e0dc"
        );
        // The responder is next: what follows are transport messages, in turn.
        let mut ends = [from, to].map(|state| Transport::new(state).expect("finished"));
        for (turn, (payload, ciphertext)) in messages[3..].iter().enumerate() {
            let payload = hex::decode(payload).expect("hex");
            let length = ends[turn % 2].seal(&payload, &mut buffer).expect("sealed");
            let counter = u64::try_from(turn / 2).expect("small").to_le_bytes();
            let frame: Vec<u8> = [&[4][..], &counter, &hex::decode(ciphertext).expect("hex")].concat();
            assert_eq!(buffer[..length], frame);
            let mut heard = [0; 256];
            let of = ends[1 - turn % 2].open(&frame, &mut heard).expect("opened");
            assert_eq!(heard[..of], payload);
        }
    }
}
