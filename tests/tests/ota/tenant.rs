//! A tenant with keys, and the few calls every test here makes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dev::{Options, Service, Stack};
use kit::status;
use proto::ota::v1::bundle_service_client::BundleServiceClient;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::ota::v1::{
    Bundle, CreateUploadRequest, FinishUploadRequest, GetDirectorKeyRequest, GetUploadRequest, Upload,
    WriteLayerRequest, WriteLayerResponse,
};
use proto::registry::v1::CreateKeysetRequest;
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use scenarios::client::{self, Client, Person};
use tonic::{Code, Status};
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version};
use wire::sign::{KeysetSpec, LayerSpec, ManifestSpec, ReleaseKeySpec, SignedManifest, Signer, SoftKey};
use wire::{Digest, PublicKey, TenantId};

/// How long anything a test waits for may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of one message of an upload.
pub(crate) const MESSAGE_BYTES: usize = 64 * 1024;
/// What svc-ota promises about a killed upload (bundle.proto): the most that is sent twice.
pub(crate) const CHUNK_BYTES: u64 = 256 * 1024;

pub(crate) const BOARD: &str = "bench";

/// A tenant, its administrator, and the keys that never leave this process.
pub(crate) struct Tenant {
    pub(crate) person: Person,
    pub(crate) id: TenantId,
    pub(crate) root: SoftKey,
    pub(crate) release: SoftKey,
    pub(crate) director: PublicKey,
    /// The CA of the servers, as devices are to believe it.
    anchor: Vec<u8>,
}

/// Only what an upload needs: no broker, sweeps often.
pub(crate) async fn stack() -> Result<Stack> {
    Stack::start(swift(Options::only([Service::Registry, Service::Ota]))).await
}

pub(crate) fn swift(options: Options) -> Options {
    options.env(Service::Ota, "HOLDFAST_SWEEP_MS", "50")
}

/// A private key that depends on nothing but the number.
pub(crate) fn key(number: u8) -> SoftKey {
    SoftKey::from_scalar(&[number; 32]).expect("a scalar")
}

/// The first tenant, with keyset 1.
pub(crate) async fn first(stack: &Stack) -> Result<Tenant> {
    furnish(stack, client::bootstrap(stack).await?, 1).await
}

/// Another tenant, with keys of its own.
pub(crate) async fn another(stack: &Stack, installer: &Person, number: u8) -> Result<Tenant> {
    furnish(stack, client::new_tenant(stack, installer, "Another").await?, number).await
}

pub(crate) async fn furnish(stack: &Stack, person: Person, number: u8) -> Result<Tenant> {
    let request = GetDirectorKeyRequest { parent: person.tenant.clone() };
    let mut service = DeploymentServiceClient::new(person.client(stack, Service::Ota).await?);
    let made = service.get_director_key(request.clone()).await?.into_inner();
    let again = service.get_director_key(request).await?.into_inner();
    assert_eq!(made.public_key, again.public_key, "one director key a tenant");
    let id = person.tenant.trim_start_matches("tenants/").parse()?;
    let director = PublicKey::from_spki_der(&made.public_key)?;
    let anchor = CertificateDer::from_pem_slice(stack.server_ca_pem()?.as_bytes())?.to_vec();
    let tenant = Tenant { person, id, root: key(number), release: key(100 + number), director, anchor };
    tenant.publish(stack, &tenant.keyset(1)).await?;
    Ok(tenant)
}

impl Tenant {
    /// What a keyset of this tenant says, unless the test changes it.
    pub(crate) fn keyset(&self, version: u32) -> KeysetSpec {
        let release = ReleaseKeySpec { key: self.release.public_key(), component: None, board: None };
        KeysetSpec {
            tenant: self.id,
            version,
            root_keys: vec![self.root.public_key()],
            root_threshold: 1,
            release_keys: vec![release],
            director_key: self.director,
            crash_key: None,
            broker_anchors: vec![self.anchor.clone()],
        }
    }

    pub(crate) async fn publish(&self, stack: &Stack, keyset: &KeysetSpec) -> Result<()> {
        let signed = keyset.sign(&[&self.root])?;
        let mut service = KeysetServiceClient::new(self.person.client(stack, Service::Registry).await?);
        service
            .create_keyset(CreateKeysetRequest {
                parent: self.person.tenant.clone(),
                signed,
                ..Default::default()
            })
            .await?;
        Ok(())
    }

    pub(crate) async fn bundles(&self, stack: &Stack) -> Result<BundleServiceClient<Client>> {
        Ok(BundleServiceClient::new(self.person.client(stack, Service::Ota).await?))
    }

    pub(crate) fn sign(&self, spec: &ManifestSpec<'_>) -> Result<SignedManifest> {
        Ok(spec.sign(&self.release)?)
    }

    /// Signs and uploads in one go.
    pub(crate) async fn upload(&self, stack: &Stack, spec: &ManifestSpec<'_>) -> Result<Bundle> {
        let signed = self.sign(spec)?;
        let mut bundles = self.bundles(stack).await?;
        let upload = create(&mut bundles, self, &signed.envelope).await?;
        for layer in &spec.layers {
            let missing = upload.layers.iter().find(|l| l.digest == Digest::of(layer.bytes).to_string());
            if missing.is_some_and(|l| l.committed < l.size) {
                write(&mut bundles, &upload, layer.bytes, 0).await?;
            }
        }
        Ok(finish(&mut bundles, &upload).await?)
    }
}

/// Bytes that look random and depend on nothing but the seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A manifest for an application on [`BOARD`] with these layers, one after the other.
pub(crate) fn spec<'l>(version: &str, layers: &[&'l [u8]]) -> ManifestSpec<'l> {
    let mut destination = 0;
    let layers = layers.iter().map(|bytes| {
        let layer = LayerSpec { destination, bytes };
        destination += (bytes.len() as u32).next_multiple_of(16 * 1024);
        layer
    });
    ManifestSpec {
        component: Component::App,
        board: BOARD.to_owned(),
        version: version.to_owned(),
        sequence_number: 1,
        security_counter: 1,
        microvisor_min: Version { major: 0, minor: 1, patch: 0 },
        layers: layers.collect(),
        area_bytes: None,
        update: UpdatePolicy {
            trial_s: 60,
            stable_s: 1,
            confirm: Confirm::Running,
            attempts_max: 3,
            polite_s: 0,
            commit_after_s: None,
        },
        debug_keys: Vec::new(),
        crash: CrashPolicy {
            backoff_min_ms: 100,
            backoff_max_ms: 1000,
            hold_s: 10,
            debug_hold_s: 0,
            memory_bytes: 0,
        },
        connectivity: ConnectivityPolicy { check_in_s: 0, grace_s: 0 },
        build_time_s: 1_700_000_000,
    }
}

pub(crate) async fn create(
    bundles: &mut BundleServiceClient<Client>,
    tenant: &Tenant,
    envelope: &[u8],
) -> Result<Upload, Status> {
    let request = CreateUploadRequest {
        parent: tenant.person.tenant.clone(),
        envelope: envelope.to_vec(),
        ..Default::default()
    };
    Ok(bundles.create_upload(request).await?.into_inner())
}

pub(crate) async fn get(
    bundles: &mut BundleServiceClient<Client>,
    upload: &Upload,
) -> Result<Upload, Status> {
    Ok(bundles.get_upload(GetUploadRequest { name: upload.name.clone() }).await?.into_inner())
}

/// Writes `layer` from `offset` to its end.
pub(crate) async fn write(
    bundles: &mut BundleServiceClient<Client>,
    upload: &Upload,
    layer: &[u8],
    offset: usize,
) -> Result<WriteLayerResponse, Status> {
    let digest = Digest::of(layer).to_string();
    write_as(bundles, upload, &digest, &layer[offset..], offset as i64).await
}

/// Writes these bytes at `offset` under a digest, whatever they are.
pub(crate) async fn write_as(
    bundles: &mut BundleServiceClient<Client>,
    upload: &Upload,
    digest: &str,
    bytes: &[u8],
    offset: i64,
) -> Result<WriteLayerResponse, Status> {
    let messages = messages(upload, digest, bytes, offset);
    Ok(bundles.write_layer(tokio_stream::iter(messages)).await?.into_inner())
}

pub(crate) fn messages(upload: &Upload, digest: &str, bytes: &[u8], offset: i64) -> Vec<WriteLayerRequest> {
    let mut messages: Vec<_> = bytes
        .chunks(MESSAGE_BYTES)
        .map(|data| WriteLayerRequest { data: data.to_vec().into(), ..Default::default() })
        .collect();
    if messages.is_empty() {
        messages.push(WriteLayerRequest::default());
    }
    messages[0].upload = upload.name.clone();
    messages[0].digest = digest.to_owned();
    messages[0].offset = offset;
    messages
}

pub(crate) async fn finish(
    bundles: &mut BundleServiceClient<Client>,
    upload: &Upload,
) -> Result<Bundle, Status> {
    Ok(bundles
        .finish_upload(FinishUploadRequest { name: upload.name.clone(), ..Default::default() })
        .await?
        .into_inner())
}

/// Code and reason of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("it is refused");
    (status.code(), status::reason(&status).unwrap_or_default())
}

/// A value beside the reason.
pub(crate) fn detail(status: &Status, key: &str) -> Option<String> {
    use tonic_types::StatusExt;
    status.get_details_error_info()?.metadata.get(key).cloned()
}

/// Tries again until it succeeds: for what recovers by itself.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(error).context(format!("gave up on: {what}"));
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Object keys of the stack's bucket that begin with `prefix`, from its folder.
pub(crate) fn objects(stack: &Stack, prefix: &str) -> Vec<String> {
    let s3 = stack.s3();
    let bucket = s3.dir.join(&s3.bucket);
    let mut found = Vec::new();
    let mut folders = vec![bucket.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(key) = path.strip_prefix(&bucket) {
                found.push(key.display().to_string());
            }
        }
    }
    found.retain(|key| key.starts_with(prefix));
    found.sort();
    found
}

/// Waits until the bucket holds exactly `count` objects that begin with `prefix`.
pub(crate) async fn objects_become(stack: &Stack, prefix: &str, count: usize) -> Result<()> {
    eventually("objects", || async {
        let found = objects(stack, prefix);
        if found.len() != count {
            bail!("{} objects instead of {count}: {found:?}", found.len());
        }
        Ok(())
    })
    .await
}
