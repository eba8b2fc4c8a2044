//! A server that keeps its keys and says what no server would.

use aes_gcm::{AeadInOut as _, Aes128Gcm, KeyInit as _};
use gateway_core::net::link::End;
use gateway_link::tls::Session;
use rustls::ConnectionTrafficSecrets;

use crate::pki::Pki;
use crate::server::Pair;

/// A session of ours that is open, and the server's keys.
pub(crate) struct Traitor {
    pub(crate) ours: Session,
    cipher: Aes128Gcm,
    iv: [u8; 12],
    sequence: u64,
}

impl Traitor {
    pub(crate) fn new(pki: &Pki) -> Self {
        let mut pair = Pair::new(pki, &pki.server(), |config| {
            config.enable_secret_extraction = true;
            config.send_tls13_tickets = 0;
        });
        pair.run().unwrap();
        let secrets = pair.theirs.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else { panic!("suite") };
        let cipher = Aes128Gcm::new_from_slice(&key.as_ref()[..16]).unwrap();
        Self { ours: pair.ours, cipher, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    /// A record that is as it must be, with this in it.
    pub(crate) fn protect(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence += 1;
        let mut inner = content.to_vec();
        inner.push(kind);
        let mut record = vec![23, 3, 3];
        record.extend_from_slice(&(inner.len() as u16 + 16).to_be_bytes());
        let header: [u8; 5] = record[..].try_into().unwrap();
        let tag =
            self.cipher.encrypt_inout_detached(&nonce.into(), &header, inner.as_mut_slice().into()).unwrap();
        record.extend_from_slice(&inner);
        record.extend_from_slice(&tag);
        record
    }

    /// Hands over bytes as they come, and reads all there is.
    pub(crate) fn hand(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            let room = self.ours.room();
            let count = room.len().min(bytes.len());
            assert!(count > 0, "it takes no more, and has nothing to read");
            room[..count].copy_from_slice(&bytes[..count]);
            self.ours.received(count);
            bytes = &bytes[count..];
            self.ours.turn()?;
            while self.ours.is_readable() {
                self.ours.read(&mut [0; 512]);
                self.ours.turn()?;
            }
            self.ours.sent(usize::MAX);
        }
        Ok(())
    }
}
