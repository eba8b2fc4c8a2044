//! A tenant with a keyset and a claim, and the few calls every test here makes.

use crate::client::{self, Client, Person};
use anyhow::{Context, Result, ensure};
use dev::{Options, Service, Stack};
use proto::device::v1::EnrollStatus;
use proto::registry::v1::claim_service_client::ClaimServiceClient;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use proto::registry::v1::{Claim, CreateClaimRequest, CreateKeysetRequest, Device, GetDeviceRequest};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::Status;
use wire::sign::{KeysetSpec, ReleaseKeySpec, Signer, SoftKey};

use crate::board::{Board, Enrolled, PATIENCE, Voucher};

/// A stack, its first administrator, a keyset and a claim for many.
pub struct Fleet {
    pub stack: Stack,
    pub admin: Person,
    pub claim: Claim,
    pub claim_key: KeyPair,
}

/// Registry and broker.
pub fn both() -> Options {
    Options::only([Service::Registry, Service::Broker])
}

impl Fleet {
    pub async fn start() -> Result<Fleet> {
        Fleet::start_with(both()).await
    }

    pub async fn start_with(options: Options) -> Result<Fleet> {
        let stack = Stack::start(options).await?;
        let admin = client::bootstrap(&stack).await?;
        publish(&stack, &admin, &keyset(&stack, &admin, 1)?, &[&root(1)]).await?;
        let (claim, claim_key) = new_claim(&stack, &admin, 1000).await?;
        Ok(Fleet { stack, admin, claim, claim_key })
    }

    pub fn voucher(&self) -> Voucher<'_> {
        Voucher { certificate: &self.claim.certificate, key: &self.claim_key }
    }

    /// A new board becomes a device.
    pub async fn enroll(&self, hardware_id: &str) -> Result<Enrolled> {
        let board = Board::new(hardware_id)?;
        let answer = board.enroll(&self.stack, &self.voucher()).await?;
        ensure!(answer.status() == EnrollStatus::Issued, "{:?} {:?}", answer.status(), answer.reason());
        Ok(Enrolled { board, answer })
    }

    pub async fn devices(&self) -> Result<DeviceServiceClient<Client>> {
        Ok(DeviceServiceClient::new(self.admin.client(&self.stack, Service::Registry).await?))
    }

    pub async fn claims(&self) -> Result<ClaimServiceClient<Client>> {
        Ok(ClaimServiceClient::new(self.admin.client(&self.stack, Service::Registry).await?))
    }

    /// The device as soon as it is as wanted.
    pub async fn device_becomes(&self, name: &str, wanted: impl Fn(&Device) -> bool) -> Result<Device> {
        let mut devices = self.devices().await?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let device = devices.get_device(GetDeviceRequest { name: name.into() }).await?.into_inner();
            if wanted(&device) {
                return Ok(device);
            }
            ensure!(tokio::time::Instant::now() < deadline, "it never became so: {device:?}");
            tokio::task::yield_now().await;
        }
    }
}

/// A root key that depends on nothing but the number.
pub fn root(number: u8) -> SoftKey {
    SoftKey::from_scalar(&[number; 32]).expect("a scalar")
}

/// What a keyset says, unless the test changes it; root key 1.
pub fn keyset(stack: &Stack, person: &Person, version: u32) -> Result<KeysetSpec> {
    let anchor = CertificateDer::from_pem_slice(stack.server_ca_pem()?.as_bytes())?.to_vec();
    Ok(KeysetSpec {
        tenant: person.tenant.strip_prefix("tenants/").context("a tenant's name")?.parse()?,
        version,
        root_keys: vec![root(1).public_key()],
        root_threshold: 1,
        release_keys: vec![ReleaseKeySpec { key: root(50).public_key(), component: None, board: None }],
        director_key: root(60).public_key(),
        crash_key: None,
        broker_anchors: vec![anchor],
    })
}

pub async fn publish(
    stack: &Stack,
    person: &Person,
    keyset: &KeysetSpec,
    roots: &[&dyn Signer],
) -> Result<proto::registry::v1::Keyset> {
    let signed = keyset.sign(roots)?;
    Ok(create_keyset(stack, person, signed).await?)
}

pub async fn create_keyset(
    stack: &Stack,
    person: &Person,
    signed: Vec<u8>,
) -> Result<proto::registry::v1::Keyset, Status> {
    let channel = person.client(stack, Service::Registry).await.expect("a signed-in person");
    let request = CreateKeysetRequest { parent: person.tenant.clone(), signed, ..Default::default() };
    Ok(KeysetServiceClient::new(channel).create_keyset(request).await?.into_inner())
}

/// A claim for this many devices, and its key.
pub async fn new_claim(stack: &Stack, person: &Person, devices_max: i64) -> Result<(Claim, KeyPair)> {
    let key = KeyPair::generate()?;
    let request = claim_request(person, &key, devices_max);
    let mut service = ClaimServiceClient::new(person.client(stack, Service::Registry).await?);
    Ok((service.create_claim(request).await?.into_inner(), key))
}

pub fn claim_request(person: &Person, key: &KeyPair, devices_max: i64) -> CreateClaimRequest {
    CreateClaimRequest {
        parent: person.tenant.clone(),
        display_name: "line 1".into(),
        devices_max,
        ttl: Some(std::time::Duration::from_secs(3600).try_into().expect("an hour fits")),
        public_key: key.subject_public_key_info(),
        ..Default::default()
    }
}

/// Code, and the reason or the field the error names.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (tonic::Code, String) {
    use tonic_types::StatusExt;
    let status = result.map(|ok| format!("{ok:?}")).expect_err("was to be refused");
    let field =
        status.get_details_bad_request().and_then(|b| b.field_violations.first().map(|v| v.field.clone()));
    (status.code(), field.or_else(|| kit::status::reason(&status)).unwrap_or_default())
}
