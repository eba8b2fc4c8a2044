//! The primitives that snow asks for, over crates that a board has for TLS already.

use alloc::boxed::Box;
use core::cell::Cell;

use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};
use sha2::{Digest as _, Sha256};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::key::KEY_BYTES;

/// Bytes that encryption adds.
pub(crate) const TAG_BYTES: usize = 16;

/// One handshake's: it has the randomness for one ephemeral key, drawn by the caller, and no other.
pub(crate) struct Primitives(Cell<Option<Zeroizing<[u8; KEY_BYTES]>>>);

impl Primitives {
    pub(crate) fn new(ephemeral: [u8; KEY_BYTES]) -> Self {
        Self(Cell::new(Some(Zeroizing::new(ephemeral))))
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(self.0.take())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519).then(|| Box::new(X25519::of([0; KEY_BYTES])) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::SHA256).then(|| Box::new(Sha(Sha256::new())) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let none = Zeroizing::new([0; KEY_BYTES]);
        (*choice == CipherChoice::AESGCM).then(|| Box::new(AesGcm(none)) as Box<dyn Cipher>)
    }
}

/// Gives out what was drawn, once: a second ephemeral key out of it would be the first one again.
struct Drawn(Option<Zeroizing<[u8; KEY_BYTES]>>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let drawn = self.0.take().filter(|drawn| drawn.len() == into.len()).ok_or(Error::Rng)?;
        into.copy_from_slice(drawn.as_ref());
        Ok(())
    }
}

struct X25519 {
    secret: StaticSecret,
    public: [u8; KEY_BYTES],
}

impl X25519 {
    fn of(secret: [u8; KEY_BYTES]) -> Self {
        let secret = StaticSecret::from(secret);
        // The key of zeros is a place for one that comes: its public half is never asked for.
        Self { secret, public: [0; KEY_BYTES] }
    }

    fn take(&mut self, secret: [u8; KEY_BYTES]) {
        self.secret = StaticSecret::from(secret);
        self.public = x25519_dalek::PublicKey::from(&self.secret).to_bytes();
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_BYTES
    }

    fn priv_len(&self) -> usize {
        KEY_BYTES
    }

    fn set(&mut self, secret: &[u8]) {
        // Every caller has 32 bytes; others are no key.
        if let Ok(secret) = secret.try_into() {
            self.take(secret);
        }
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        random.try_fill_bytes(secret.as_mut())?;
        self.take(*secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; KEY_BYTES] = *public.first_chunk().ok_or(Error::Dh)?;
        let shared = self.secret.diffie_hellman(&public.into());
        // A point of low order makes the same secret with every key: nobody honest sends one (Noise, §12.1).
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..KEY_BYTES).ok_or(Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = self.0.finalize_reset();
        if let Some(out) = out.first_chunk_mut() {
            *out = digest.into();
        }
    }
}

struct AesGcm(Zeroizing<[u8; KEY_BYTES]>);

impl AesGcm {
    /// Made for each message: the schedule of both directions would be 2 KiB to keep for as long as a session lasts.
    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }
}

/// Noise, §12.3: 32 zero bits, then the counter, the highest byte first.
fn nonce(counter: u64) -> aes_gcm::Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce.into()
}

impl Cipher for AesGcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; KEY_BYTES]) {
        *self.0 = *key;
    }

    fn encrypt(&self, counter: u64, associated: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let length = plain.len();
        let (text, tag_at) = out[..length + TAG_BYTES].split_at_mut(length);
        text.copy_from_slice(plain);
        let tag = self
            .cipher()
            .encrypt_inout_detached(&nonce(counter), associated, text.into())
            .expect("a message is shorter than 64 GiB");
        tag_at.copy_from_slice(&tag);
        length + TAG_BYTES
    }

    fn decrypt(
        &self,
        counter: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(text);
        self.cipher()
            .decrypt_inout_detached(&nonce(counter), associated, out.into(), &(*tag).into())
            .map_err(|_| Error::Decrypt)?;
        Ok(text.len())
    }
}
