//! The manifest as the draft lays it out; commands and parameters stay encoded and are walked on demand.

use super::{SuitError, decode_digest, key, read_digest};
use crate::cbor::{CborError, Reader, major};
use crate::key::Digest;

/// A SUIT_Manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawManifest<'a> {
    /// Sequence number.
    pub sequence_number: u64,
    /// Component identifiers.
    pub components: Components<'a>,
    /// Runs before every other sequence.
    pub shared_sequence: Option<Commands<'a>>,
    /// Where the manifest can be found.
    pub reference_uri: Option<&'a str>,
    /// Checks the image.
    pub validate: Option<Commands<'a>>,
    /// Copies the image to where it runs.
    pub load: Option<Commands<'a>>,
    /// Starts the image.
    pub invoke: Option<Commands<'a>>,
    /// Fetches payloads.
    pub payload_fetch: Option<Severable<'a>>,
    /// Installs payloads.
    pub install: Option<Severable<'a>>,
    /// For people.
    pub text: Option<Severable<'a>>,
}

/// A member that may be severed from the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severable<'a> {
    /// It is here: the content of its byte string.
    Here(&'a [u8]),
    /// It is in the envelope, or nowhere; this is its digest, byte string included.
    Severed(Digest),
}

impl<'a> RawManifest<'a> {
    /// Reads a manifest, and nothing after it.
    pub fn decode(bytes: &'a [u8]) -> Result<RawManifest<'a>, SuitError> {
        let mut reader = Reader::new(bytes);
        let mut fields = reader.fields()?;
        if fields.required(key::MANIFEST_VERSION)?.uint()? != 1 {
            return Err(SuitError::Version);
        }
        let sequence_number = fields.required(key::SEQUENCE_NUMBER)?.uint()?;
        let (components, shared_sequence) = decode_common(fields.required(key::COMMON)?.bytes()?)?;
        let manifest = RawManifest {
            sequence_number,
            components,
            shared_sequence,
            reference_uri: fields.optional(key::REFERENCE_URI)?.map(Reader::text).transpose()?,
            validate: fields.optional(key::VALIDATE)?.map(Commands::read).transpose()?,
            load: fields.optional(key::LOAD)?.map(Commands::read).transpose()?,
            invoke: fields.optional(key::INVOKE)?.map(Commands::read).transpose()?,
            payload_fetch: fields.optional(key::PAYLOAD_FETCH)?.map(Severable::read).transpose()?,
            install: fields.optional(key::INSTALL)?.map(Severable::read).transpose()?,
            text: fields.optional(key::TEXT)?.map(Severable::read).transpose()?,
        };
        fields.finish()?;
        reader.finish()?;
        Ok(manifest)
    }
}

fn decode_common(bytes: &[u8]) -> Result<(Components<'_>, Option<Commands<'_>>), SuitError> {
    let mut reader = Reader::new(bytes);
    let mut fields = reader.fields()?;
    let components = fields.required(key::COMPONENTS)?;
    let components = Components::decode(components.item()?)?;
    let shared = fields.optional(key::SHARED_SEQUENCE)?.map(Commands::read).transpose()?;
    fields.finish()?;
    reader.finish()?;
    Ok((components, shared))
}

impl<'a> Severable<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Severable<'a>, SuitError> {
        match reader.peek_major()? {
            major::BYTES => Ok(Severable::Here(reader.bytes()?)),
            _ => read_digest(reader).map(Severable::Severed),
        }
    }
}

/// Component identifiers: arrays of byte strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components<'a> {
    encoded: &'a [u8],
    count: usize,
}

impl<'a> Components<'a> {
    fn decode(encoded: &'a [u8]) -> Result<Components<'a>, CborError> {
        let mut reader = Reader::new(encoded);
        let count = reader.array()?;
        if count == 0 {
            return Err(CborError::Size);
        }
        for _ in 0..count {
            let parts = reader.array()?;
            (0..parts).try_for_each(|_| reader.bytes().map(drop))?;
        }
        reader.finish()?;
        Ok(Components { encoded, count })
    }

    /// How many.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The encoded array of identifiers.
    pub const fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The identifier when there is one component of one part.
    pub fn single(&self) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.encoded);
        reader.array_of(1).ok()?;
        reader.array_of(1).ok()?;
        reader.bytes().ok()
    }
}

/// A command sequence: pairs of a code and an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commands<'a> {
    encoded: &'a [u8],
    pairs: &'a [u8],
}

impl<'a> Commands<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Commands<'a>, CborError> {
        Commands::decode(reader.bytes()?)
    }

    /// Reads a sequence; every argument is checked to be well-formed.
    pub fn decode(encoded: &'a [u8]) -> Result<Commands<'a>, CborError> {
        let mut reader = Reader::new(encoded);
        let items = reader.array()?;
        let pairs = reader.rest();
        if items == 0 || items % 2 != 0 {
            return Err(CborError::Size);
        }
        for _ in 0..items / 2 {
            reader.int()?;
            reader.item()?;
        }
        reader.finish()?;
        Ok(Commands { encoded, pairs })
    }

    /// The encoded sequence.
    pub const fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// Codes and encoded arguments.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &'a [u8])> + use<'a> {
        pairs(Reader::new(self.pairs))
    }
}

/// The argument of `override-parameters`: a map of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    pairs: &'a [u8],
}

impl<'a> Parameters<'a> {
    /// Reads a parameter map from an encoded argument.
    pub fn decode(encoded: &'a [u8]) -> Result<Parameters<'a>, CborError> {
        // Checks order and well-formedness of all that the map holds.
        let mut whole = Reader::new(encoded);
        whole.item()?;
        whole.finish()?;
        let mut reader = Reader::new(encoded);
        let count = reader.map()?;
        let pairs = reader.rest();
        for _ in 0..count {
            reader.int()?;
            reader.item()?;
        }
        Ok(Parameters { pairs })
    }

    /// Codes and encoded values.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &'a [u8])> + use<'a> {
        pairs(Reader::new(self.pairs))
    }

    /// The image's digest, if it is among them.
    pub fn image_digest(&self) -> Result<Option<Digest>, SuitError> {
        let value = self.iter().find(|(code, _)| *code == super::parameter::IMAGE_DIGEST);
        value.map(|(_, encoded)| decode_digest(Reader::new(encoded).bytes()?)).transpose()
    }
}

/// Walks pairs that were checked before.
fn pairs<'a>(mut reader: Reader<'a>) -> impl Iterator<Item = (i64, &'a [u8])> {
    core::iter::from_fn(move || {
        let code = reader.int().ok()?;
        let argument = reader.item().ok()?;
        Some((code, argument))
    })
}
