//! What a device is told, to bytes of `dn/debug`.

use prost::Message;
use proto::device::v1::{BootId, DebugDown, DebugEnd};
use wire::DebugSessionId;

use crate::model::session::Down;

pub(super) fn down(session: DebugSessionId, down: &Down) -> Vec<u8> {
    let frame = down.frame.clone();
    let end = if down.end { DebugEnd::Closed } else { DebugEnd::Unspecified };
    let message = DebugDown {
        session: session.to_string(),
        epoch: down.epoch,
        boot: down.boot.map(|boot| BootId { counter: boot.counter, random: boot.random }),
        open: down.open,
        answer: down.answer,
        number: frame.as_ref().map_or(0, |frame| frame.number),
        data: frame.map(|frame| frame.data).unwrap_or_default(),
        received_up_to: down.received_up_to,
        delivered_up_to: down.delivered_up_to,
        credit_up_to: down.credit_up_to,
        end: end.into(),
        watch: down.watch,
    };
    message.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Boot, Frame};
    use bytes::Bytes;

    #[test]
    fn all_that_is_said_is_in_the_message() {
        let said = Down {
            watch: true,
            epoch: 3,
            boot: Some(Boot { counter: 1, random: 2 }),
            open: false,
            answer: true,
            frame: Some(Frame { number: 9, data: Bytes::from_static(b"abc") }),
            received_up_to: 4,
            delivered_up_to: 5,
            credit_up_to: 6,
            end: true,
        };
        let session = DebugSessionId::new([3; 16]);
        let message = DebugDown::decode(&down(session, &said)[..]).unwrap();
        let expected = DebugDown {
            session: session.to_string(),
            epoch: 3,
            boot: Some(BootId { counter: 1, random: 2 }),
            open: false,
            answer: true,
            number: 9,
            data: Bytes::from_static(b"abc"),
            received_up_to: 4,
            delivered_up_to: 5,
            credit_up_to: 6,
            end: DebugEnd::Closed as i32,
            watch: true,
        };
        assert_eq!(message, expected);
    }
}
