//! Whole frames from a socket.
//!
//! Holds: at most one frame and one read are buffered; a frame's memory is not kept by the buffer, nor the buffer's by
//! a small frame that waits in a mailbox.

use std::io;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::input::{self, Violation};

/// A frame smaller than this part of its buffer is copied out of it: what waits in a mailbox holds at most this many
/// times its size.
const SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    buffer: BytesMut,
    read_bytes: usize,
    frame_bytes_max: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("closed by peer")]
    Closed,
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R, read_bytes: usize, frame_bytes_max: usize) -> Self {
        Self { from, buffer: BytesMut::new(), read_bytes, frame_bytes_max }
    }

    /// What the rest of the connection may send, once CONNECT is read.
    pub(crate) fn grant(&mut self, read_bytes: usize, frame_bytes_max: usize) {
        self.read_bytes = read_bytes;
        self.frame_bytes_max = frame_bytes_max;
    }

    /// A frame that has already come.
    pub(crate) fn buffered(&mut self) -> Result<Option<BytesMut>, Violation> {
        let Some(bytes) = input::frame_bytes(&self.buffer, self.frame_bytes_max)? else { return Ok(None) };
        if self.buffer.len() < bytes {
            return Ok(None);
        }
        if bytes * SHARE >= self.read_bytes {
            return Ok(Some(self.buffer.split_to(bytes)));
        }
        let frame = BytesMut::from(&self.buffer[..bytes]);
        bytes::Buf::advance(&mut self.buffer, bytes);
        Ok(Some(frame))
    }

    /// The next frame. Dropping the future loses nothing.
    pub(crate) async fn frame(&mut self) -> Result<BytesMut, ReadError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        if self.buffer.is_empty() && self.buffer.capacity() < self.read_bytes / 2 {
            self.buffer = BytesMut::with_capacity(self.read_bytes);
        }
        let frame = input::frame_bytes(&self.buffer, self.frame_bytes_max)?.unwrap_or(0);
        let missing = frame.saturating_sub(self.buffer.len()).max(1);
        if self.buffer.capacity() - self.buffer.len() < missing {
            self.buffer.reserve(missing.max(self.read_bytes - self.buffer.len().min(self.read_bytes)));
        }
        // Without the limit a growing buffer would read on past the frame it grew for.
        let room = (self.buffer.capacity() - self.buffer.len()).max(missing);
        match self.from.read_buf(&mut (&mut self.buffer).limit(room)).await {
            Ok(0) => Err(ReadError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(ReadError::Io(error)),
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(bytes: &[u8], read_bytes: usize, max: usize) -> (Vec<usize>, ReadError) {
        let mut reader = Reader::new(bytes, read_bytes, max);
        let mut lengths = Vec::new();
        loop {
            match reader.frame().await {
                Ok(frame) => lengths.push(frame.len()),
                Err(error) => return (lengths, error),
            }
        }
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_out_whole() {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for payload in [0usize, 1, 100, 127, 128, 4000, 16_000, 5] {
            let mut frame = BytesMut::new();
            frame.put_u8(0x30);
            super::super::output::put_length(&mut frame, payload);
            frame.put_bytes(7, payload);
            expected.push(frame.len());
            bytes.extend_from_slice(&frame);
        }
        for read_bytes in [1, 16, 4096, 65_536] {
            let (lengths, error) = frames(&bytes, read_bytes, 32_768).await;
            assert_eq!(lengths, expected, "{read_bytes}");
            assert!(matches!(error, ReadError::Closed));
        }
    }

    #[tokio::test]
    async fn a_frame_too_large_is_refused_before_its_bytes_are_read() {
        let header = [0x30, 0xff, 0xff, 0xff, 0x7f];
        let mut reader = Reader::new(&header[..], 4096, 32_768);
        assert!(matches!(reader.frame().await, Err(ReadError::Violation(Violation::TooLarge))));
        assert!(reader.buffer.capacity() <= 4096);
    }

    #[tokio::test]
    async fn half_a_frame_at_the_end_is_no_frame() {
        let (lengths, error) = frames(&[0x30, 5, 0, 1], 64, 64).await;
        assert!(lengths.is_empty() && matches!(error, ReadError::Closed));
    }
}
