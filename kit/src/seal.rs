//! Keys at rest: AES-256-GCM under a master key from a file, and [`Secret`], which does not print and is wiped.
//!
//! A sealed blob is one format byte, a random 96-bit nonce, the ciphertext and its tag. The associated data names what
//! the blob is (`device-ca/tn…`), so that one row's secret cannot be moved into another. Random nonces bound the
//! blobs of one master key to 2^32 (NIST SP 800-38D §8.3); an installation seals a few a tenant. Tokens, of which there
//! are many, are sealed by a key of their own in AES-256-GCM-SIV, which bears far more random nonces (RFC 8452 §6).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

const FORMAT: u8 = 1;
const TAG_BYTES: usize = 16;

/// A value that prints as an ellipsis and is wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

/// The key all other keys are sealed under.
pub struct MasterKey {
    blobs: LessSafeKey,
    tokens: LessSafeKey,
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("master key file {path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("master key file {path} does not hold 64 hex digits")]
    Format { path: String },
    #[error("sealed value does not open: another master key, another owner, or damaged")]
    Open,
    #[error("encryption failed")]
    Seal,
}

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value; named so that its uses are found.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for Secret<String> {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Reads 64 hex digits.
    pub fn load(path: &Path) -> Result<Self, SealError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| SealError::Read { path: shown.clone(), source })?;
        let mut key = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice())
            .map_err(|_| SealError::Format { path: shown })?;
        Ok(Self::new(&key))
    }

    pub fn new(key: &[u8; 32]) -> Self {
        let blobs = UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes is what AES-256 takes");
        let derived = Salt::new(HKDF_SHA256, b"").extract(key);
        let tokens = derived
            .expand(&[b"holdfast/tokens"], &AES_256_GCM_SIV)
            .map(UnboundKey::from)
            .expect("HKDF gives more than 32 bytes");
        Self { blobs: LessSafeKey::new(blobs), tokens: LessSafeKey::new(tokens) }
    }

    /// Encrypts; `owner` is authenticated beside it and must be the same to open.
    pub fn seal(&self, plain: &[u8], owner: &str) -> Result<Vec<u8>, SealError> {
        seal(&self.blobs, plain, owner)
    }

    pub fn open(&self, sealed: &[u8], owner: &str) -> Result<Secret<Vec<u8>>, SealError> {
        open(&self.blobs, sealed, owner)
    }

    /// An opaque text for callers to bring back: they can neither read nor make one. `owner` is what it is good for.
    pub fn seal_token(&self, plain: &[u8], owner: &str) -> Result<String, SealError> {
        Ok(URL_SAFE_NO_PAD.encode(seal(&self.tokens, plain, owner)?))
    }

    pub fn open_token(&self, token: &str, owner: &str) -> Result<Vec<u8>, SealError> {
        let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| SealError::Open)?;
        Ok(open(&self.tokens, &sealed, owner)?.expose().clone())
    }
}

fn seal(key: &LessSafeKey, plain: &[u8], owner: &str) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let mut body = Vec::with_capacity(plain.len() + TAG_BYTES);
    body.extend_from_slice(plain);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(owner.as_bytes()), &mut body)
        .map_err(|_| SealError::Seal)?;
    Ok([&[FORMAT], nonce.as_slice(), &body].concat())
}

fn open(key: &LessSafeKey, sealed: &[u8], owner: &str) -> Result<Secret<Vec<u8>>, SealError> {
    let Some((&FORMAT, rest)) = sealed.split_first() else {
        return Err(SealError::Open);
    };
    let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain =
        key.open_in_place(nonce, Aad::from(owner.as_bytes()), &mut body).map_err(|_| SealError::Open)?;
    Ok(Secret(plain.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> MasterKey {
        MasterKey::new(&[7; 32])
    }

    #[test]
    fn what_was_sealed_opens_for_the_same_owner_only() {
        let sealed = key().seal(b"private", "device-ca/a").unwrap();
        assert_eq!(key().open(&sealed, "device-ca/a").unwrap().expose(), b"private");
        assert!(matches!(key().open(&sealed, "device-ca/b"), Err(SealError::Open)));
        assert!(matches!(MasterKey::new(&[8; 32]).open(&sealed, "device-ca/a"), Err(SealError::Open)));
    }

    #[test]
    fn a_token_opens_for_what_it_is_good_for_and_is_no_blob() {
        let token = key().seal_token(b"where", "watch/a").unwrap();
        assert_eq!(key().open_token(&token, "watch/a").unwrap(), b"where");
        let longer = format!("{token}A");
        for (text, owner) in
            [(token.as_str(), "watch/b"), ("é", "watch/a"), ("", "watch/a"), (&longer, "watch/a")]
        {
            assert!(matches!(key().open_token(text, owner), Err(SealError::Open)), "{text}");
        }
        let blob = URL_SAFE_NO_PAD.encode(key().seal(b"private", "watch/a").unwrap());
        assert!(key().open_token(&blob, "watch/a").is_err(), "another key");
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        assert_ne!(key().seal(b"x", "o").unwrap(), key().seal(b"x", "o").unwrap());
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let sealed = key().seal(b"private", "o").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(key().open(&damaged, "o").is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key().open(&sealed[..length], "o").is_err(), "length {length}");
        }
    }

    #[test]
    fn secrets_print_an_ellipsis() {
        let secret: Secret<String> = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret:?} {:?}", key()), "… MasterKey(…)");
    }

    #[test]
    fn a_master_key_file_must_hold_64_hex_digits() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, good) in
            [("ab".repeat(32) + "\n", true), ("ab".repeat(31), false), ("zz".repeat(32), false)]
        {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(MasterKey::load(file.path()).is_ok(), good);
        }
    }

    proptest! {
        #[test]
        fn opening_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(key().open(&bytes, "o").is_err());
        }
    }
}
