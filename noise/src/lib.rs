//! What keeps a debug session between the developer's end and the device: `Noise_XX_25519_AESGCM_SHA256`, both ends.
//!
//! A frame is one message: its first byte says which (1, 2 and 3 are the handshake's), and a transport frame has its counter
//! before the ciphertext. Counters are taken once and in order, so a frame that was altered, repeated, left out, moved or sent
//! back to who made it is an [`Error`], and an error changes nothing. Who the other end is, is the caller's to judge: the device's
//! static key comes with a [`Voucher`], the developer's is compared with the manifest's debug keys.
//!
//! With the feature `sealed` also what is sealed to one key and read by nobody else, its writer included (`Noise_N_25519_AESGCM_SHA256`): transcripts.
//!
//! Static and ephemeral keys and those of the transport are overwritten when they are dropped. The handshake's chaining key is
//! snow's, which leaves it where it was: whoever reads a device's memory afterwards reads more than sessions.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod handshake;
mod key;
mod primitives;
#[cfg(feature = "sealed")]
mod sealed;
mod transport;

pub use handshake::{
    Greeted, Initiator, MESSAGE_1_BYTES, MESSAGE_2_BYTES, MESSAGE_3_BYTES, Responder, Role, prologue,
};
pub use key::{KEY_BYTES, PublicKey, StaticKey, VOUCHER_BYTES, Voucher, statement};
#[cfg(feature = "sealed")]
pub use sealed::{OPENING_BYTES, Opener, RECORD_PLAIN_BYTES_MAX, RECORD_SEALED_BYTES_MAX, Sealer};
pub use transport::{FRAME_MORE_BYTES, PLAIN_BYTES_MAX, Transport};

/// What a frame is: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Message1 = 1,
    Message2 = 2,
    Message3 = 3,
    Transport = 4,
}

impl Kind {
    /// None: no frame of this protocol.
    pub fn of(frame: &[u8]) -> Option<Kind> {
        match frame.first()? {
            1 => Some(Kind::Message1),
            2 => Some(Kind::Message2),
            3 => Some(Kind::Message3),
            4 => Some(Kind::Transport),
            _ => None,
        }
    }
}

/// Why a frame was not taken, or not made. Nothing changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another counter than the next: a frame was repeated, left out or moved.
    #[error("the frame is not the next one")]
    NotNext,
    /// Not what the other end made, or made for another session, device or protocol.
    #[error("the frame is forged or damaged")]
    Forged,
    /// Not a frame of this kind at all.
    #[error("the frame is malformed")]
    Malformed,
    /// More than a frame, or the memory given for it, holds.
    #[error("too long for a frame")]
    TooLong,
}

impl From<snow::Error> for Error {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Decrypt | snow::Error::Dh => Error::Forged,
            _ => Error::Malformed,
        }
    }
}
