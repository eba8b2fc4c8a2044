//! Calls counted when their answer has ended, streams like all others: how long they took, and the code their callers were
//! left with.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

const STATUS: &str = "grpc-status";

/// An answer, and what is known of its call. It is counted when it is dropped.
#[derive(Debug)]
pub(super) struct Measured {
    body: Body,
    method: &'static str,
    trace: String,
    started: Instant,
    /// None: nothing was said yet; if it stays so, the caller left.
    code: Option<Code>,
}

/// What headers or trailers say of a call.
pub(super) fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|status| Code::from_bytes(status.as_bytes()))
}

impl Measured {
    /// `code` is what the answer's headers said, of one that has no body.
    pub(super) fn new(
        body: Body,
        method: &'static str,
        trace: String,
        started: Instant,
        code: Option<Code>,
    ) -> Self {
        Self { body, method, trace, started, code }
    }
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.code = code(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let (method, trace_id) = (self.method, &self.trace);
        match code {
            Code::Ok | Code::Cancelled => {}
            // Strangers are counted; what they send does not fill the log.
            Code::Unauthenticated => tracing::debug!(method, code = ?code, trace_id, "call failed"),
            _ => tracing::info!(method, code = ?code, trace_id, "call failed"),
        }
        metrics::counter!("grpc_requests_total", "method" => method, "code" => i32::from(code).to_string())
            .increment(1);
        metrics::histogram!("grpc_request_seconds", "method" => method)
            .record(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::future::poll_fn;

    /// What is counted of a body that is read to its end or dropped at once.
    fn counted(body: Body, code: Option<Code>, read: bool) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let mut body = Measured::new(body, "/m", "t".into(), Instant::now(), code);
            let mut waker = Context::from_waker(std::task::Waker::noop());
            while read && let Poll::Ready(Some(_)) = Pin::new(&mut body).poll_frame(&mut waker) {}
        });
        handle.render()
    }

    fn trailers(status: Status) -> Body {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        let mut said = Some(Ok::<_, Status>(Frame::trailers(trailers)));
        Body::new(Stub(poll_fn(move |_| Poll::Ready(said.take()))))
    }

    struct Stub<F>(F);

    impl<F: Future<Output = Option<Result<Frame<Bytes>, Status>>> + Unpin> http_body::Body for Stub<F> {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Pin::new(&mut self.0).poll(context)
        }
    }

    #[test]
    fn a_call_is_counted_by_the_code_its_caller_was_left_with() {
        let late = counted(trailers(Status::resource_exhausted("late")), None, true);
        assert!(late.contains(r#"grpc_requests_total{method="/m",code="8"} 1"#), "{late}");
        assert!(late.contains(r#"grpc_request_seconds_count{method="/m"} 1"#), "{late}");
        let early = counted(Body::empty(), Some(Code::NotFound), true);
        assert!(early.contains(r#"code="5"} 1"#), "{early}");
    }

    #[test]
    fn a_caller_that_leaves_is_counted_as_one() {
        let left = counted(trailers(Status::ok("")), None, false);
        assert!(left.contains(r#"code="1"} 1"#), "{left}");
    }
}
