//! Signing keysets. Root keys live apart, so each holder signs the payload alone and anyone puts the parts together.

use alloc::string::String;
use alloc::vec::Vec;

use super::{SignError, Signer, sign_parts};
use crate::cbor::{CborError, Reader, Writer};
use crate::cose::{self, HEADER_CONTENT_TYPE, HEADER_KEY_ID, PROTECTED_ES256};
use crate::id::TenantId;
use crate::key::PublicKey;
use crate::keyset::{self, CONTENT_TYPE, KeysetError, key};
use crate::manifest::Component;

/// What a keyset will say; [`crate::keyset::Keyset`] says what each field means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of Keyset, owned")]
pub struct KeysetSpec {
    pub tenant: TenantId,
    pub version: u32,
    pub root_keys: Vec<PublicKey>,
    pub root_threshold: u8,
    pub release_keys: Vec<ReleaseKeySpec>,
    pub director_key: PublicKey,
    pub crash_key: Option<[u8; 32]>,
    pub broker_anchors: Vec<Vec<u8>>,
}

/// A release key; none: for any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of ReleaseKey, owned")]
pub struct ReleaseKeySpec {
    pub key: PublicKey,
    pub component: Option<Component>,
    pub board: Option<String>,
}

impl KeysetSpec {
    /// The payload root keys sign, read back by the decoder.
    pub fn payload(&self) -> Result<Vec<u8>, SignError> {
        let mut writer = Writer::new();
        writer.map(8);
        writer.int(key::TENANT).text(&self.tenant.text());
        writer.int(key::VERSION).uint(self.version.into());
        writer.int(key::ROOT_KEYS).array(self.root_keys.len());
        self.root_keys.iter().for_each(|key| {
            writer.bytes(key.as_bytes());
        });
        writer.int(key::ROOT_THRESHOLD).uint(self.root_threshold.into());
        writer.int(key::RELEASE_KEYS).array(self.release_keys.len());
        self.release_keys.iter().for_each(|release| release.write(&mut writer));
        writer.int(key::DIRECTOR_KEY).bytes(self.director_key.as_bytes());
        write_or_null(writer.int(key::CRASH_KEY), self.crash_key, |writer, key| writer.bytes(&key));
        writer.int(key::BROKER_ANCHORS).array(self.broker_anchors.len());
        self.broker_anchors.iter().for_each(|anchor| {
            writer.bytes(anchor);
        });
        let payload = writer.into_vec();
        keyset::decode_payload(&payload).map_err(SignError::Keyset)?;
        Ok(payload)
    }

    /// The keyset, signed by root keys that are all at hand.
    pub fn sign(&self, roots: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
        let payload = self.payload()?;
        let signatures: Result<Vec<_>, _> = roots.iter().map(|root| sign_keyset(&payload, *root)).collect();
        assemble_keyset(&payload, &signatures?)
    }
}

impl ReleaseKeySpec {
    fn write(&self, writer: &mut Writer) {
        writer.array(3).bytes(self.key.as_bytes());
        write_or_null(writer, self.component, |writer, component| writer.text(component.name()));
        write_or_null(writer, self.board.as_deref(), |writer, board| writer.text(board));
    }
}

/// One root key's part: an encoded COSE_Signature over a keyset payload.
pub fn sign_keyset(payload: &[u8], root: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let body = body_headers();
    let (hash, signature) =
        cose::sign_structure(&body, &PROTECTED_ES256, payload, |message| sign_parts(root, message))?;
    let mut writer = Writer::new();
    writer.array(3).bytes(&PROTECTED_ES256);
    writer.map(1).int(HEADER_KEY_ID).bytes(&hash.0);
    writer.bytes(&signature.0);
    Ok(writer.into_vec())
}

/// Payload and parts as one COSE_Sign, read back by the decoder. Whether the parts suffice depends on the keyset
/// before; see [`crate::keyset::open_next`].
pub fn assemble_keyset(payload: &[u8], signatures: &[Vec<u8>]) -> Result<Vec<u8>, SignError> {
    let mut writer = Writer::new();
    writer.tag(cose::TAG_SIGN).array(4).bytes(&body_headers()).map(0).bytes(payload);
    writer.array(signatures.len());
    for signature in signatures {
        check_one_item(signature).map_err(|error| SignError::Keyset(KeysetError::Cbor(error)))?;
        writer.raw(signature);
    }
    let signed = writer.into_vec();
    keyset::read(&signed).map_err(SignError::Keyset)?;
    Ok(signed)
}

fn check_one_item(bytes: &[u8]) -> Result<(), CborError> {
    let mut reader = Reader::new(bytes);
    reader.item()?;
    reader.finish()
}

fn body_headers() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(1).int(HEADER_CONTENT_TYPE).text(CONTENT_TYPE);
    writer.into_vec()
}

fn write_or_null<T>(
    writer: &mut Writer,
    value: Option<T>,
    write: impl FnOnce(&mut Writer, T) -> &mut Writer,
) {
    match value {
        Some(value) => write(writer, value),
        None => writer.null(),
    };
}
