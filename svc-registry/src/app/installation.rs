//! What the installation has one of: the two roots and the key that signs tokens. Made at the first start, by
//! whichever replica comes first; sealed at rest, each under its row's name.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use kit::seal::MasterKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use wire::key::Digest;
use zeroize::Zeroizing;

use crate::ca::{self, Made, Signer};
use crate::error::Error;
use crate::store::authority::{self as rows, StoredAuthority, StoredSigningKey};
use crate::store::{Store, Tx};

const DEVICE: &str = "device";
const ENROLL: &str = "enroll";

/// The installation's own keys, unsealed where they are used at every request.
pub(crate) struct Installation {
    device_root: Vec<u8>,
    enroll: Signer,
    kid: String,
    signing: EncodingKey,
    jwks: String,
}

impl std::fmt::Debug for Installation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installation").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Installation {
    /// Opens what is there and makes what is missing.
    pub(crate) async fn open(store: &Store, master: &MasterKey, now: SystemTime) -> Result<Self, Error> {
        let tx = store.every().await?;
        rows::lock_installation(&tx).await?;
        let device = root(&tx, master, DEVICE, now).await?;
        let enroll = root(&tx, master, ENROLL, now).await?;
        if rows::signing_keys(&tx).await?.is_empty() {
            rows::insert_signing_key(&tx, &new_signing_key(master)?).await?;
        }
        let keys = rows::signing_keys(&tx).await?;
        tx.commit().await?;
        let newest = keys.first().ok_or(Error::NoKeys)?;
        let pkcs8 = master.open(&newest.sealed_key, &signing_owner(&newest.kid))?;
        Ok(Self {
            device_root: device.certificate,
            enroll: open_signer(master, &enroll, &root_owner(ENROLL))?,
            kid: newest.kid.clone(),
            signing: EncodingKey::from_ec_der(pkcs8.expose()),
            jwks: jwks(&keys),
        })
    }

    /// The root of the device listener's tree, DER.
    pub(crate) fn device_root(&self) -> &[u8] {
        &self.device_root
    }

    /// The root of the enrolment listener's tree.
    pub(crate) fn enroll(&self) -> &Signer {
        &self.enroll
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    /// The public halves, as a JWK Set (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> &str {
        &self.jwks
    }
}

/// The device root with its key, for as long as it takes to sign an intermediate.
pub(crate) async fn device_root_signer(tx: &Tx, master: &MasterKey) -> Result<Signer, Error> {
    let stored = rows::root(tx, DEVICE).await?.ok_or(Error::NoKeys)?;
    open_signer(master, &stored, &root_owner(DEVICE))
}

pub(crate) fn open_signer(
    master: &MasterKey,
    stored: &StoredAuthority,
    owner: &str,
) -> Result<Signer, Error> {
    let pkcs8 = master.open(&stored.sealed_key, owner)?;
    Ok(Signer::new(&stored.certificate, pkcs8.expose())?)
}

pub(crate) fn sealed(master: &MasterKey, made: &Made, owner: &str) -> Result<StoredAuthority, Error> {
    Ok(StoredAuthority {
        certificate: made.certificate.clone(),
        key_digest: made.key_digest,
        sealed_key: master.seal(&made.pkcs8, owner)?,
    })
}

async fn root(tx: &Tx, master: &MasterKey, kind: &str, now: SystemTime) -> Result<StoredAuthority, Error> {
    if let Some(stored) = rows::root(tx, kind).await? {
        return Ok(stored);
    }
    let made = if kind == DEVICE { ca::device_root(now)? } else { ca::enroll_root(now)? };
    let stored = sealed(master, &made, &root_owner(kind))?;
    rows::insert_root(tx, kind, &stored).await?;
    Ok(stored)
}

fn root_owner(kind: &str) -> String {
    format!("registry.roots/{kind}")
}

fn signing_owner(kid: &str) -> String {
    format!("registry.signing_keys/{kid}")
}

fn new_signing_key(master: &MasterKey) -> Result<StoredSigningKey, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(ca::Error::Signing)?;
    let public_point = key.public_key_raw().to_vec();
    let kid = URL_SAFE_NO_PAD.encode(&Digest::of(&public_point).0[..16]);
    let pkcs8 = Zeroizing::new(key.serialize_der());
    let sealed_key = master.seal(&pkcs8, &signing_owner(&kid))?;
    Ok(StoredSigningKey { kid, public_point, sealed_key })
}

fn jwks(keys: &[StoredSigningKey]) -> String {
    let jwk = |key: &StoredSigningKey| {
        let (x, y) = key.public_point[1..].split_at(32);
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key.kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    };
    serde_json::json!({ "keys": keys.iter().map(jwk).collect::<Vec<_>>() }).to_string()
}
