//! Enrolment: a board's request in, an answer out, and at most one device made of it.
//!
//! The request proves itself (device.proto, EnrollUp): nothing is believed of the connection it came on. What is
//! decided is decided in `model::enroll`; what is written is written only if what was read still holds, else it is all
//! done again. Certificates are signed outside of transactions.

use std::time::{Duration, SystemTime};

use wire::key::Digest;
use wire::limits::{BOARD_BYTES_MAX, HARDWARE_ID_BYTES_MAX};
use wire::{ClaimId, ClientNonce, DeviceId, PendingId, PublicKey, TenantId};

use super::installation::tenant_authority;
use super::{App, Effect, micros};
use crate::ca::{self, Issued, Signer, Vouching, VouchingFor};
use crate::error::Error;
use crate::model::device::PENDING_PER_TENANT_MAX;
use crate::model::enroll::{Decision, Refusal, Request, Voucher, decide};
use crate::model::{Pending, field};
use crate::store::authority::{self, Kind};
use crate::store::devices::{self, Change};
use crate::store::enroll::{self as rows, Identity, NewDevice, Waiting};
use crate::store::{Tx, claims, keysets, tenants, upkeep};

/// Bytes of a CSR.
pub(crate) const CSR_BYTES_MAX: usize = 1024;
/// Bytes of a vouching certificate.
pub(crate) const VOUCHING_CERTIFICATE_BYTES_MAX: usize = 2048;
/// How often a request is decided anew because another was faster.
const RACES_MAX: usize = 5;
/// A leaf younger than this is sent again instead of a new one: the answer was lost.
const RESEND_MAX: Duration = Duration::from_secs(24 * 3600);
/// What is signed, before the digest (device.proto, EnrollUp).
const VOUCH_PREFIX: &[u8] = b"holdfast enroll\0";
const OLD_KEY_PREFIX: &[u8] = b"holdfast re-enroll\0";

const _: () = assert!(HARDWARE_ID_BYTES_MAX == field::HARDWARE_ID_MAX && BOARD_BYTES_MAX == field::BOARD_MAX);

/// What a board sent, and the client id it came under.
#[derive(Debug, Clone)]
pub(crate) struct EnrollRequest {
    pub client: ClientNonce,
    pub csr: Vec<u8>,
    pub hardware_id: String,
    pub board: String,
    pub old_key_signature: Vec<u8>,
    pub vouching_certificate: Vec<u8>,
    pub vouching_signature: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum EnrollReply {
    Issued(Box<Issue>),
    /// An operator decides; the hardware id is known under another key.
    Pending,
    Refused(Refusal),
}

/// What a board becomes.
#[derive(Debug)]
pub(crate) struct Issue {
    pub device: DeviceId,
    pub tenant: TenantId,
    pub leaf: Vec<u8>,
    pub intermediate: Vec<u8>,
    pub birth: Vec<u8>,
    pub broker: String,
    pub keyset: Vec<u8>,
}

/// A request whose proofs hold.
struct Proven<'a> {
    request: &'a EnrollRequest,
    key: PublicKey,
    key_digest: [u8; 32],
    vouching: Vouching,
}

/// What was read of a request's tenant.
struct Scene {
    tenant: TenantId,
    claim: Option<ClaimId>,
    holder: Option<Identity>,
    subject: Option<Identity>,
    signer: Signer,
    /// Key digest of `signer`.
    issuer: [u8; 32],
    keyset: Option<Vec<u8>>,
    decision: Decision,
}

impl App {
    pub(crate) async fn enroll(
        &self,
        request: &EnrollRequest,
        now: SystemTime,
    ) -> Result<(EnrollReply, Vec<Effect>), Error> {
        let now = micros(now);
        let proven = match self.prove(request) {
            Ok(proven) => proven,
            Err(refusal) => return Ok((EnrollReply::Refused(refusal), vec![])),
        };
        for _ in 0..RACES_MAX {
            let scene = match self.look(&proven, now).await? {
                Ok(scene) => scene,
                Err(refusal) => return Ok((EnrollReply::Refused(refusal), vec![])),
            };
            if let Some(done) = self.act(&proven, &scene, now).await? {
                return Ok(done);
            }
        }
        Ok((EnrollReply::Refused(Refusal::TryLater), vec![]))
    }

    /// All that can be told from the request alone.
    fn prove<'a>(&self, request: &'a EnrollRequest) -> Result<Proven<'a>, Refusal> {
        field::hardware_id("hardware_id", &request.hardware_id).map_err(|_| Refusal::Malformed)?;
        field::word("board", &request.board, field::BOARD_MAX).map_err(|_| Refusal::Malformed)?;
        if request.csr.len() > CSR_BYTES_MAX
            || request.vouching_certificate.len() > VOUCHING_CERTIFICATE_BYTES_MAX
        {
            return Err(Refusal::Malformed);
        }
        let key = ca::csr_public_key(&request.csr).map_err(|_| Refusal::BadCsr)?;
        let root = self.installation.enroll().certificate();
        let vouching = ca::vouching(&request.vouching_certificate, root).map_err(|_| Refusal::NotVouched)?;
        let client = request.client.to_string();
        let digest = Digest::of_parts(&[&request.csr, client.as_bytes(), request.hardware_id.as_bytes()]);
        let signed = [VOUCH_PREFIX, &digest.0].concat();
        if !ca::verify_signature(&vouching.key, &signed, &request.vouching_signature) {
            return Err(Refusal::NotVouched);
        }
        Ok(Proven { request, key, key_digest: ca::key_digest(&key), vouching })
    }

    /// Reads what the decision needs, and decides. The inner error is a refusal before any tenant is known.
    async fn look(&self, proven: &Proven<'_>, now: SystemTime) -> Result<Result<Scene, Refusal>, Error> {
        let tx = self.store.every().await?;
        let (voucher, tenant, claim) = match proven.vouching.who {
            VouchingFor::Claim(id) => match claims::by_id(&tx, id).await? {
                Some(stored) if stored.certificate_digest == proven.vouching.digest => {
                    (Voucher::Claim(stored.claim.standing(now)), stored.claim.tenant, Some(id))
                }
                _ => return Ok(Err(Refusal::NotVouched)),
            },
            VouchingFor::Device(id) => match rows::by_id(&tx, id).await? {
                Some(identity) => {
                    let newest = identity.birth_digest == Some(proven.vouching.digest);
                    let tenant = identity.tenant;
                    // An older birth certificate is of a key the device no longer has.
                    (
                        Voucher::Birth((newest || identity.known.revoked).then_some(identity.known)),
                        tenant,
                        None,
                    )
                }
                None => return Ok(Err(Refusal::NotVouched)),
            },
        };
        let holder = rows::holder(&tx, tenant, &proven.request.hardware_id).await?;
        let owner = rows::owner(&tx, tenant, &proven.key_digest).await?;
        let decision = decide(
            &voucher,
            &Request {
                hardware_id: &proven.request.hardware_id,
                key: proven.key_digest,
                holder: holder.as_ref().map(|identity| identity.known.clone()),
                owner: owner.as_ref().map(|identity| identity.known.clone()),
                old_key_agrees: holder.as_ref().is_some_and(|holder| old_key_agrees(proven.request, holder)),
            },
        );
        let (signer, issuer) = tenant_authority(&tx, &self.master, tenant, now).await?;
        let keyset = keysets::version(&tx, tenant, 1).await?.map(|keyset| keyset.signed);
        tx.commit().await?;
        Ok(Ok(Scene { tenant, claim, holder, subject: owner, signer, issuer, keyset, decision }))
    }

    /// None: something changed meanwhile; look again.
    async fn act(
        &self,
        proven: &Proven<'_>,
        scene: &Scene,
        now: SystemTime,
    ) -> Result<Option<(EnrollReply, Vec<Effect>)>, Error> {
        let refused = |refusal| Ok(Some((EnrollReply::Refused(refusal), vec![])));
        let keyset = match (&scene.decision, &scene.keyset) {
            (Decision::Refuse(refusal), _) => return refused(*refusal),
            (Decision::Pend, _) => return self.pend(proven, scene, now).await.map(Some),
            // Without the tenant's first keyset a board could not tell a broker from a stranger.
            (_, None) => return refused(Refusal::TryLater),
            (_, Some(keyset)) => keyset.clone(),
        };
        let (device, effects, certificates) = match &scene.decision {
            Decision::Create => {
                let device = DeviceId::new(kit::fresh_id());
                (device, vec![], self.create(proven, scene, device, now).await?)
            }
            Decision::Rekey(device) => {
                let effects = vec![Effect::Disconnect(device.to_string())];
                (*device, effects, self.rekey(proven, scene, *device, now).await?)
            }
            Decision::Reissue(device) => (*device, vec![], self.reissue(proven, scene, *device, now).await?),
            Decision::Pend | Decision::Refuse(_) => return Ok(None),
        };
        let Some((leaf, birth)) = certificates else { return Ok(None) };
        let issue = Issue {
            device,
            tenant: scene.tenant,
            leaf,
            intermediate: scene.signer.certificate().to_vec(),
            birth,
            broker: self.settings.device_address.clone(),
            keyset,
        };
        Ok(Some((EnrollReply::Issued(Box::new(issue)), effects)))
    }

    async fn create(
        &self,
        proven: &Proven<'_>,
        scene: &Scene,
        device: DeviceId,
        now: SystemTime,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
        let Some(claim) = scene.claim else { return Ok(None) };
        let (leaf, birth) = self.sign_pair(proven, scene, device, now)?;
        let public_key = proven.key.spki_der().map_err(|_| ca::Error::PublicKey)?;
        let new = NewDevice {
            id: device,
            tenant: scene.tenant,
            hardware_id: &proven.request.hardware_id,
            board: &proven.request.board,
            key_digest: proven.key_digest,
            public_key: &public_key,
            claim: Some(claim),
            now,
        };
        let tx = self.store.every().await?;
        // Not counted twice, not beyond the limit, not after the end: each is a condition of the write.
        if !rows::insert(&tx, &new).await? || !claims::count_one(&tx, claim, now).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        if !keep(&tx, proven, scene, device, &leaf, Some(&birth)).await? {
            return Ok(None);
        }
        devices::changed(&tx, scene.tenant, &[device], Change::Created).await?;
        tx.commit().await?;
        Ok(Some((leaf.der, birth.der)))
    }

    async fn rekey(
        &self,
        proven: &Proven<'_>,
        scene: &Scene,
        device: DeviceId,
        now: SystemTime,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
        let Some(holder) = &scene.holder else { return Ok(None) };
        let (leaf, birth) = self.sign_pair(proven, scene, device, now)?;
        let public_key = proven.key.spki_der().map_err(|_| ca::Error::PublicKey)?;
        let tx = self.store.every().await?;
        if !rows::rekey(&tx, device, &holder.known.key, &proven.key_digest, &public_key).await?
            || !keep(&tx, proven, scene, device, &leaf, Some(&birth)).await?
        {
            return Ok(None);
        }
        upkeep::request_disconnect(&tx, scene.tenant, &device.to_string()).await?;
        devices::changed(&tx, scene.tenant, &[device], Change::Rekeyed).await?;
        upkeep::audit(&tx, scene.tenant, &device.to_string(), "rekey", &device.to_string()).await?;
        tx.commit().await?;
        self.leases.forget(scene.tenant, &[device]).await;
        Ok(Some((leaf.der, birth.der)))
    }

    /// The same device: what it has, if that was just issued; otherwise a new leaf.
    async fn reissue(
        &self,
        proven: &Proven<'_>,
        scene: &Scene,
        device: DeviceId,
        now: SystemTime,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
        let Some(subject) = &scene.subject else { return Ok(None) };
        if let (Some(leaf), Some(birth)) = (&subject.leaf, &subject.birth) {
            let age = now.duration_since(leaf.issued_at).unwrap_or_default();
            let fresh = age < RESEND_MAX.min(self.settings.device_certificate / 10);
            if fresh && leaf.expires_at > now && leaf.issuer == Some(scene.issuer) {
                return Ok(Some((leaf.der.clone(), birth.clone())));
            }
        }
        let leaf = ca::leaf(&scene.signer, device, &proven.key, self.settings.device_certificate, now)?;
        let birth = match &subject.birth {
            Some(_) => None,
            None => Some(ca::birth(self.installation.enroll(), device, &proven.key, now)?),
        };
        let tx = self.store.every().await?;
        if !keep(&tx, proven, scene, device, &leaf, birth.as_ref()).await? {
            return Ok(None);
        }
        tx.commit().await?;
        let birth = birth.map(|birth| birth.der).or_else(|| subject.birth.clone()).unwrap_or_default();
        Ok(Some((leaf.der, birth)))
    }

    async fn pend(
        &self,
        proven: &Proven<'_>,
        scene: &Scene,
        now: SystemTime,
    ) -> Result<(EnrollReply, Vec<Effect>), Error> {
        let Some(claim) = scene.claim else { return Ok((EnrollReply::Refused(Refusal::NotVouched), vec![])) };
        let waiting = Waiting {
            pending: Pending {
                id: PendingId::new(kit::fresh_id()),
                tenant: scene.tenant,
                hardware_id: proven.request.hardware_id.clone(),
                board: proven.request.board.clone(),
                key_digest: proven.key_digest,
                created_at: now,
                holder: None,
            },
            public_key: proven.key.spki_der().map_err(|_| ca::Error::PublicKey)?.to_vec(),
            claim,
        };
        let tx = self.store.every().await?;
        tenants::lock_tenant(&tx, scene.tenant).await?;
        let reply = if rows::note_pending(&tx, &waiting, PENDING_PER_TENANT_MAX).await? {
            EnrollReply::Pending
        } else {
            EnrollReply::Refused(Refusal::TryLater)
        };
        tx.commit().await?;
        Ok((reply, vec![]))
    }

    fn sign_pair(
        &self,
        proven: &Proven<'_>,
        scene: &Scene,
        device: DeviceId,
        now: SystemTime,
    ) -> Result<(Issued, Issued), Error> {
        let leaf = ca::leaf(&scene.signer, device, &proven.key, self.settings.device_certificate, now)?;
        let birth = ca::birth(self.installation.enroll(), device, &proven.key, now)?;
        Ok((leaf, birth))
    }
}

/// Keeps certificates with their device, and in the list of all that were issued.
async fn keep(
    tx: &Tx,
    proven: &Proven<'_>,
    scene: &Scene,
    device: DeviceId,
    leaf: &Issued,
    birth: Option<&Issued>,
) -> Result<bool, Error> {
    let tenant = scene.tenant;
    if !rows::set_certificates(tx, device, &proven.key_digest, (leaf, &scene.issuer), birth).await? {
        return Ok(false);
    }
    let (subject, key) = (device.to_string(), &proven.key_digest);
    authority::insert_certificate(tx, tenant, Kind::Leaf, &subject, key, leaf).await?;
    if let Some(birth) = birth {
        authority::insert_certificate(tx, tenant, Kind::Birth, &subject, key, birth).await?;
    }
    Ok(true)
}

fn old_key_agrees(request: &EnrollRequest, holder: &Identity) -> bool {
    let Ok(key) = PublicKey::from_spki_der(&holder.public_key) else { return false };
    let signed = [OLD_KEY_PREFIX, &Digest::of(&request.csr).0].concat();
    ca::verify_signature(&key, &signed, &request.old_key_signature)
}
