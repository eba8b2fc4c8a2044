//! Claims: made for a key the caller holds, limited in count and time, ended when revoked.

use std::time::{Duration, SystemTime};

use kit::once::{Call, Known};
use wire::{ClaimId, PublicKey, TenantId};

use super::{Actor, App, Effect, Page, found, micros, one_more};
use crate::ca;
use crate::error::Error;
use crate::model::{Claim, Invalid, claim, field};
use crate::store::authority::{self, Kind};
use crate::store::claims::{self, StoredClaim};
use crate::store::{tenants, upkeep};

/// What a caller asks for.
#[derive(Debug)]
pub(crate) struct NewClaim {
    pub tenant: TenantId,
    pub display_name: String,
    pub devices_max: i64,
    pub ttl: Duration,
    /// SubjectPublicKeyInfo DER.
    pub public_key: Vec<u8>,
}

impl App {
    pub(crate) async fn create_claim(
        &self,
        actor: &Actor,
        call: &Call,
        new: NewClaim,
        now: SystemTime,
    ) -> Result<Claim, Error> {
        let now = micros(now);
        field::display_name("display_name", &new.display_name)?;
        claim::check_new(new.devices_max, new.ttl)?;
        let key = PublicKey::from_spki_der(&new.public_key).map_err(|_| {
            Invalid::new("public_key", "must be a P-256 public key as SubjectPublicKeyInfo DER")
        })?;
        let id = ClaimId::new(kit::fresh_id());
        let expires_at = now + new.ttl;
        let issued = ca::claim(self.installation.enroll(), id, &key, expires_at, now)?;
        let made = StoredClaim {
            claim: Claim {
                id,
                tenant: new.tenant,
                display_name: new.display_name,
                devices_max: new.devices_max,
                devices_enrolled: 0,
                certificate: issued.der.clone(),
                created_at: now,
                expires_at,
                revoked_at: None,
            },
            certificate_digest: issued.digest,
            key_digest: ca::key_digest(&key),
        };
        let tx = self.store.tx(new.tenant).await?;
        if let Known::Done(id) = call.begin(&tx, now).await? {
            let id = id.parse().map_err(|_| Error::Corrupt { column: "requests.outcome" })?;
            return found(claims::get_claim(&tx, new.tenant, id).await?);
        }
        if !tenants::lock_tenant(&tx, new.tenant).await? {
            return Err(Error::NotFound);
        }
        claims::insert(&tx, &made).await?;
        let subject = id.to_string();
        authority::insert_certificate(&tx, new.tenant, Kind::Claim, &subject, &made.key_digest, &issued)
            .await?;
        upkeep::audit(&tx, new.tenant, &actor.subject, "create_claim", &subject).await?;
        let mut claim = made.claim;
        if !call.end(tx, &subject).await? {
            // Nobody knows the claim, and yet its certificate leaves no hand of ours.
            claim.certificate.clear();
        }
        Ok(claim)
    }

    pub(crate) async fn claim(&self, tenant: TenantId, id: ClaimId) -> Result<Claim, Error> {
        let tx = self.store.one(tenant).await?;
        found(claims::get_claim(&tx, tenant, id).await?)
    }

    pub(crate) async fn claims(
        &self,
        tenant: TenantId,
        after: &str,
        limit: usize,
    ) -> Result<Page<Claim>, Error> {
        let tx = self.store.one(tenant).await?;
        let rows = claims::list(&tx, tenant, after, one_more(limit)).await?;
        Ok(Page::of(rows, limit, |claim| claim.id.to_string()))
    }

    /// Repeating it is no error: the connections are ended again.
    pub(crate) async fn revoke_claim(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        id: ClaimId,
        now: SystemTime,
    ) -> Result<(Claim, Vec<Effect>), Error> {
        let tx = self.store.tx(tenant).await?;
        let known = call.begin(&tx, now).await?;
        let claim = found(claims::revoke(&tx, tenant, id, micros(now)).await?)?;
        let identity = id.to_string();
        upkeep::request_disconnect(&tx, tenant, &identity).await?;
        if known == Known::New {
            upkeep::audit(&tx, tenant, &actor.subject, "revoke_claim", &identity).await?;
        }
        let effects = if call.end(tx, "").await? { vec![Effect::Disconnect(identity)] } else { Vec::new() };
        Ok((claim, effects))
    }
}
