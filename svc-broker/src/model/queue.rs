//! Handshakes under way, and which one makes room for a newcomer: the oldest of the address that holds the most.
//!
//! Holds: at most `max` at once; an address that holds no more than others is not the one that pays for a crowd.

// Addresses are data; sockets are `std::net`'s alone.
use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug)]
pub(crate) struct Queue<H> {
    max: usize,
    next: u64,
    inside: BTreeMap<u64, (Source, H)>,
    held: HashMap<Source, usize>,
}

/// Whom sockets are counted to: an IPv4 address, or the network of an IPv6 one (RFC 4291 §2.5.4: the lower half is the
/// host's own choice).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source([u8; 8]);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        let octets = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let half = if octets[..8] == [0; 8] { 8..16 } else { 0..8 };
        let mut source = [0; 8];
        source.copy_from_slice(&octets[half]);
        Self(source)
    }
}

impl<H> Queue<H> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, next: 0, inside: BTreeMap::new(), held: HashMap::new() }
    }

    /// The newcomer's number, and who must go for it.
    pub(crate) fn enter(&mut self, address: IpAddr, handle: H) -> (u64, Option<H>) {
        let out = if self.inside.len() >= self.max { self.make_room() } else { None };
        let source = Source::from(address);
        self.next += 1;
        self.inside.insert(self.next, (source, handle));
        *self.held.entry(source).or_default() += 1;
        (self.next, out)
    }

    pub(crate) fn leave(&mut self, number: u64) -> Option<H> {
        let (source, handle) = self.inside.remove(&number)?;
        if let Some(held) = self.held.get_mut(&source) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&source);
            }
        }
        Some(handle)
    }

    fn make_room(&mut self) -> Option<H> {
        let most = self.held.values().max()?;
        let (oldest, _) = self.inside.iter().find(|(_, (source, _))| self.held.get(source) == Some(most))?;
        self.leave(*oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_too_many_ends_the_oldest_of_whoever_holds_the_most() {
        let mut queue = Queue::new(4);
        let (innocent, crowd) = (address("192.0.2.1"), address("192.0.2.2"));
        let (first, _) = queue.enter(innocent, "innocent");
        for name in ["a", "b", "c"] {
            assert_eq!(queue.enter(crowd, name).1, None);
        }
        assert_eq!(queue.enter(address("192.0.2.3"), "newcomer").1, Some("a"));
        assert_eq!(queue.enter(crowd, "d").1, Some("b"), "the crowd pays for itself");
        assert_eq!(queue.leave(first), Some("innocent"));
        assert_eq!(queue.enter(crowd, "e").1, None);
    }

    #[test]
    fn alone_an_address_loses_its_oldest_and_leaving_twice_frees_nobody_elses_place() {
        let mut queue = Queue::new(2);
        let alone = address("2001:db8::1");
        let (first, _) = queue.enter(alone, 1);
        queue.enter(alone, 2);
        assert_eq!(queue.enter(alone, 3).1, Some(1));
        assert_eq!(queue.leave(first), None);
        assert_eq!(queue.enter(alone, 4).1, Some(2));
    }

    #[test]
    fn hosts_of_one_network_are_one_source_and_a_mapped_address_is_its_own() {
        let source = |text| Source::from(address(text));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn nothing_is_kept_of_who_left() {
        let mut queue = Queue::new(8);
        let numbers: Vec<u64> = (0..8).map(|n| queue.enter(address(&format!("192.0.2.{n}")), n).0).collect();
        for number in numbers {
            assert!(queue.leave(number).is_some());
        }
        assert!(queue.inside.is_empty() && queue.held.is_empty());
    }
}
