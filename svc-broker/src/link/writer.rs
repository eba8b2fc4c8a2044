//! Batches to a socket: everything that is ready goes in one vectored write, and rustls encrypts it from where it is.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use std::collections::VecDeque;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::mailbox::{Batch, Mailbox};
use super::metrics::Metrics;

/// Slices of one write: a batch of the largest messages. Every connection has room for them.
const SLICES_MAX: usize = 16;

/// Writes what the mailbox holds, for ever. An error: the peer is gone, or takes nothing.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    to: &mut W,
    mailbox: &Mailbox,
    patience: Duration,
    metrics: &Metrics,
) -> io::Error {
    let mut batch = Batch::default();
    loop {
        mailbox.next(&mut batch).await;
        if let Some(waited) = batch.waited {
            metrics.waited(waited);
        }
        if let Err(error) = write(to, &mut batch.pieces, patience).await {
            return error;
        }
    }
}

/// Writes all pieces; `patience` is for each write to make progress.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    to: &mut W,
    pieces: &mut VecDeque<Bytes>,
    patience: Duration,
) -> io::Result<()> {
    while !pieces.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = pieces.len().min(SLICES_MAX);
        for (slice, piece) in slices.iter_mut().zip(pieces.iter()) {
            *slice = IoSlice::new(piece);
        }
        let written = timeout(patience, to.write_vectored(&slices[..count])).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        advance(pieces, written);
    }
    timeout(patience, to.flush()).await?
}

fn advance(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = pieces.front_mut() {
        if written < piece.len() {
            return piece.advance(written);
        }
        written -= piece.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_goes_on_in_the_middle_of_a_piece() {
        let mut pieces: VecDeque<Bytes> = [&b"abc"[..], b"", b"defg"].map(Bytes::from_static).into();
        advance(&mut pieces, 4);
        assert_eq!(pieces, [Bytes::from_static(b"efg")]);
        advance(&mut pieces, 3);
        assert!(pieces.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut to, _peer) = tokio::io::duplex(8);
        let mut pieces: VecDeque<Bytes> = [Bytes::from_static(&[0; 64])].into();
        let error = write(&mut to, &mut pieces, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
