//! What commands print: aligned tables for people, proto3 JSON for programs.
//!
//! JSON is the canonical protobuf mapping, made from the descriptors, so that it always has the API's own names.

use std::io::Write;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_types::Timestamp;

/// Prints one message as a line of JSON. `name` is its full protobuf name.
pub(crate) fn json<M: Message>(name: &str, message: &M) -> Result<()> {
    line(&escaped(&to_json(name, message)?.to_string()))
}

/// Prints a document that is more than one message.
pub(crate) fn document(value: &serde_json::Value) -> Result<()> {
    line(&escaped(&value.to_string()))
}

/// The same JSON with the control characters escaped that JSON allows as they are (RFC 8259 §7) and terminals obey.
fn escaped(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        if c.is_control() {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
        out
    })
}

/// Text of devices and other people is hostile: control characters would let it write on the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The canonical JSON of a message.
pub(crate) fn to_json<M: Message>(name: &str, message: &M) -> Result<serde_json::Value> {
    let descriptor =
        pool().get_message_by_name(name).with_context(|| format!("no message {name} in the descriptors"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the build made these descriptors"))
}

/// One line on stdout. A closed pipe (`holdfast … | head`) ends the program quietly.
pub(crate) fn line(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("cannot write to stdout"),
    }
}

/// Columns as wide as their longest cell.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", printable(cell)));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Names and values, one a line; empty values are left out.
pub(crate) fn fields(pairs: &[(&str, String)]) -> Result<()> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        line(&format!("{name:width$}  {}", printable(value)))?;
    }
    Ok(())
}

/// RFC 3339 in UTC, to the second; empty when absent.
pub(crate) fn time(timestamp: Option<&Timestamp>) -> String {
    timestamp.map(|t| Timestamp { seconds: t.seconds, nanos: 0 }.to_string()).unwrap_or_default()
}

/// The last part of a resource name: what people type.
pub(crate) fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_uses_the_names_of_the_api() {
        let device = proto::registry::v1::Device {
            name: "tenants/t/devices/d".into(),
            boot_count: 3,
            ..Default::default()
        };
        let value = to_json("holdfast.registry.v1.Device", &device).unwrap();
        assert_eq!(value["name"], "tenants/t/devices/d");
        assert_eq!(value["boot_count"], 3);
    }

    #[test]
    fn neither_text_nor_json_carries_escape_sequences_to_the_terminal() {
        let hostile = "a\u{1b}[2Jb\nc\u{9b}31md\u{7f}";
        assert_eq!(printable(hostile), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}31md\u{fffd}");
        let value = serde_json::Value::from(hostile);
        let json = escaped(&value.to_string());
        assert!(!json.chars().any(char::is_control), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(Some(&Timestamp { seconds: 0, nanos: 5 })), "1970-01-01T00:00:00Z");
        assert_eq!(time(None), "");
    }
}
