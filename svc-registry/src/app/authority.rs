//! What brokers ask: whom to trust, and whether a certificate whose chain they verified may connect now. Unknown means
//! no. Authorities are known by the digest of their key, never by name.

use std::time::SystemTime;

use wire::key::Digest;
use wire::{ClaimId, DeviceId, TenantId};

use super::App;
use crate::error::Error;
use crate::model::Standing;
use crate::store::{Tx, authority, claims, enroll};

#[derive(Debug)]
pub(crate) struct Trust {
    pub device_roots: Vec<Vec<u8>>,
    pub enroll_roots: Vec<Vec<u8>>,
}

/// A certificate, as a broker describes it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub common_name: String,
    pub key_digest: Vec<u8>,
    pub issuer_key_digest: Vec<u8>,
    pub certificate_digest: Vec<u8>,
}

/// The tenant, or why not.
pub(crate) type Authorization = Result<TenantId, &'static str>;

const UNKNOWN: &str = "unknown";
const REVOKED: &str = "revoked";
const QUARANTINED: &str = "quarantined";
/// The device has shown a newer certificate.
const SUPERSEDED: &str = "superseded";
const WRONG_ISSUER: &str = "wrong_issuer";
const WRONG_KEY: &str = "wrong_key";
const EXPIRED: &str = "expired";

impl App {
    pub(crate) async fn trust(&self) -> Result<Trust, Error> {
        let tx = self.store.every().await?;
        let device_roots = authority::device_root_certificates(&tx).await?;
        tx.commit().await?;
        Ok(Trust { device_roots, enroll_roots: vec![self.installation.enroll().certificate().to_vec()] })
    }

    /// On the device listener.
    pub(crate) async fn authorize_device(&self, asked: &Asked) -> Result<Authorization, Error> {
        let Ok(device) = asked.common_name.parse::<DeviceId>() else { return Ok(Err(UNKNOWN)) };
        let tx = self.store.every().await?;
        let Some(identity) = enroll::by_id(&tx, device).await? else { return Ok(Err(UNKNOWN)) };
        let issuer_stands = authority::issuer_stands(&tx, identity.tenant, &asked.issuer_key_digest).await?;
        let newest = identity.leaf.as_ref().map(|leaf| Digest::of(&leaf.der).0);
        let shown =
            |digest: Option<[u8; 32]>| digest.is_some_and(|it| it.as_slice() == asked.certificate_digest);
        let answer = if identity.known.revoked {
            Err(REVOKED)
        } else if identity.known.quarantined {
            Err(QUARANTINED)
        } else if !issuer_stands {
            Err(WRONG_ISSUER)
        } else if identity.known.key.as_slice() != asked.key_digest {
            Err(WRONG_KEY)
        } else if !shown(newest) && !shown(identity.leaf_before) {
            Err(SUPERSEDED)
        } else {
            Ok(identity.tenant)
        };
        if let (Ok(_), Some(newest), Some(_)) =
            (answer, newest.filter(|_| shown(newest)), identity.leaf_before)
        {
            enroll::end_leaf_before(&tx, device, &newest).await?;
        }
        tx.commit().await?;
        Ok(answer)
    }

    /// On the enrolment listener: a claim's or a birth certificate.
    pub(crate) async fn authorize_enroll(
        &self,
        asked: &Asked,
        now: SystemTime,
    ) -> Result<Authorization, Error> {
        let tx = self.store.every().await?;
        if asked.issuer_key_digest != self.enroll_key_digest(&tx).await? {
            return Ok(Err(WRONG_ISSUER));
        }
        if let Ok(claim) = asked.common_name.parse::<ClaimId>() {
            let Some(stored) = claims::by_id(&tx, claim).await? else { return Ok(Err(UNKNOWN)) };
            if stored.certificate_digest.as_slice() != asked.certificate_digest
                || stored.key_digest.as_slice() != asked.key_digest
            {
                return Ok(Err(WRONG_KEY));
            }
            return Ok(match stored.claim.standing(now) {
                Standing::Revoked => Err(REVOKED),
                Standing::Expired => Err(EXPIRED),
                // A board it enrolled whose answer was lost must be able to ask again.
                Standing::Good | Standing::Exhausted => Ok(stored.claim.tenant),
            });
        }
        let Ok(device) = asked.common_name.parse::<DeviceId>() else { return Ok(Err(UNKNOWN)) };
        let Some(identity) = enroll::by_id(&tx, device).await? else { return Ok(Err(UNKNOWN)) };
        Ok(if identity.known.revoked {
            Err(REVOKED)
        } else if identity.known.quarantined {
            Err(QUARANTINED)
        } else if identity.known.key.as_slice() != asked.key_digest
            || identity.birth_digest.is_none_or(|digest| digest.as_slice() != asked.certificate_digest)
        {
            Err(WRONG_KEY)
        } else {
            Ok(identity.tenant)
        })
    }

    async fn enroll_key_digest(&self, tx: &Tx) -> Result<Vec<u8>, Error> {
        let stored = authority::root(tx, "enroll").await?.ok_or(Error::NoKeys)?;
        Ok(stored.key_digest.to_vec())
    }
}
