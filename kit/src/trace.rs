//! Traces: which calls and messages belong to one thing that somebody wanted (W3C Trace Context; OpenTelemetry).
//!
//! Every call has a trace id, which its log lines carry; spans leave the process only where `OTLP_ENDPOINT` names a
//! collector (OTLP over gRPC). They are queued in a bounded queue and dropped, counted by the SDK's own log, when the
//! collector is slow: nothing waits for it. A caller's `traceparent` is believed as far as names go, and gives no right.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::telemetry::TelemetryError;
use crate::tls::Tls;

/// Name of the header, and of the MQTT user property.
pub const TRACEPARENT: &str = "traceparent";
/// Spans that wait for the collector.
pub const SPANS_MAX: usize = 4096;
/// How often they are sent.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take over a batch.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Bytes of `version-trace-span-flags` (W3C Trace Context §3.2).
const BYTES: usize = 55;

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

tokio::task_local! {
    static CURRENT: Trace;
}

/// A place in a trace; others continue from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

/// Something that takes time; it ends when it is dropped.
#[derive(Debug)]
pub struct Span(opentelemetry_sdk::trace::Span);

/// What is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent (W3C Trace Context §3.2)")]
pub struct Malformed;

/// Sends spans to the collector from now on; an `https` one is verified by SERVER_CA. Without an endpoint spans go nowhere.
pub fn export(service: &'static str, endpoint: Option<&str>, tls: &Tls) -> Result<(), TelemetryError> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    let exporter = match is_encrypted(endpoint)? {
        false => exporter,
        true => exporter
            .with_tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(tls.server_ca()))),
    };
    let exporter = exporter.with_timeout(SEND_MAX).build()?;
    let bounds =
        BatchConfigBuilder::default().with_max_queue_size(SPANS_MAX).with_scheduled_delay(SEND_EVERY);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(bounds.build()).build())
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    // A second one, in tests, changes nothing.
    let _ = PROVIDER.set(provider);
    Ok(())
}

/// By the scheme of an endpoint; an error for one that cannot be used.
pub(crate) fn is_encrypted(endpoint: &str) -> Result<bool, TelemetryError> {
    match endpoint.split_once("://").map(|(scheme, _)| scheme) {
        Some("http") => Ok(false),
        Some("https") => Ok(true),
        _ => Err(TelemetryError::CollectorScheme { endpoint: endpoint.to_owned() }),
    }
}

/// Sends what waits; last of all, after the drain.
pub(crate) fn flush() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.force_flush()
    {
        tracing::warn!(%error, "the last spans were not sent");
    }
}

fn tracer() -> SdkTracer {
    // Without a processor: ids, and nothing else.
    PROVIDER.get_or_init(|| SdkTracerProvider::builder().build()).tracer("holdfast")
}

/// Something that happened in a trace at one moment.
pub fn mark(parent: Trace, name: &'static str, attributes: &[(&'static str, String)]) {
    let mut span = Span::start(name, SpanKind::Internal, Some(parent));
    for (key, value) in attributes {
        span.set(key, value.clone());
    }
}

/// A message to another service, as a part of the call that is being answered.
pub fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(value) = Trace::current().and_then(|trace| trace.to_string().parse().ok()) {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    request
}

impl Trace {
    /// That of the call that is being answered.
    pub fn current() -> Option<Trace> {
        CURRENT.try_with(|trace| *trace).ok()
    }

    /// The trace's id alone, 32 hex digits: for logs and people.
    pub fn id(&self) -> impl fmt::Display {
        self.trace
    }
}

impl Span {
    /// The answer to a call; the beginning of a trace when the caller names none.
    pub fn server(name: &'static str, parent: Option<Trace>) -> Span {
        Span::start(name, SpanKind::Server, parent)
    }

    fn start(name: &'static str, kind: SpanKind, parent: Option<Trace>) -> Span {
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(parent.into()),
            None => context,
        };
        let tracer = tracer();
        Span(tracer.build_with_context(tracer.span_builder(name).with_kind(kind), &context))
    }

    pub fn trace(&self) -> Trace {
        let context = self.0.span_context();
        Trace { trace: context.trace_id(), span: context.span_id(), sampled: context.is_sampled() }
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    pub fn failed(&mut self, why: String) {
        self.0.set_status(Status::error(why));
    }

    /// Runs the future as a part of this: what it calls [`Trace::current`].
    pub async fn scope<T>(&self, future: impl Future<Output = T>) -> T {
        CURRENT.scope(self.trace(), future).await
    }
}

impl From<Trace> for SpanContext {
    fn from(it: Trace) -> SpanContext {
        let flags = if it.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        SpanContext::new(it.trace, it.span, flags, true, TraceState::default())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for Trace {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Trace, Malformed> {
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let known = text.get(..BYTES).ok_or(Malformed)?;
        let parts: Vec<&str> = known.split('-').collect();
        let &[version, trace, span, flags] = parts.as_slice() else { return Err(Malformed) };
        let lengths = [version, trace, span, flags].map(str::len);
        // §3.2.1 and §4.3: later versions may say more behind a dash; this one says no more.
        let rest = match version {
            "00" => text.len() == BYTES,
            "ff" => false,
            _ => text.len() == BYTES || text.as_bytes().get(BYTES) == Some(&b'-'),
        };
        if lengths != [2, 32, 16, 2] || !rest || !parts.iter().all(|part| hex(part)) {
            return Err(Malformed);
        }
        let trace = TraceId::from_hex(trace).map_err(|_| Malformed)?;
        let span = SpanId::from_hex(span).map_err(|_| Malformed)?;
        if trace == TraceId::INVALID || span == SpanId::INVALID {
            return Err(Malformed);
        }
        let flags = u8::from_str_radix(flags, 16).map_err(|_| Malformed)?;
        Ok(Trace { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_standard_shows_is_read_and_written() {
        let trace: Trace = GOOD.parse().unwrap();
        assert_eq!(trace.to_string(), GOOD);
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        // A later version, with more behind it.
        let later = format!("{}-more", GOOD.replacen("00", "cc", 1));
        assert_eq!(later.parse::<Trace>().unwrap(), trace);
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b-01",
        ] {
            assert_eq!(bad.parse::<Trace>(), Err(Malformed), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_span_continues_its_parents_trace_and_begins_one_without() {
        let parent: Trace = GOOD.parse().unwrap();
        let span = Span::server("call", Some(parent));
        assert_eq!(span.trace().trace, parent.trace);
        assert_ne!(span.trace().span, parent.span);
        assert_ne!(Span::server("call", None).trace().trace, TraceId::INVALID);
        assert_eq!(Trace::current(), None);
        assert_eq!(span.scope(async { Trace::current() }).await, Some(span.trace()));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "\\PC{0,70}|[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            if let Ok(trace) = text.parse::<Trace>() {
                prop_assert_eq!(trace.to_string().parse::<Trace>(), Ok(trace));
            }
        }
    }
}
