//! ECDHE over P-256, each secret used once.

use alloc::boxed::Box;

use p256::PublicKey;
use p256::ecdh::EphemeralSecret;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// An uncompressed point, the only form RFC 8446 §4.2.8.2 knows.
const POINT_BYTES: usize = 65;

#[derive(Debug)]
pub(super) struct Secp256r1;

impl SupportedKxGroup for Secp256r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut random = crate::random::generator().ok_or(GetRandomFailed)?;
        let secret = EphemeralSecret::generate_from_rng(&mut random);
        let mut public = [0; POINT_BYTES];
        public.copy_from_slice(secret.public_key().to_sec1_point(false).as_bytes());
        Ok(Box::new(Begun { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

struct Begun {
    secret: EphemeralSecret,
    public: [u8; POINT_BYTES],
}

impl ActiveKeyExchange for Begun {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = || Error::from(PeerMisbehaved::InvalidKeyShare);
        if peer.len() != POINT_BYTES {
            return Err(refused());
        }
        // On the curve and not its neutral point, or it is no key.
        let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| refused())?;
        Ok(self.secret.diffie_hellman(&peer).raw_secret_bytes().as_slice().into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}
