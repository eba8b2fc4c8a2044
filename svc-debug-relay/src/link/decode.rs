//! Bytes of `up/debug` to what a device says. The sender is not believed; what its numbers may be, the session decides.

use prost::Message;
use proto::device::v1::{DebugEnd, DebugUp};
use wire::DebugSessionId;

use crate::model::session::{DeviceEnd, Up};
use crate::model::{Boot, Frame};

#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a DebugUp")]
    Protobuf(#[from] prost::DecodeError),
    #[error("session is not an id")]
    Session(#[from] wire::id::IdError),
    #[error("no boot id")]
    NoBoot,
    #[error("bytes without a number")]
    NoNumber,
}

/// The session a message is of, and what it says.
pub(super) fn up(payload: &[u8]) -> Result<(DebugSessionId, Up), DecodeError> {
    let message = DebugUp::decode(payload)?;
    let session = message.session.parse()?;
    let end = end(message.end());
    let boot = message.boot.ok_or(DecodeError::NoBoot)?;
    let frame = match (message.number, message.data) {
        (0, data) if data.is_empty() => None,
        (0, _) => return Err(DecodeError::NoNumber),
        (number, data) => Some(Frame { number, data }),
    };
    let said = Up {
        epoch: message.epoch,
        boot: Boot { counter: boot.counter, random: boot.random },
        frame,
        received_up_to: message.received_up_to,
        credit_up_to: message.credit_up_to,
        forgotten_up_to: message.forgotten_up_to,
        end,
    };
    Ok((session, said))
}

/// A reason newer than this service is still an end.
fn end(end: DebugEnd) -> Option<DeviceEnd> {
    match end {
        DebugEnd::Unspecified => None,
        DebugEnd::Refused => Some(DeviceEnd::Refused),
        DebugEnd::Busy => Some(DeviceEnd::Busy),
        DebugEnd::Restarted => Some(DeviceEnd::Restarted),
        DebugEnd::Protocol => Some(DeviceEnd::Protocol),
        DebugEnd::Closed | DebugEnd::Done => Some(DeviceEnd::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use proto::device::v1::BootId;

    fn message() -> DebugUp {
        DebugUp {
            session: DebugSessionId::new([3; 16]).to_string(),
            epoch: 2,
            boot: Some(BootId { counter: 7, random: 9 }),
            number: 5,
            data: Bytes::from_static(b"abc"),
            received_up_to: 4,
            credit_up_to: 36,
            forgotten_up_to: 1,
            end: DebugEnd::Done as i32,
        }
    }

    #[test]
    fn a_message_decodes_to_what_was_said() {
        let (session, said) = up(&message().encode_to_vec()).unwrap();
        assert_eq!(session, DebugSessionId::new([3; 16]));
        assert_eq!(said.frame, Some(Frame { number: 5, data: Bytes::from_static(b"abc") }));
        assert_eq!(
            (said.epoch, said.boot, said.end),
            (2, Boot { counter: 7, random: 9 }, Some(DeviceEnd::Done))
        );
        assert_eq!((said.received_up_to, said.credit_up_to, said.forgotten_up_to), (4, 36, 1));
    }

    #[test]
    fn what_is_malformed_is_named() {
        let bad = |change: fn(&mut DebugUp)| {
            let mut message = message();
            change(&mut message);
            up(&message.encode_to_vec()).unwrap_err().to_string()
        };
        assert_eq!(bad(|m| m.boot = None), "no boot id");
        assert_eq!(bad(|m| m.number = 0), "bytes without a number");
        assert!(bad(|m| m.session = "x".into()).contains("not an id"));
        assert_eq!(up(b"\xff\xff").unwrap_err().to_string(), "not a DebugUp");
    }

    #[test]
    fn a_message_without_a_frame_or_with_an_unknown_end_is_one_all_the_same() {
        let quiet = DebugUp { number: 0, data: Bytes::new(), end: 99, ..message() };
        let (_, said) = up(&quiet.encode_to_vec()).unwrap();
        assert_eq!((said.frame, said.end), (None, None));
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = up(&bytes);
        }

        #[test]
        fn decoding_a_damaged_message_never_panics(at in 0usize..200, to in any::<u8>(), cut in 0usize..200) {
            let mut bytes = message().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = up(&bytes);
        }
    }
}
