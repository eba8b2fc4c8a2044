//! The envelope: an authentication wrapper, the manifest, and whatever was severed from it.

use super::{AUTHENTICATION_BLOCKS_MAX, RawManifest, Severable, SuitError, TAG_ENVELOPE, decode_digest, key};
use crate::cbor::{CborError, Reader, major};
use crate::cose::{Sign1, Verify};
use crate::key::{Digest, PublicKey};

/// A SUIT_Envelope (tag 107).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Who vouches for the manifest.
    pub authentication: Authentication<'a>,
    /// The encoded SUIT_Manifest.
    pub manifest: &'a [u8],
    /// The same inside its byte string, as the digest covers it.
    pub manifest_wrapped: &'a [u8],
    /// Severed payload-fetch sequence, in its byte string.
    pub payload_fetch: Option<&'a [u8]>,
    /// Severed install sequence, in its byte string.
    pub install: Option<&'a [u8]>,
    /// Severed text, in its byte string.
    pub text: Option<&'a [u8]>,
    /// Payloads carried in the envelope.
    pub integrated_payloads: usize,
}

/// The content of the authentication wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication<'a> {
    /// Digest of the manifest inside its byte string.
    pub digest: Digest,
    /// The encoded SUIT_Digest: what the blocks sign, detached.
    pub signed: &'a [u8],
    /// The signatures, not yet checked.
    pub blocks: heapless::Vec<Sign1<'a>, AUTHENTICATION_BLOCKS_MAX>,
}

impl<'a> Envelope<'a> {
    /// Reads an envelope, and nothing after it. Checks the manifest's digest and those of severed members; who signed
    /// is asked with [`Envelope::is_signed_by`].
    pub fn decode(bytes: &'a [u8]) -> Result<Envelope<'a>, SuitError> {
        let mut reader = Reader::new(bytes);
        let envelope = Envelope::read(&mut reader)?;
        reader.finish()?;
        Ok(envelope)
    }

    /// Reads an envelope from the front, as from a bundle file.
    pub fn read(reader: &mut Reader<'a>) -> Result<Envelope<'a>, SuitError> {
        reader.tag(TAG_ENVELOPE)?;
        let pairs = reader.map()?;
        // Text keys follow all integers, so the first pairs are the known members in order.
        let integers = count_integer_keys(*reader, pairs)?;
        let envelope = Envelope::read_members(reader, integers, pairs)?;
        if Digest::of(envelope.manifest_wrapped) != envelope.authentication.digest {
            return Err(SuitError::Digest);
        }
        envelope.check_severed()?;
        Ok(envelope)
    }

    fn read_members(
        reader: &mut Reader<'a>,
        integers: usize,
        pairs: usize,
    ) -> Result<Envelope<'a>, SuitError> {
        let mut fields = reader.fields_of(integers);
        let authentication = Authentication::decode(fields.required(key::AUTHENTICATION)?.bytes()?)?;
        let (manifest, manifest_wrapped) = fields.required(key::MANIFEST)?.bytes_and_wrapped()?;
        let mut severed = |key| -> Result<Option<&'a [u8]>, CborError> {
            let member = fields.optional(key)?.map(Reader::bytes_and_wrapped).transpose()?;
            Ok(member.map(|(_, wrapped)| wrapped))
        };
        let payload_fetch = severed(key::PAYLOAD_FETCH)?;
        let install = severed(key::INSTALL)?;
        let text = severed(key::TEXT)?;
        fields.finish()?;
        let integrated_payloads = read_payloads(reader, pairs - integers)?;
        Ok(Envelope {
            authentication,
            manifest,
            manifest_wrapped,
            payload_fetch,
            install,
            text,
            integrated_payloads,
        })
    }

    /// Whether one of the authentication blocks is this key's.
    pub fn is_signed_by(&self, key: &PublicKey, verify: &impl Verify) -> bool {
        let signed = self.authentication.signed;
        self.authentication.blocks.iter().any(|block| block.verify_detached(signed, key, verify))
    }

    /// Every severed member is named in the manifest by its digest.
    fn check_severed(&self) -> Result<(), SuitError> {
        if self.payload_fetch.is_none() && self.install.is_none() && self.text.is_none() {
            return Ok(());
        }
        let manifest = RawManifest::decode(self.manifest)?;
        let members = [
            (self.payload_fetch, manifest.payload_fetch),
            (self.install, manifest.install),
            (self.text, manifest.text),
        ];
        members.into_iter().try_for_each(|(severed, named)| match (severed, named) {
            (None, _) => Ok(()),
            (Some(wrapped), Some(Severable::Severed(digest))) if Digest::of(wrapped) == digest => Ok(()),
            (Some(_), Some(Severable::Severed(_))) => Err(SuitError::Digest),
            (Some(_), _) => Err(SuitError::Severed),
        })
    }
}

impl<'a> Authentication<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Authentication<'a>, SuitError> {
        let mut reader = Reader::new(bytes);
        let count = reader.array()?;
        let signed = reader.bytes()?;
        let digest = decode_digest(signed)?;
        let mut blocks = heapless::Vec::new();
        for _ in 1..count {
            let block = Sign1::decode(reader.bytes()?)?;
            blocks.push(block).map_err(|_| SuitError::AuthenticationBlocks)?;
        }
        reader.finish()?;
        Ok(Authentication { digest, signed, blocks })
    }
}

/// How many of the next pairs have an integer key, before the first that has not.
fn count_integer_keys(mut ahead: Reader<'_>, pairs: usize) -> Result<usize, CborError> {
    for at in 0..pairs {
        if ahead.peek_major()? == major::TEXT {
            return Ok(at);
        }
        ahead.item()?;
        ahead.item()?;
    }
    Ok(pairs)
}

/// Integrated payloads: text keys in order, byte strings. Deterministic order puts shorter keys first.
fn read_payloads(reader: &mut Reader<'_>, count: usize) -> Result<usize, CborError> {
    let mut last: Option<&[u8]> = None;
    for _ in 0..count {
        let before = *reader;
        reader.text()?;
        let key = before.until(reader);
        if last.is_some_and(|last| last >= key) {
            return Err(CborError::KeyOrder);
        }
        last = Some(key);
        reader.bytes()?;
    }
    Ok(count)
}
