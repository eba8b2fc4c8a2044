//! AES-128-GCM over TLS 1.3 records (RFC 8446 §5.2).

use alloc::boxed::Box;

use aes_gcm::{AeadInOut as _, KeyInit as _};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Nonce,
    OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion};

const KEY_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Aes128Gcm;

impl Tls13AeadAlgorithm for Aes128Gcm {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Direction::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Direction::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        KEY_BYTES
    }

    fn extract_keys(
        &self,
        _key: AeadKey,
        _iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

struct Direction {
    cipher: aes_gcm::Aes128Gcm,
    iv: Iv,
}

impl Direction {
    fn new(key: &AeadKey, iv: Iv) -> Self {
        let cipher = aes_gcm::Aes128Gcm::new_from_slice(key.as_ref()).expect("rustls asked key_len");
        Self { cipher, iv }
    }

    fn nonce(&self, sequence: u64) -> aes_gcm::Nonce<aes_gcm::aead::consts::U12> {
        Nonce::new(&self.iv, sequence).0.into()
    }
}

impl MessageEncrypter for Direction {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let total = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(total);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = self.nonce(sequence);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, &make_tls13_aad(total), payload.as_mut().into())
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        // RFC 8446 §5.2: every protected record looks like application data of TLS 1.2.
        Ok(OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + TAG_BYTES
    }
}

impl MessageDecrypter for Direction {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let nonce = self.nonce(sequence);
        let payload = &mut message.payload;
        let aad = make_tls13_aad(payload.len());
        let (text, tag) = payload.split_last_chunk_mut::<TAG_BYTES>().ok_or(Error::DecryptError)?;
        let length = text.len();
        self.cipher
            .decrypt_inout_detached(&nonce, &aad, text.into(), &(*tag).into())
            .map_err(|_| Error::DecryptError)?;
        payload.truncate(length);
        message.into_tls13_unpadded_message()
    }
}
