//! What one connection says and how it ends, decided by seed and number alone: it can be repeated without the others.

use super::super::random::Random;
use super::packets::{self, Voice};

/// Packets after CONNECT.
const PACKETS_MAX: usize = 12;
/// Pieces the bytes of a conversation are written in; a slow writer's first bytes come one by one.
const CUTS_MAX: usize = 6;
const DRIPPED_BYTES: usize = 40;

/// Where a conversation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// As this one of the cast, at its own listener.
    Member(usize),
    /// As this one of the cast, at another's.
    Wrong(usize),
    /// With a certificate that nobody trusts.
    Untrusted,
    /// With bytes that are no TLS.
    Plain,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Write(Vec<u8>),
    /// Until something came back.
    Answer,
    /// Others go first.
    Yield,
}

/// How it ends, if the broker does not end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A TLS close, then all that still comes is read.
    Close,
    /// A TCP half-close without a word of TLS, then all that still comes is read.
    HalfClose,
    /// The socket is closed.
    Drop,
    /// A reset.
    Reset,
    /// Open and silent, often inside a packet, while other conversations go on; then the rest, and a reset or not.
    Linger { reset: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) door: Door,
    /// False: it takes no byte that comes.
    pub(super) reads: bool,
    pub(super) steps: Vec<Step>,
    /// What a lingering connection says last.
    pub(super) rest: Vec<u8>,
    pub(super) end: End,
    pub(super) packets: u64,
}

/// The conversation of this number.
pub(super) fn conversation(seed: u64, number: u64, cast: &[Voice]) -> Conversation {
    let random = &mut Random::new(seed, number);
    let member = random.below(cast.len());
    let door = match random.below(40) {
        0 => Door::Plain,
        1 => Door::Untrusted,
        2 => Door::Wrong(member),
        _ => Door::Member(member),
    };
    let level = random.pick(&[4, 5, 5]);
    let voice = Voice { level, ..cast[member].clone() };
    let (connect, is_honest) = first(random, &voice);
    let reads = !random.one_in(8);
    let mut steps = vec![Step::Write(connect)];
    if reads && is_honest && matches!(door, Door::Member(_)) && random.one_in(2) {
        steps.push(Step::Answer);
    }
    let mut bytes = Vec::new();
    let packets = random.below(PACKETS_MAX + 1);
    for _ in 0..packets {
        let packet = packets::packet(random, &voice);
        bytes.extend(if random.one_in(8) { packets::damaged(random, packet) } else { packet });
    }
    let end = end(random);
    let rest = match end {
        End::Linger { .. } => bytes.split_off(random.below(bytes.len() + 1)),
        _ => Vec::new(),
    };
    cut(random, &bytes, &mut steps);
    Conversation { door, reads, steps, rest, end, packets: packets as u64 + 1 }
}

/// The first packet, and whether it is one to be answered.
fn first(random: &mut Random, voice: &Voice) -> (Vec<u8>, bool) {
    let honest = packets::honest_connect(random, voice);
    match random.below(12) {
        0 => (packets::damaged(random, honest), false),
        1 => (packets::wild_connect(random, voice), false),
        2 => (packets::packet(random, voice), false),
        _ => (honest, true),
    }
}

fn end(random: &mut Random) -> End {
    match random.below(10) {
        0..4 => End::Close,
        4 => End::HalfClose,
        5 | 6 => End::Drop,
        7 => End::Reset,
        _ => End::Linger { reset: random.one_in(2) },
    }
}

/// The bytes in a few pieces, anywhere; the first of them sometimes byte by byte.
fn cut(random: &mut Random, bytes: &[u8], steps: &mut Vec<Step>) {
    let dripped = if random.one_in(10) { bytes.len().min(DRIPPED_BYTES) } else { 0 };
    for byte in &bytes[..dripped] {
        steps.extend([Step::Write(vec![*byte]), Step::Yield]);
    }
    let mut cuts: Vec<usize> =
        (0..random.below(CUTS_MAX)).map(|_| dripped + random.below(bytes.len() - dripped + 1)).collect();
    cuts.extend([dripped, bytes.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2).filter(|pair| pair[0] < pair[1]) {
        steps.extend([Step::Write(bytes[pair[0]..pair[1]].to_vec()), Step::Yield]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast() -> Vec<Voice> {
        let voice = |id: &str, says| Voice {
            level: 5,
            id: id.into(),
            client_id: id.into(),
            mark: "mark".into(),
            others: vec!["dv9".into()],
            says,
        };
        vec![voice("dv1", "up"), voice("dv2", "dn")]
    }

    #[test]
    fn a_conversation_is_the_same_whenever_it_is_made_and_unlike_its_neighbours() {
        for number in 0..2_000 {
            let made = conversation(7, number, &cast());
            assert_eq!(made, conversation(7, number, &cast()));
            assert_ne!(made, conversation(7, number + 1, &cast()));
        }
    }

    #[test]
    fn every_way_in_and_out_and_every_packet_type_is_met() {
        let made: Vec<Conversation> = (0..2_000).map(|number| conversation(7, number, &cast())).collect();
        for door in [Door::Plain, Door::Untrusted, Door::Wrong(0), Door::Member(0), Door::Member(1)] {
            assert!(made.iter().any(|one| one.door == door), "{door:?}");
        }
        for end in [End::Close, End::HalfClose, End::Drop, End::Reset, End::Linger { reset: true }] {
            assert!(made.iter().any(|one| one.end == end), "{end:?}");
        }
        let random = &mut Random::new(7, 0);
        let types: std::collections::BTreeSet<u8> = (0..2_000)
            .filter_map(|_| packets::packet(random, &cast()[0]).first().map(|first| first >> 4))
            .collect();
        assert_eq!(types.len(), 16, "{types:?}");
    }
}
