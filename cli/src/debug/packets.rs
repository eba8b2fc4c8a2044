//! gdb's protocol cut into packets again, for people who read it. Whatever is no packet is shown as it is.

use zeroize::Zeroizing;

/// What may wait for its end.
const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Digits of the sum behind a packet.
const SUM_BYTES: usize = 2;

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Packets(Zeroizing<Vec<u8>>);

impl Packets {
    /// What is whole by now; acknowledgements are left out.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let mut whole = Vec::new();
        let mut at = 0;
        while let Some(length) = next(&self.0[at..]) {
            let piece = &self.0[at..at + length];
            if piece != b"+" {
                whole.push(piece.escape_ascii().to_string());
            }
            at += length;
        }
        self.0.drain(..at);
        whole
    }
}

/// How long what comes next is; none: its end has not come.
fn next(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'+' => Some(1),
        b'$' | b'%' => match bytes.iter().position(|byte| *byte == b'#') {
            Some(end) if bytes.len() > end + SUM_BYTES => Some(end + SUM_BYTES + 1),
            _ if bytes.len() > PACKET_BYTES_MAX => Some(bytes.len()),
            _ => None,
        },
        _ => {
            let until = bytes.iter().position(|byte| matches!(byte, b'$' | b'%' | b'+'));
            Some(until.unwrap_or(bytes.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_come_out_whole_however_they_came_in() {
        let mut packets = Packets::default();
        assert_eq!(packets.take(b"+$m2820"), Vec::<String>::new());
        assert_eq!(packets.take(b"0000,4#6"), Vec::<String>::new());
        assert_eq!(packets.take(b"1\x03$X0,1:\x00#"), [r"$m28200000,4#61", r"\x03"]);
        assert_eq!(packets.take(b"00-%Stop#00"), [r"$X0,1:\x00#00", "-", "%Stop#00"]);
    }

    #[test]
    fn one_without_an_end_is_shown_when_it_is_longer_than_any() {
        let mut packets = Packets::default();
        assert!(packets.take(&[b'$'; PACKET_BYTES_MAX]).is_empty());
        assert_eq!(packets.take(b"$")[0].len(), PACKET_BYTES_MAX + 1);
        assert!(packets.0.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_is_lost_and_little_is_held(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut packets = Packets::default();
            let mut shown = String::new();
            for piece in &pieces {
                shown.extend(packets.take(piece));
                prop_assert!(packets.0.len() <= PACKET_BYTES_MAX);
            }
            let held = packets.0.escape_ascii().to_string();
            let all = pieces.concat().escape_ascii().to_string();
            let bare = |text: &str| text.replace('+', "");
            prop_assert_eq!(bare(&(shown + &held)), bare(&all));
        }
    }
}
