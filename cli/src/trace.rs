//! The trace that this command is (W3C Trace Context): every call names it, so that servers' logs and spans, down to what the
//! device reports of an update, are found by one id. A caller that is traced itself hands its own down in `TRACEPARENT`.

use std::sync::OnceLock;

use tonic::metadata::{Ascii, MetadataValue};

static PARENT: OnceLock<MetadataValue<Ascii>> = OnceLock::new();

/// Continues what was handed down, if it is a `traceparent`.
pub(crate) fn begin(given: Option<&str>) {
    if let Some(given) = given.filter(|text| is_traceparent(text)).and_then(|text| text.parse().ok()) {
        // Set once, before anything is sent.
        let _ = PARENT.set(given);
    }
}

/// The `traceparent` of this process.
pub(crate) fn parent() -> MetadataValue<Ascii> {
    PARENT.get_or_init(fresh).clone()
}

/// 32 hex digits, for people.
pub(crate) fn id() -> String {
    parent().to_str().ok().and_then(|text| text.split('-').nth(1)).unwrap_or_default().to_owned()
}

/// Version 00 (W3C Trace Context §3.2.2); anything else is as good as none.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]) && parts.iter().all(hex) && parts[0] == "00"
}

fn fresh() -> MetadataValue<Ascii> {
    let bytes: [u8; 24] = rand::random();
    let (trace, span) = bytes.split_at(16);
    let text = format!("00-{}-{}-01", hex::encode(trace), hex::encode(span));
    text.parse().expect("hex digits and dashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_one_trace() {
        assert_eq!(parent(), parent());
        assert_eq!(id().len(), 32);
        assert!(is_traceparent(fresh().to_str().unwrap()));
        assert_ne!(fresh(), fresh());
        for bad in ["", "00", "00-x", &"x".repeat(80), &"0".repeat(55)] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
