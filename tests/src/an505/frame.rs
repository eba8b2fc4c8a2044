//! As much of Ethernet, IPv4 and UDP as a wire needs that answers DNS and rewrites DHCP leases. Anything else is none of its business.

use std::net::Ipv4Addr;

/// IEEE 802.3: two addresses and a type.
const ETHERNET_BYTES: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
/// RFC 791 §3.1, without options.
const IPV4_BYTES: usize = 20;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_TCP: u8 = 6;
/// RFC 9293 §3.1: where the length of the header and the flags are in a segment, and which of them.
const TCP_OFFSET_AT: usize = 12;
const TCP_FLAGS_AT: usize = 13;
const SYN: u8 = 1 << 1;
const ACK: u8 = 1 << 4;
/// RFC 768.
const UDP_BYTES: usize = 8;

const DNS_PORT: u16 = 53;
const DHCP_SERVER_PORT: u16 = 67;
/// RFC 2131 §2: the fixed part, and §3 the magic cookie.
const DHCP_OPTIONS_AT: usize = 240;
/// RFC 2132: pad, lease time, end, renewal (T1) and rebinding (T2) time.
const OPTION_PAD: u8 = 0;
const OPTION_LEASE: u8 = 51;
const OPTION_TYPE: u8 = 53;
const OPTION_T1: u8 = 58;
const OPTION_T2: u8 = 59;
const OPTION_END: u8 = 255;
const DHCP_ACK: u8 = 5;

/// A UDP datagram in a frame that holds nothing else; offsets are into the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Datagram {
    ip_bytes: usize,
    source_port: u16,
    target_port: u16,
    end: usize,
}

impl Datagram {
    fn of(frame: &[u8]) -> Option<Datagram> {
        let ip = frame.get(ETHERNET_BYTES..)?;
        let ip_bytes = usize::from(ip.first()? & 0x0f) * 4;
        let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
        let plain = frame[12..14] == IPV4 && ip[0] >> 4 == 4 && ip_bytes >= IPV4_BYTES && fragment == 0;
        if !plain || *ip.get(9)? != PROTOCOL_UDP {
            return None;
        }
        let udp = ip.get(ip_bytes..ip_bytes + UDP_BYTES)?;
        let half = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        let end = ETHERNET_BYTES + ip_bytes + usize::from(half(4));
        let whole = end <= frame.len() && usize::from(half(4)) >= UDP_BYTES;
        whole.then_some(Datagram { ip_bytes, source_port: half(0), target_port: half(2), end })
    }

    fn payload_at(&self) -> usize {
        ETHERNET_BYTES + self.ip_bytes + UDP_BYTES
    }
}

/// Whether the frame begins a TCP connection: a SYN that answers nothing.
pub(super) fn opens_connection(frame: &[u8]) -> bool {
    let flags = || {
        let ip = frame.get(ETHERNET_BYTES..)?;
        let ip_bytes = usize::from(ip.first()? & 0x0f) * 4;
        let is_tcp = frame[12..14] == IPV4 && *ip.get(9)? == PROTOCOL_TCP;
        ip.get(ip_bytes + TCP_FLAGS_AT).filter(|_| is_tcp).copied()
    };
    flags().is_some_and(|flags| flags & (SYN | ACK) == SYN)
}

/// What a TCP segment carries; of any other frame all of it.
pub(super) fn payload(frame: &[u8]) -> &[u8] {
    let segment = || {
        let ip = frame.get(ETHERNET_BYTES..)?;
        let ip_bytes = usize::from(ip.first()? & 0x0f) * 4;
        let is_tcp = frame[12..14] == IPV4 && *ip.get(9)? == PROTOCOL_TCP;
        let whole = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let tcp_bytes = usize::from(*ip.get(ip_bytes + TCP_OFFSET_AT)? >> 4) * 4;
        ip.get(ip_bytes + tcp_bytes..whole).filter(|_| is_tcp)
    };
    segment().unwrap_or(frame)
}

/// The answer to a question for the address of one of these names, as a frame back to who asked.
pub(super) fn dns_answer(frame: &[u8], hosts: &[(String, Ipv4Addr)]) -> Option<Vec<u8>> {
    let datagram = Datagram::of(frame).filter(|datagram| datagram.target_port == DNS_PORT)?;
    let query = frame.get(datagram.payload_at()..datagram.end)?;
    // RFC 1035 §4.1.1: a standard query with one question.
    let header = query.get(..12)?;
    if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (name, end) = question(query)?;
    let (_, address) = hosts.iter().find(|(host, _)| host.eq_ignore_ascii_case(&name))?;
    let kind = query.get(end..end + 4)?;
    let answers = u8::from(kind == [0, 1, 0, 1]);
    // Response, recursion available, no error; the question again.
    let mut answer =
        [&header[..2], &[0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0], &query[12..end + 4]].concat();
    if answers == 1 {
        // A pointer to the question's name, A, IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(reply(frame, &datagram, &answer))
}

/// The name of the first question, and where it ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(std::str::from_utf8(query.get(at..at + length)?).ok()?);
        at += length;
    }
}

/// A datagram from whom the frame was for to whom it came from.
fn reply(frame: &[u8], datagram: &Datagram, payload: &[u8]) -> Vec<u8> {
    let ip = &frame[ETHERNET_BYTES..];
    let total = (IPV4_BYTES + UDP_BYTES + payload.len()) as u16;
    let mut reply = [&frame[6..12], &frame[..6], &IPV4].concat();
    reply.extend([0x45, 0]);
    reply.extend(total.to_be_bytes());
    reply.extend([0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0]);
    reply.extend_from_slice(&ip[16..20]);
    reply.extend_from_slice(&ip[12..16]);
    let header = checksum(&[&reply[ETHERNET_BYTES..]]);
    reply[ETHERNET_BYTES + 10..ETHERNET_BYTES + 12].copy_from_slice(&header.to_be_bytes());
    reply.extend(datagram.target_port.to_be_bytes());
    reply.extend(datagram.source_port.to_be_bytes());
    reply.extend((total - IPV4_BYTES as u16).to_be_bytes());
    reply.extend([0, 0]);
    reply.extend_from_slice(payload);
    let end = reply.len();
    seal(&mut reply, IPV4_BYTES, end);
    reply
}

/// Whether the frame is a DHCP server's ACK; its lease becomes this short, and so do the times of renewal.
pub(super) fn shorten_lease(frame: &mut [u8], lease_s: Option<u32>) -> bool {
    let Some(datagram) = Datagram::of(frame).filter(|datagram| datagram.source_port == DHCP_SERVER_PORT)
    else {
        return false;
    };
    let mut at = datagram.payload_at() + DHCP_OPTIONS_AT;
    let mut is_ack = false;
    while at < datagram.end {
        let (kind, length) = (frame[at], usize::from(*frame.get(at + 1).unwrap_or(&0)));
        match kind {
            OPTION_END => break,
            OPTION_PAD => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let value = at + 2..at + 2 + length;
        if value.end > datagram.end {
            break;
        }
        is_ack |= kind == OPTION_TYPE && frame[value.start] == DHCP_ACK;
        // RFC 2131 §4.4.5: renewal after half of the lease, rebinding after seven eighths.
        let seconds = lease_s.and_then(|lease| match kind {
            OPTION_LEASE => Some(lease),
            OPTION_T1 => Some(lease / 2),
            OPTION_T2 => Some(lease / 8 * 7),
            _ => None,
        });
        if let (Some(seconds), 4) = (seconds, length) {
            frame[value.clone()].copy_from_slice(&seconds.to_be_bytes());
        }
        at = value.end;
    }
    seal(frame, datagram.ip_bytes, datagram.end);
    is_ack
}

/// Computes the checksum of the datagram anew (RFC 768: with a pseudo header, and never zero).
fn seal(frame: &mut [u8], ip_bytes: usize, end: usize) {
    let udp = ETHERNET_BYTES + ip_bytes;
    frame[udp + 6..udp + 8].fill(0);
    let addresses = &frame[ETHERNET_BYTES + 12..ETHERNET_BYTES + 20];
    let length = &frame[udp + 4..udp + 6];
    let sum = checksum(&[addresses, &[0, PROTOCOL_UDP], length, &frame[udp..end]]);
    let sum = if sum == 0 { 0xffff } else { sum };
    frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071 over parts; all but the last have an even number of bytes.
fn checksum(parts: &[&[u8]]) -> u16 {
    let halves = parts.iter().flat_map(|part| part.chunks(2));
    let half = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let mut sum: u32 = halves.map(half).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    const ROUTER: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];

    fn datagram(from: ([u8; 6], [u8; 4], u16), to: ([u8; 6], [u8; 4], u16), payload: &[u8]) -> Vec<u8> {
        // As `reply` sees it: the frame it answers goes the other way.
        let mut question = [&from.0[..], &to.0, &IPV4].concat();
        question.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0]);
        question.extend(to.1);
        question.extend(from.1);
        question.extend(to.2.to_be_bytes());
        question.extend(from.2.to_be_bytes());
        question.extend([0, 8, 0, 0]);
        let asked = Datagram::of(&question).expect("a datagram");
        reply(&question, &asked, payload)
    }

    #[test]
    fn a_segment_carries_what_follows_its_headers_and_nothing_of_the_padding() {
        let mut frame = [&BOARD[..], &ROUTER, &IPV4].concat();
        frame.extend([0x45, 0, 0, 20 + 24 + 3, 0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0]);
        frame.extend([10, 0, 2, 15, 10, 0, 2, 2]);
        frame.extend([0; TCP_OFFSET_AT]);
        frame.push(6 << 4);
        frame.extend([0; 11]);
        frame.extend(b"abc\0\0");
        assert_eq!(payload(&frame), b"abc");
        for cut in [0, 13, 14, 20, 40, 57] {
            assert_eq!(payload(&frame[..cut]), &frame[..cut]);
        }
    }

    fn is_sealed(frame: &[u8]) -> bool {
        let datagram = Datagram::of(frame).expect("a datagram");
        let udp = ETHERNET_BYTES + datagram.ip_bytes;
        let (addresses, length) = (&frame[26..34], &frame[udp + 4..udp + 6]);
        let ip = checksum(&[&frame[ETHERNET_BYTES..udp]]);
        ip == 0 && checksum(&[addresses, &[0, PROTOCOL_UDP], length, &frame[udp..datagram.end]]) == 0
    }

    fn query(name: &[u8], kind: u8) -> Vec<u8> {
        let query = [&[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, &[0, kind, 0, 1]].concat();
        datagram((BOARD, [10, 0, 2, 15], 4711), (ROUTER, [10, 0, 2, 3], DNS_PORT), &query)
    }

    #[test]
    fn a_question_for_a_known_name_is_answered_to_who_asked() {
        let hosts = [("broker.example".to_owned(), Ipv4Addr::new(10, 0, 2, 2))];
        let asked = query(b"\x06Broker\x07example\0", 1);
        assert!(is_sealed(&asked));
        let answer = dns_answer(&asked, &hosts).expect("an answer");
        assert!(is_sealed(&answer));
        assert_eq!((&answer[..6], &answer[6..12]), (&BOARD[..], &ROUTER[..]));
        assert_eq!(answer[42..44], [7, 9]);
        assert!(answer.ends_with(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 2, 2]));
        // It has no IPv6 address: that is an answer too.
        let none = dns_answer(&query(b"\x06broker\x07example\0", 28), &hosts).expect("an answer");
        assert_eq!(none[42 + 6..42 + 8], [0, 0]);
        assert_eq!(dns_answer(&query(b"\x05other\0", 1), &hosts), None);
    }

    #[test]
    fn a_lease_is_shortened_and_the_datagram_stays_whole() {
        let mut payload = vec![0; DHCP_OPTIONS_AT];
        payload.extend([
            OPTION_TYPE,
            1,
            DHCP_ACK,
            OPTION_PAD,
            OPTION_LEASE,
            4,
            0,
            1,
            0x51,
            0x80,
            OPTION_END,
            0,
        ]);
        let from = (ROUTER, [10, 0, 2, 2], DHCP_SERVER_PORT);
        let mut frame = datagram(from, (BOARD, [10, 0, 2, 15], 68), &payload);
        let before = frame.clone();
        assert!(shorten_lease(&mut frame, None));
        assert_eq!(frame, before);
        assert!(shorten_lease(&mut frame, Some(8)));
        assert!(is_sealed(&frame));
        assert!(frame.windows(6).any(|it| it == [OPTION_LEASE, 4, 0, 0, 0, 8]));
        assert!(!shorten_lease(&mut query(b"\x05other\0", 1), Some(8)));
    }

    #[test]
    fn a_connection_begins_with_a_syn_that_answers_nothing() {
        let mut segment = [&BOARD[..], &ROUTER, &IPV4].concat();
        segment.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
        segment.extend([0; 20]);
        let flags_at = ETHERNET_BYTES + IPV4_BYTES + TCP_FLAGS_AT;
        for (flags, opens) in [(SYN, true), (SYN | ACK, false), (ACK, false), (0, false)] {
            segment[flags_at] = flags;
            assert_eq!(opens_connection(&segment), opens);
            assert!(!opens_connection(&segment[..flags_at]));
        }
        assert!(!opens_connection(&query(b"\x01a\0", 1)));
    }

    #[test]
    fn a_frame_that_is_cut_short_anywhere_is_left_alone() {
        let hosts = [("a".to_owned(), Ipv4Addr::LOCALHOST)];
        let whole = query(b"\x01a\0", 1);
        for end in 0..whole.len() {
            let mut cut = whole[..end].to_vec();
            assert_eq!(dns_answer(&cut, &hosts), None);
            assert!(!shorten_lease(&mut cut, Some(1)));
        }
    }
}
