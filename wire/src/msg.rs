//! The MQTT payloads, generated from proto/holdfast/device/v1/device.proto by femtopb: no allocation, fields borrow
//! from the received bytes, repeated fields decode as they are walked.
//!
//! `proto::device::v1` holds the same messages as owned prost types for services; a test compares the two byte for
//! byte.

pub use femtopb::error::{DecodeError, EncodeError};
pub use femtopb::{EnumValue, Enumeration, Message, Repeated};

#[expect(
    missing_docs,
    missing_debug_implementations,
    clippy::allow_attributes,
    reason = "generated; documented in device.proto"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/holdfast.device.v1.rs"));
}

pub use generated::*;

/// Encodes a message into the front of a buffer and returns the bytes used.
pub fn encode<'b, 'm>(message: &impl Message<'m>, buffer: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    let length = message.encoded_len();
    let mut cursor = &mut buffer[..];
    message.encode(&mut cursor)?;
    Ok(&buffer[..length])
}

/// Encodes a message into a new vector.
#[cfg(feature = "alloc")]
pub fn to_vec<'m>(message: &impl Message<'m>) -> alloc::vec::Vec<u8> {
    let mut bytes = alloc::vec![0; message.encoded_len()];
    let mut cursor = &mut bytes[..];
    message.encode(&mut cursor).expect("the buffer has the message's length");
    bytes
}
