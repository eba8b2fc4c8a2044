//! The QoS 1 messages sent to one client and not acknowledged: packet ids, bounded.
//!
//! Holds: at most `max` ids are out; no id is used twice at once. Nothing is sent again: the session ends with the
//! connection, and what matters is acknowledged end to end (docs/ARCHITECTURE.md, laws 1 and 2).

use std::collections::BTreeSet;

#[derive(Debug)]
pub(crate) struct Window {
    max: usize,
    last: u16,
    out: BTreeSet<u16>,
}

impl Window {
    /// `max` is ours, `receive_maximum` the client's (MQTT 5 §3.1.2.11.3).
    pub(crate) fn new(max: usize, receive_maximum: Option<u16>) -> Self {
        let max = receive_maximum.map_or(max, |theirs| max.min(usize::from(theirs)));
        Self { max: max.max(1), last: 0, out: BTreeSet::new() }
    }

    /// The next packet id, or `None` while the window is full.
    pub(crate) fn open(&mut self) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.out.insert(self.last) {
                return Some(self.last);
            }
        }
    }

    /// False for an id that was not out.
    pub(crate) fn acknowledge(&mut self, id: u16) -> bool {
        self.out.remove(&id)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_closes_at_the_smaller_maximum_and_opens_with_an_acknowledgement() {
        let mut window = Window::new(16, Some(2));
        assert_eq!((window.open(), window.open(), window.open()), (Some(1), Some(2), None));
        assert!(window.acknowledge(2));
        assert_eq!(window.open(), Some(3));
        assert!(!window.acknowledge(2), "an id is acknowledged once");
        assert!(!window.acknowledge(0));
    }

    #[test]
    fn packet_ids_wrap_past_zero_and_skip_those_still_out() {
        let mut window = Window::new(2, None);
        assert_eq!(window.open(), Some(1));
        for _ in 0..u32::from(u16::MAX) {
            let id = window.open().unwrap();
            assert!(id > 1);
            window.acknowledge(id);
        }
    }
}
