//! Whoever has a backend's secrets: a service's certificate, the database and its master key. Speaks where that service speaks.

use anyhow::{Context, Result};
use dev::{Service, Stack};
use kit::seal::MasterKey;
use prost::Message;
use proto::device::v1::{HelloDown, HelloUp};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use scenarios::board::Session;
use scenarios::client::unique;
use wire::directive::{Directive, Order};
use wire::sign::{SoftKey, sign_directive};
use wire::{DeviceId, Nonce};

/// A service's connection in other hands. The service itself must be stopped: their shared group delivers to one of them.
pub(crate) struct Thief {
    session: Session,
}

impl Thief {
    pub(crate) async fn as_service(stack: &Stack, service: wire::Service) -> Result<Thief> {
        let name = service.common_name();
        let (certificate, key) = stack.service_identity(name)?;
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?;
        let chain: Vec<&[u8]> = chain.iter().map(|der| der.as_ref()).collect();
        let (key, client) = (KeyPair::from_pem(&key)?, format!("{name}-{}", unique()));
        let mut session =
            Session::connect(stack, &stack.service_address(), &client, &chain, &key, None).await?;
        session.subscribe_to(&format!("$share/{}-hello/hf/1/+/up/hello", service.name())).await?;
        Ok(Thief { session })
    }

    /// The next hello of a device; wills are passed over.
    pub(crate) async fn hello(&mut self) -> Result<(DeviceId, HelloUp)> {
        loop {
            let (topic, payload) = self.session.message().await?;
            let device = topic.split('/').nth(2).context("a topic names its device")?.parse()?;
            let hello = HelloUp::decode(payload.as_slice())?;
            if !hello.nonce.is_empty() {
                return Ok((device, hello));
            }
        }
    }

    /// Says something on a device's `dn/hello`.
    pub(crate) async fn say(&mut self, device: DeviceId, down: &HelloDown) -> Result<()> {
        self.session.publish(&format!("hf/1/{device}/dn/hello"), down.encode_to_vec()).await
    }
}

/// The tenants' only director key, out of svc-ota's database.
pub(crate) fn director(stack: &Stack) -> Result<SoftKey> {
    let row = stack.sql("SELECT tenant_id, encode(sealed_key, 'hex') FROM ota.director_keys")?;
    let (tenant, sealed) = row.trim().split_once('|').context("one director key")?;
    let master = MasterKey::load(&stack.master_key_file(Service::Ota))?;
    let pkcs8 = master.open(&hex::decode(sealed).ok().context("hex")?, &format!("director/{tenant}"))?;
    let pair = KeyPair::try_from(pkcs8.expose().as_slice())?;
    Ok(SoftKey::from_pkcs8_pem(&pair.serialize_pem())?)
}

/// The time, signed for who said this hello.
pub(crate) fn time(by: &SoftKey, device: DeviceId, hello: &HelloUp, issued_at_s: u64) -> Result<HelloDown> {
    let nonce = Nonce::try_from(hello.nonce.as_slice()).ok().context("a nonce")?;
    let directive = Directive { device, nonce, issued_at_s, order: Order::Time };
    Ok(HelloDown { signed_time: sign_directive(&directive, by)?, ..HelloDown::default() })
}
