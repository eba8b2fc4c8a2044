//! The two bounded buffers of a connection, over memory the board lends.
//!
//! `Rx` collects bytes until a packet is whole and hands it out where it lies; `Tx` collects packets until the board
//! has sent them. Neither grows: a packet that does not fit is an error for the caller, never a longer buffer.

/// Bytes received and not yet understood.
#[derive(Debug)]
pub(super) struct Rx<'b> {
    bytes: &'b mut [u8],
    start: usize,
    end: usize,
    held: usize,
}

impl<'b> Rx<'b> {
    pub(super) fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, start: 0, end: 0, held: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end, self.held) = (0, 0, 0);
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Where the board puts what it reads; empty only while a packet that fills the buffer is being handled.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// The first `count` bytes of `spare` now hold data.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks the next `length` unread bytes as the packet under way; `held` lends them until `release`.
    pub(super) fn hold(&mut self, length: usize) {
        self.held = length.min(self.end - self.start);
    }

    pub(super) fn held(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.held]
    }

    /// Forgets the packet handed out before.
    pub(super) fn release(&mut self) {
        self.start += self.held;
        self.held = 0;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// Packets waiting to be sent.
#[derive(Debug)]
pub(super) struct Tx<'b> {
    bytes: &'b mut [u8],
    start: usize,
    end: usize,
}

impl<'b> Tx<'b> {
    pub(super) fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, start: 0, end: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The board sent the first `count` pending bytes.
    pub(super) fn sent(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    pub(super) fn free(&self) -> usize {
        self.bytes.len() - (self.end - self.start)
    }

    /// All free bytes, in one piece.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// The first `count` bytes of `spare` now belong to a packet.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_lent_where_it_lies_and_forgotten_after() {
        let mut memory = [0; 8];
        let mut rx = Rx::new(&mut memory);
        rx.spare()[..5].copy_from_slice(b"abcde");
        rx.filled(5);
        rx.hold(3);
        assert_eq!(rx.held(), b"abc");
        rx.release();
        assert_eq!(rx.unread(), b"de");
        assert_eq!(rx.spare().len(), 6);
    }

    #[test]
    fn sending_in_pieces_frees_what_was_sent() {
        let mut memory = [0; 4];
        let mut tx = Tx::new(&mut memory);
        tx.spare().copy_from_slice(b"abcd");
        tx.filled(4);
        assert_eq!(tx.free(), 0);
        tx.sent(3);
        assert_eq!((tx.pending(), tx.free()), (&b"d"[..], 3));
        tx.spare()[0] = b'e';
        tx.filled(1);
        assert_eq!(tx.pending(), b"de");
        tx.sent(99);
        assert!(tx.is_empty());
    }
}
