//! A call that is repeated is done once: at once or later, at whichever replica (AIP-155); one that only asks does nothing (AIP-163).

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use dev::Service;
use proto::ota::v1::bundle_service_client::BundleServiceClient;
use proto::ota::v1::deployment::State;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::ota::v1::{
    CancelDeploymentRequest, CreateDeploymentRequest, CreateUploadRequest, DeleteBundleRequest, Deployment,
    FinishUploadRequest, ListDeploymentsRequest,
};
use scenarios::client::{Client, twice};
use scenarios::replica::Replica;
use tonic::{Code, Response, Status};

use crate::deploy::Scene;
use crate::tenant::*;

const ONE: &str = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11";
const TWO: &str = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d22";
/// Calls that race under one id.
const RACERS: usize = 24;

impl Scene {
    fn named(&self, request_id: &str) -> CreateDeploymentRequest {
        CreateDeploymentRequest {
            parent: self.tenant.person.tenant.clone(),
            device: self.device.name.clone(),
            bundle: self.bundle.name.clone(),
            request_id: request_id.into(),
            ..Default::default()
        }
    }

    async fn all(&mut self) -> Result<Vec<Deployment>> {
        let parent = self.tenant.person.tenant.clone();
        let request = ListDeploymentsRequest { parent, ..Default::default() };
        Ok(self.deployments.list_deployments(request).await?.into_inner().deployments)
    }
}

type Deployments = DeploymentServiceClient<Client>;

async fn create(mut at: Deployments, request: CreateDeploymentRequest) -> Result<Deployment, Status> {
    Ok(at.create_deployment(request).await?.into_inner())
}

#[tokio::test]
async fn a_repeated_request_id_gives_the_first_answer_and_refuses_another_request() -> Result<()> {
    let mut scene = Scene::set().await?;
    let at = scene.deployments.clone();
    for bad in ["x", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(refusal(create(at.clone(), scene.named(bad)).await).0, Code::InvalidArgument, "{bad}");
    }
    // What failed was not done: the id is still good.
    let nothing = format!("{}/bundles/bn{}", scene.tenant.person.tenant, "0".repeat(32));
    let mut request = CreateDeploymentRequest { bundle: nothing, ..scene.named(ONE) };
    assert_eq!(refusal(create(at.clone(), request.clone()).await).0, Code::NotFound);

    let first = create(at.clone(), scene.named(ONE)).await?;
    let again = create(at.clone(), scene.named(ONE)).await?;
    ensure!(first.name == again.name && scene.all().await?.len() == 1, "it was done twice");
    let refused = refusal(create(at.clone(), request.clone()).await);
    assert_eq!(refused, (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));

    // Another id is another call, and so is one without.
    let other = create(at.clone(), scene.named(TWO)).await?;
    request = scene.named("");
    ensure!(other.name != first.name);
    create(at.clone(), request.clone()).await?;
    create(at.clone(), request).await?;
    ensure!(scene.all().await?.len() == 4);

    // An id is its tenant's alone.
    let stranger = another(&scene.stack, &scene.tenant.person, 2).await?;
    let theirs = DeploymentServiceClient::new(stranger.person.client(&scene.stack, Service::Ota).await?);
    let request = CreateDeploymentRequest { parent: stranger.person.tenant.clone(), ..scene.named(ONE) };
    assert_eq!(refusal(create(theirs, request).await).0, Code::NotFound);

    // After a day it is a new one.
    scene.stack.sql("UPDATE ota.requests SET created_at = created_at - interval '24 hours 1 second'")?;
    eventually("the requests are forgotten", async || {
        ensure!(scene.stack.sql("SELECT count(*) FROM ota.requests")?.trim() == "0");
        Ok(())
    })
    .await?;
    ensure!(create(at, scene.named(ONE)).await?.name != first.name);
    Ok(())
}

#[tokio::test]
async fn replicas_that_race_under_one_request_id_do_it_once() -> Result<()> {
    let mut scene = Scene::set().await?;
    let replica = Replica::start(&scene.stack, Service::Ota).await?;
    let second = DeploymentServiceClient::new(replica.client(&scene.stack, &scene.tenant.person).await?);
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..RACERS {
        let at = if number % 2 == 0 { scene.deployments.clone() } else { second.clone() };
        racing.spawn(create(at, scene.named(ONE)));
    }
    let names: BTreeSet<String> = racing
        .join_all()
        .await
        .into_iter()
        .map(|made| made.map(|made| made.name))
        .collect::<Result<_, _>>()?;
    ensure!(names.len() == 1 && scene.all().await?.len() == 1, "{names:?}");
    Ok(())
}

#[tokio::test]
async fn uploads_are_begun_and_finished_and_bundles_deleted_once_a_request_id() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let bundles: BundleServiceClient<Client> = tenant.bundles(&stack).await?;
    let with_id = |n: u32| format!("6f1f9f6e-4f0a-4b1c-8c59-{n:012}");
    let layer = noise(1, 1000);
    let envelope = tenant.sign(&spec("1.0.0", &[&layer]))?.envelope;
    let next = tenant.sign(&spec("2.0.0", &[&layer]))?.envelope;

    let create =
        async |request: CreateUploadRequest| Ok(bundles.clone().create_upload(request).await?.into_inner());
    let asked = CreateUploadRequest {
        parent: tenant.person.tenant.clone(),
        envelope,
        request_id: with_id(1),
        validate_only: true,
    };
    let answer = create(asked.clone()).await?;
    ensure!(answer.name.is_empty() && answer.layers.len() == 1, "{answer:?}");
    ensure!(
        stack.sql("SELECT (SELECT count(*) FROM ota.uploads) + (SELECT count(*) FROM ota.requests)")?.trim()
            == "0"
    );
    let request = CreateUploadRequest { validate_only: false, ..asked };
    let other = CreateUploadRequest { envelope: next.clone(), ..request.clone() };
    let (upload, again) = twice(create, request.clone(), other).await?;
    assert_eq!(upload.name, again.name);

    write(&mut bundles.clone(), &upload, &layer, 0).await?;
    let finish =
        async |request: FinishUploadRequest| Ok(bundles.clone().finish_upload(request).await?.into_inner());
    let request_2 = FinishUploadRequest { name: upload.name.clone(), request_id: with_id(2) };
    let second =
        create(CreateUploadRequest { envelope: next, request_id: String::new(), ..request.clone() }).await?;
    let other = FinishUploadRequest { name: second.name, ..request_2.clone() };
    let (bundle, again) = twice(finish, request_2, other).await?;
    assert_eq!(bundle, again);
    // The upload is over, and the call that began it is still answered with it; without a name it would begin another.
    assert_eq!(create(request.clone()).await?.name, upload.name);
    ensure!(create(CreateUploadRequest { request_id: String::new(), ..request }).await?.name != upload.name);

    let delete = async |request: DeleteBundleRequest| {
        bundles.clone().delete_bundle(request).await.map(Response::into_inner)
    };
    let asked = DeleteBundleRequest { name: bundle.name, request_id: with_id(3), validate_only: true };
    delete(asked.clone()).await?;
    let request = DeleteBundleRequest { validate_only: false, ..asked };
    let elsewhere = format!("{}/bundles/bn{}", tenant.person.tenant, "0".repeat(32));
    twice(delete, request.clone(), DeleteBundleRequest { name: elsewhere, ..request.clone() }).await?;
    let unnamed = DeleteBundleRequest { request_id: String::new(), ..request };
    assert_eq!(refusal(delete(unnamed).await).0, Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_called_off_once_a_request_id_and_only_as_it_was_read() -> Result<()> {
    let mut scene = Scene::set().await?;
    let asked = CreateDeploymentRequest { validate_only: true, ..scene.named(ONE) };
    let answer = create(scene.deployments.clone(), asked).await?;
    ensure!(answer.name.is_empty() && answer.state() == State::Pending, "{answer:?}");
    ensure!(scene.all().await?.is_empty(), "it was only asked for");
    let nothing = format!("{}/bundles/bn{}", scene.tenant.person.tenant, "0".repeat(32));
    let bad = CreateDeploymentRequest { bundle: nothing, validate_only: true, ..scene.named(ONE) };
    assert_eq!(refusal(create(scene.deployments.clone(), bad).await).0, Code::NotFound);

    let deployment = create(scene.deployments.clone(), scene.named(ONE)).await?;
    let (deployments, name) = (scene.deployments.clone(), deployment.name.clone());
    let cancel = async |request: CancelDeploymentRequest| {
        Ok(deployments.clone().cancel_deployment(request).await?.into_inner())
    };
    let stale = CancelDeploymentRequest { name: name.clone(), etag: "pending".into(), ..Default::default() };
    assert_eq!(refusal(cancel(stale).await), (Code::Aborted, "ETAG_MISMATCH".into()));
    let now = scene.get(&deployment).await?;
    let asked = CancelDeploymentRequest { name, request_id: TWO.into(), validate_only: true, etag: now.etag };
    assert_eq!(cancel(asked.clone()).await?.state(), State::Cancelled);
    assert_eq!(scene.get(&deployment).await?.state(), State::Pending, "it was only asked");
    let request = CancelDeploymentRequest { validate_only: false, ..asked };
    let other = CancelDeploymentRequest { etag: String::new(), ..request.clone() };
    let (cancelled, again) = twice(cancel, request, other).await?;
    ensure!(cancelled.state() == State::Cancelled && cancelled.etag != deployment.etag);
    assert_eq!(cancelled, again);
    Ok(())
}
