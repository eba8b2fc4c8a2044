//! An answer that streams lasts no longer than the token it was asked for with: who lost their key hears nothing more
//! once the token has expired. It then ends with UNAUTHENTICATED, TOKEN_EXPIRED, and may be asked for again.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

use super::keys::refused;
use super::token::TokenError;

/// A response's body, and when it ends at the latest.
#[derive(Debug)]
pub(super) struct Leased {
    /// None: it has ended.
    body: Option<Body>,
    end: Pin<Box<Sleep>>,
}

impl Leased {
    pub(super) fn new(body: Body, life: Duration) -> Self {
        Self { body: Some(body), end: Box::pin(tokio::time::sleep(life)) }
    }
}

impl http_body::Body for Leased {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.body.is_none() {
            return Poll::Ready(None);
        }
        // First: an answer that always has more to say would never end. One that is complete is not taken back.
        let is_over = self.end.as_mut().poll(context).is_ready();
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        if !is_over || body.is_end_stream() {
            return Pin::new(body).poll_frame(context);
        }
        self.body = None;
        let mut trailers = HeaderMap::new();
        refused(TokenError::Expired).add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::unauthenticated;
    use http_body::Body as _;
    use std::future::poll_fn;
    use tonic::Code;

    /// Says its words, then nothing for ever.
    struct Endless(Vec<&'static str>);

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop() {
                Some(word) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(word.as_bytes()))))),
                None => Poll::Pending,
            }
        }
    }

    async fn next(body: &mut Leased) -> Option<Frame<Bytes>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.map(Result::unwrap)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token_and_says_why() {
        let life = Duration::from_secs(900);
        let started = tokio::time::Instant::now();
        let mut body = Leased::new(Body::new(Endless(vec!["b", "a"])), life);
        for word in ["a", "b"] {
            assert_eq!(next(&mut body).await.unwrap().into_data().unwrap(), word);
        }
        let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
        assert!(started.elapsed() >= life);
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(crate::status::reason(&status).as_deref(), Some("TOKEN_EXPIRED"));
        assert!(next(&mut body).await.is_none() && body.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_always_has_more_ends_too_and_a_complete_one_stays_complete() {
        let answer = unauthenticated("X", "x").into_http::<Body>().into_body();
        let mut body = Leased::new(answer, Duration::ZERO);
        assert!(next(&mut body).await.is_none());
        let mut body = Leased::new(Body::new(Endless(vec!["late"])), Duration::ZERO);
        assert!(next(&mut body).await.unwrap().is_trailers());
    }
}
