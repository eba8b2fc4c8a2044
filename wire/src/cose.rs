//! COSE signatures (RFC 9052) with ES256 (RFC 9053 §2.1): COSE_Sign1 and COSE_Sign, attached and detached.
//!
//! Only what docs/bundle.md uses is read: protected headers algorithm (1) and content type (3), unprotected header
//! key id (4), no external data. Any other header, critical or not, is refused: what is not understood is not
//! believed. Signature checks are generic over [`Verify`].

use p256::ecdsa::signature::hazmat::PrehashVerifier;

use crate::cbor::{CborError, Head, Reader};
use crate::key::{Digest, KeyError, KeyHash, PublicKey, Signature};
use crate::limits::SIGNATURES_MAX;

/// CBOR tag of COSE_Sign1.
pub(crate) const TAG_SIGN1: u64 = 18;
/// CBOR tag of COSE_Sign.
pub(crate) const TAG_SIGN: u64 = 98;
/// ECDSA with SHA-256, RFC 9053 §2.1.
pub(crate) const ES256: i64 = -7;
/// Protected headers `{1: -7}`, encoded.
#[cfg(feature = "sign")]
pub(crate) const PROTECTED_ES256: [u8; 3] = [0xa1, 0x01, 0x26];
pub(crate) const HEADER_ALGORITHM: i64 = 1;
pub(crate) const HEADER_CONTENT_TYPE: i64 = 3;
pub(crate) const HEADER_KEY_ID: i64 = 4;

/// Checks ECDSA P-256 with SHA-256. Boards and servers may bring a faster one than [`P256`].
pub trait Verify {
    /// Whether `signature` is `key`'s over SHA-256 of the parts, one after the other. A key off the curve, r or s out
    /// of range: no.
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &Signature) -> bool;

    /// The key's name. It takes a square root: who meets the same keys again may remember it.
    fn key_hash(&self, key: &PublicKey) -> Result<KeyHash, KeyError> {
        key.hash()
    }
}

impl<V: Verify + ?Sized> Verify for &V {
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &Signature) -> bool {
        (**self).verify(key, message, signature)
    }

    fn key_hash(&self, key: &PublicKey) -> Result<KeyHash, KeyError> {
        (**self).key_hash(key)
    }
}

/// The p256 crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct P256;

impl Verify for P256 {
    fn verify(&self, key: &PublicKey, message: &[&[u8]], signature: &Signature) -> bool {
        let (Ok(point), Ok(signature)) = (key.point(), p256::ecdsa::Signature::from_slice(&signature.0))
        else {
            return false;
        };
        let digest = Digest::of_parts(message);
        p256::ecdsa::VerifyingKey::from(point).verify_prehash(&digest.0, &signature).is_ok()
    }
}

/// Why bytes are not a COSE object we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Not deterministic CBOR of the right shape, or a header we do not read.
    #[error("malformed COSE object: {0}")]
    Cbor(CborError),
    /// Another algorithm than ES256.
    #[error("algorithm is not ES256")]
    Algorithm,
    /// More signatures than [`SIGNATURES_MAX`], or none.
    #[error("no signature, or too many")]
    SignatureCount,
}

impl From<CborError> for CoseError {
    fn from(error: CborError) -> CoseError {
        CoseError::Cbor(error)
    }
}

/// A COSE_Sign1 (tag 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign1<'a> {
    protected: &'a [u8],
    /// Header 3.
    pub content_type: Option<&'a str>,
    /// Header 4; which key claims to have signed.
    pub key_id: Option<KeyHash>,
    /// None when detached.
    pub payload: Option<&'a [u8]>,
    /// The signature, not yet checked.
    pub signature: Signature,
}

impl<'a> Sign1<'a> {
    /// Reads one, and nothing after it.
    pub fn decode(bytes: &'a [u8]) -> Result<Sign1<'a>, CoseError> {
        let mut reader = Reader::new(bytes);
        reader.tag(TAG_SIGN1)?;
        reader.array_of(4)?;
        let protected = reader.bytes()?;
        let content_type = decode_protected(protected, true)?;
        let key_id = decode_unprotected(&mut reader)?;
        let payload = decode_payload(&mut reader)?;
        let signature = Signature(*reader.bytes_exact()?);
        reader.finish()?;
        Ok(Sign1 { protected, content_type, key_id, payload, signature })
    }

    /// Whether `key` signed the attached payload; no when there is none.
    pub fn verify(&self, key: &PublicKey, verify: &impl Verify) -> bool {
        self.payload.is_some_and(|payload| self.check(payload, key, verify))
    }

    /// Whether `key` signed this payload, kept elsewhere; no when one is attached.
    pub fn verify_detached(&self, payload: &[u8], key: &PublicKey, verify: &impl Verify) -> bool {
        self.payload.is_none() && self.check(payload, key, verify)
    }

    fn check(&self, payload: &[u8], key: &PublicKey, verify: &impl Verify) -> bool {
        sign1_structure(self.protected, payload, |message| verify.verify(key, message, &self.signature))
    }
}

/// A COSE_Sign (tag 98): one payload, several signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign<'a> {
    protected: &'a [u8],
    /// Header 3 of the body.
    pub content_type: Option<&'a str>,
    /// None when detached.
    pub payload: Option<&'a [u8]>,
    /// The signatures, not yet checked.
    pub signatures: heapless::Vec<SignerSignature<'a>, SIGNATURES_MAX>,
}

/// One signature of a COSE_Sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerSignature<'a> {
    protected: &'a [u8],
    /// Which key claims to have signed.
    pub key_id: KeyHash,
    /// The signature, not yet checked.
    pub signature: Signature,
}

impl<'a> Sign<'a> {
    /// Reads one, and nothing after it.
    pub fn decode(bytes: &'a [u8]) -> Result<Sign<'a>, CoseError> {
        let mut reader = Reader::new(bytes);
        reader.tag(TAG_SIGN)?;
        reader.array_of(4)?;
        let protected = reader.bytes()?;
        let content_type = decode_protected(protected, false)?;
        reader.fields()?.finish()?;
        let payload = decode_payload(&mut reader)?;
        let count = reader.array()?;
        let mut signatures = heapless::Vec::new();
        for _ in 0..count {
            let signature = SignerSignature::decode(&mut reader)?;
            signatures.push(signature).map_err(|_| CoseError::SignatureCount)?;
        }
        if signatures.is_empty() {
            return Err(CoseError::SignatureCount);
        }
        reader.finish()?;
        Ok(Sign { protected, content_type, payload, signatures })
    }

    /// How many *distinct* keys of `keys` signed the attached payload; none when there is none.
    pub fn signers(&self, keys: &[PublicKey], verify: &impl Verify) -> usize {
        self.payload.map_or(0, |payload| self.count(payload, keys, verify))
    }

    /// How many *distinct* keys of `keys` signed this payload, kept elsewhere; none when one is attached.
    pub fn signers_detached(&self, payload: &[u8], keys: &[PublicKey], verify: &impl Verify) -> usize {
        if self.payload.is_some() { 0 } else { self.count(payload, keys, verify) }
    }

    // Counts keys, never signatures: one key that signs twice, or is listed twice, is one.
    fn count(&self, payload: &[u8], keys: &[PublicKey], verify: &impl Verify) -> usize {
        let is_first = |at: usize, key: &PublicKey| !keys[..at].contains(key);
        let distinct = keys.iter().enumerate().filter(|(at, key)| is_first(*at, key));
        distinct.filter(|(_, key)| self.is_signed_by(payload, key, verify)).count()
    }

    fn is_signed_by(&self, payload: &[u8], key: &PublicKey, verify: &impl Verify) -> bool {
        let Ok(hash) = verify.key_hash(key) else { return false };
        let mut claimed = self.signatures.iter().filter(|signature| signature.key_id == hash);
        claimed.any(|signer| {
            sign_structure(self.protected, signer.protected, payload, |message| {
                verify.verify(key, message, &signer.signature)
            })
        })
    }
}

impl<'a> SignerSignature<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<SignerSignature<'a>, CoseError> {
        reader.array_of(3)?;
        let protected = reader.bytes()?;
        if decode_protected(protected, true)?.is_some() {
            return Err(CborError::UnknownKey.into());
        }
        let key_id = decode_unprotected(reader)?.ok_or(CborError::MissingKey(HEADER_KEY_ID))?;
        let signature = Signature(*reader.bytes_exact()?);
        Ok(SignerSignature { protected, key_id, signature })
    }
}

/// Algorithm (if it belongs here) and content type, nothing else.
fn decode_protected(bytes: &[u8], with_algorithm: bool) -> Result<Option<&str>, CoseError> {
    let mut reader = Reader::new(bytes);
    let mut fields = reader.fields()?;
    if with_algorithm && fields.required(HEADER_ALGORITHM)?.int()? != ES256 {
        return Err(CoseError::Algorithm);
    }
    let content_type = fields.optional(HEADER_CONTENT_TYPE)?.map(Reader::text).transpose()?;
    fields.finish()?;
    reader.finish()?;
    Ok(content_type)
}

/// Key id, nothing else.
fn decode_unprotected(reader: &mut Reader<'_>) -> Result<Option<KeyHash>, CborError> {
    let mut fields = reader.fields()?;
    let key_id = fields.optional(HEADER_KEY_ID)?.map(Reader::bytes_exact).transpose()?;
    fields.finish()?;
    Ok(key_id.map(|bytes| KeyHash(*bytes)))
}

fn decode_payload<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, CborError> {
    if reader.null()? { Ok(None) } else { reader.bytes().map(Some) }
}

/// The bytes a COSE_Sign1 signs, in parts: `["Signature1", protected, h'', payload]` (RFC 9052 §4.4).
pub(crate) fn sign1_structure<T>(protected: &[u8], payload: &[u8], then: impl FnOnce(&[&[u8]]) -> T) -> T {
    let heads = [Head::of_bytes(protected), Head::of_bytes(payload)];
    let [protected_head, payload_head] = heads.each_ref().map(Head::as_slice);
    then(&[b"\x84\x6aSignature1", protected_head, protected, b"\x40", payload_head, payload])
}

/// The bytes a COSE_Sign's signer signs, in parts: `["Signature", body protected, protected, h'', payload]`.
pub(crate) fn sign_structure<T>(
    body: &[u8],
    protected: &[u8],
    payload: &[u8],
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let heads = [Head::of_bytes(body), Head::of_bytes(protected), Head::of_bytes(payload)];
    let [body_head, protected_head, payload_head] = heads.each_ref().map(Head::as_slice);
    then(&[b"\x85\x69Signature", body_head, body, protected_head, protected, b"\x40", payload_head, payload])
}
