//! A stream that reads so many bytes and no more, until it is released: who has not shown a certificate yet gets no further.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    /// Bytes that may still be read; none: all there are.
    left: Option<usize>,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, bytes_max: usize) -> Self {
        Self { inner, left: Some(bytes_max) }
    }

    /// From now on without a bound.
    pub(crate) fn release(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    /// Past the bound: [`io::ErrorKind::FileTooLarge`].
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else { return Pin::new(&mut self.inner).poll_read(context, buffer) };
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(left.min(buffer.remaining())));
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        self.left = Some(left - count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn as_many_bytes_as_allowed_are_read_and_one_more_is_an_error() {
        let mut metered = Metered::new(&b"0123456789"[..], 4);
        let mut read = [0; 8];
        assert_eq!(metered.read(&mut read).await.unwrap(), 4);
        assert_eq!(&read[..5], b"0123\0");
        let error = metered.read(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        metered.release();
        assert_eq!(metered.read(&mut read).await.unwrap(), 6);
        assert_eq!(&read[..6], b"456789");
    }
}
