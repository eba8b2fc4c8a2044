//! A tenant with one device that the test plays: it says which keyset it holds, and what its slots are.

use anyhow::{Result, ensure};
use dev::{Options, Service, Stack};
use proto::ota::v1::deployment::State;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::ota::v1::{
    CreateDeploymentRequest, Deployment, ForgetDirectorKeysRequest, GetDeploymentRequest,
    GetDirectorKeyRequest, RotateDirectorKeyRequest,
};
use scenarios::client::Client;
use wire::PublicKey;
use wire::sign::{KeysetSpec, ManifestSpec};

use crate::device::Device;
use crate::tenant::{Tenant, eventually, first, noise, spec, swift};

pub(crate) struct Estate {
    pub(crate) stack: Stack,
    pub(crate) tenant: Tenant,
    pub(crate) device: Device,
    pub(crate) ota: DeploymentServiceClient<Client>,
}

impl Estate {
    pub(crate) async fn set() -> Result<Estate> {
        let parts = [Service::Registry, Service::Broker, Service::Ota];
        let stack = Stack::start(swift(Options::only(parts))).await?;
        let tenant = first(&stack).await?;
        let mut device = Device::enroll(&stack, &tenant).await?;
        device.say_hello().await?;
        let ota = DeploymentServiceClient::new(tenant.person.client(&stack, Service::Ota).await?);
        Ok(Estate { stack, tenant, device, ota })
    }

    pub(crate) fn rotation(&self) -> RotateDirectorKeyRequest {
        RotateDirectorKeyRequest { parent: self.tenant.person.tenant.clone(), ..Default::default() }
    }

    pub(crate) fn forgetting(&self) -> ForgetDirectorKeysRequest {
        ForgetDirectorKeysRequest { parent: self.tenant.person.tenant.clone(), ..Default::default() }
    }

    pub(crate) async fn rotated(&mut self) -> Result<PublicKey> {
        let request = self.rotation();
        Ok(PublicKey::from_spki_der(&self.ota.rotate_director_key(request).await?.into_inner().public_key)?)
    }

    pub(crate) async fn current(&mut self) -> Result<PublicKey> {
        let request = GetDirectorKeyRequest { parent: self.tenant.person.tenant.clone() };
        Ok(PublicKey::from_spki_der(&self.ota.get_director_key(request).await?.into_inner().public_key)?)
    }

    /// Publishes a keyset that names this director.
    pub(crate) async fn publish(&self, version: u32, director: PublicKey) -> Result<()> {
        let keyset = KeysetSpec { director_key: director, ..self.tenant.keyset(version) };
        self.tenant.publish(&self.stack, &keyset).await
    }

    /// Says hello as a holder of this keyset; who signs the answer must be this key.
    pub(crate) async fn obeys(&mut self, keyset: u32, director: PublicKey) -> Result<()> {
        (self.device.keyset, self.device.director) = (keyset, director);
        for _ in 0..20 {
            self.device.say_hello().await?;
            let time = tokio::time::timeout(std::time::Duration::from_secs(3), self.device.time());
            if time.await.is_ok_and(|time| time.is_ok()) {
                return Ok(());
            }
        }
        anyhow::bail!("nothing answers who holds keyset {keyset}")
    }

    /// Directs the device to a bundle; gives the deployment.
    pub(crate) async fn deploy(&mut self, version: &str, counter: u64) -> Result<Deployment> {
        let layer = noise(counter, 50_000);
        let manifest = ManifestSpec { security_counter: counter, ..spec(version, &[&layer]) };
        let bundle = self.tenant.upload(&self.stack, &manifest).await?;
        let request = CreateDeploymentRequest {
            parent: self.tenant.person.tenant.clone(),
            device: self.device.name.clone(),
            bundle: bundle.name,
            ..Default::default()
        };
        Ok(self.ota.create_deployment(request).await?.into_inner())
    }

    /// Waits until the deployment is in this state.
    pub(crate) async fn becomes(&self, deployment: &Deployment, state: State) -> Result<()> {
        eventually(&format!("{state:?}"), async || {
            let request = GetDeploymentRequest { name: deployment.name.clone() };
            let found = self.ota.clone().get_deployment(request).await?.into_inner();
            ensure!(found.state() == state, "it is {:?}", found.state());
            Ok(())
        })
        .await
    }
}
