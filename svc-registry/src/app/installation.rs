//! What the installation has: the enrolment root, its device roots, and the key that signs tokens. The first of each is made at the
//! first start, by whichever replica comes first; sealed at rest, each under its row's name.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use kit::seal::MasterKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use wire::TenantId;
use wire::key::Digest;
use zeroize::Zeroizing;

use crate::ca::{self, Made, Signer};
use crate::error::Error;
use crate::model::roots;
use crate::store::authority::{self as rows, StoredAuthority, StoredSigningKey};
use crate::store::{Store, Tx};

const DEVICE: &str = "device";
const ENROLL: &str = "enroll";

/// The installation's own keys, unsealed where they are used at every request.
pub(crate) struct Installation {
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
        root(&tx, master, DEVICE, now).await?;
        let enroll = root(&tx, master, ENROLL, now).await?;
        if rows::signing_keys(&tx).await?.is_empty() {
            rows::insert_signing_key(&tx, &new_signing_key(master)?).await?;
        }
        let keys = rows::signing_keys(&tx).await?;
        tx.commit().await?;
        let newest = keys.first().ok_or(Error::NoKeys)?;
        let pkcs8 = master.open(&newest.sealed_key, &signing_owner(&newest.kid))?;
        Ok(Self {
            enroll: open_signer(master, &enroll, &root_owner(ENROLL))?,
            kid: newest.kid.clone(),
            signing: EncodingKey::from_ec_der(pkcs8.expose()),
            jwks: jwks(&keys),
        })
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

/// Certificates of the device roots that are trusted, for a broker that asks nobody.
pub(crate) async fn device_roots_der(store: &Store) -> Result<Vec<Vec<u8>>, Error> {
    let tx = store.every().await?;
    let roots = rows::device_root_certificates(&tx).await?;
    tx.commit().await?;
    Ok(roots)
}

/// One more device root. The caller holds the installation's lock.
pub(super) async fn make_device_root(
    tx: &Tx,
    master: &MasterKey,
    now: SystemTime,
) -> Result<[u8; 32], Error> {
    let made = ca::device_root(now)?;
    let stored = sealed(master, &made, &root_owner(DEVICE))?;
    rows::insert_root(tx, DEVICE, &stored, now).await?;
    Ok(stored.key_digest)
}

/// What issues a tenant's certificates now: its intermediate under the root that issues, made when it is needed first.
pub(super) async fn tenant_authority(
    tx: &Tx,
    master: &MasterKey,
    tenant: TenantId,
    now: SystemTime,
) -> Result<(Signer, [u8; 32]), Error> {
    let roots = rows::device_roots(tx).await?;
    let root = roots::issuing(&roots, now).ok_or(Error::NoKeys)?.key_digest;
    let owner = intermediate_owner(tenant);
    if let Some(stored) = rows::intermediate(tx, tenant, &root).await? {
        return Ok((open_signer(master, &stored, &owner)?, stored.key_digest));
    }
    let stored_root = rows::device_root(tx, &root).await?.ok_or(Error::NoKeys)?;
    let signer = open_signer(master, &stored_root, &root_owner(DEVICE))?;
    let stored = sealed(master, &ca::intermediate(&signer, tenant, now)?, &owner)?;
    if rows::insert_intermediate(tx, tenant, &root, &stored).await? {
        return Ok((open_signer(master, &stored, &owner)?, stored.key_digest));
    }
    // Another transaction was faster.
    let stored = rows::intermediate(tx, tenant, &root).await?.ok_or(Error::NoKeys)?;
    Ok((open_signer(master, &stored, &owner)?, stored.key_digest))
}

fn open_signer(master: &MasterKey, stored: &StoredAuthority, owner: &str) -> Result<Signer, Error> {
    let pkcs8 = match stored.sealed_by_key {
        true => master.open(&stored.sealed_key, &owner_of_key(owner, &stored.key_digest))?,
        false => master.open(&stored.sealed_key, owner)?,
    };
    Ok(Signer::new(&stored.certificate, pkcs8.expose())?)
}

fn sealed(master: &MasterKey, made: &Made, owner: &str) -> Result<StoredAuthority, Error> {
    Ok(StoredAuthority {
        certificate: made.certificate.clone(),
        key_digest: made.key_digest,
        sealed_key: master.seal(&made.pkcs8, &owner_of_key(owner, &made.key_digest))?,
        sealed_by_key: true,
    })
}

/// Several keys may be of one kind or tenant: none opens in the place of another.
fn owner_of_key(owner: &str, key_digest: &[u8; 32]) -> String {
    format!("{owner}/{}", hex::encode(key_digest))
}

async fn root(tx: &Tx, master: &MasterKey, kind: &str, now: SystemTime) -> Result<StoredAuthority, Error> {
    if let Some(stored) = rows::root(tx, kind).await? {
        return Ok(stored);
    }
    let made = if kind == DEVICE { ca::device_root(now)? } else { ca::enroll_root(now)? };
    let stored = sealed(master, &made, &root_owner(kind))?;
    rows::insert_root(tx, kind, &stored, now).await?;
    Ok(stored)
}

fn root_owner(kind: &str) -> String {
    format!("registry.roots/{kind}")
}

fn intermediate_owner(tenant: TenantId) -> String {
    format!("registry.intermediates/{tenant}")
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
