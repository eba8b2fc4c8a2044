//! A call that is repeated is done once: at once or later, at whichever replica (AIP-155).

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dev::{Process, Ready, Service, Spec};
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::ota::v1::{CreateDeploymentRequest, Deployment, ListDeploymentsRequest};
use scenarios::client::{Client, channel_to, with_token};
use tonic::{Code, Status};

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

/// Another svc-ota beside the stack's own, with the same database.
async fn replica(scene: &Scene) -> Result<(Process, Deployments)> {
    let log = scene.stack.dir().join("logs/svc-ota-2.log");
    let mut spec = Spec::new("svc-ota-2", dev::binary("svc-ota")?, log).ready(Ready::Stdout("\"ready\""));
    spec.env = scene.stack.environment(Service::Ota);
    for (key, value) in &mut spec.env {
        if key.ends_with("_LISTEN") {
            *value = "127.0.0.1:0".into();
        }
    }
    let process = Process::spawn(spec)?;
    let line: serde_json::Value = serde_json::from_str(&process.ready(PATIENCE).await?)?;
    let port = line["grpc"].as_str().and_then(|at| at.rsplit_once(':')).context("no port")?.1.to_owned();
    let channel = channel_to(&scene.stack, &format!("https://localhost:{port}")).await?;
    let token = scene.tenant.person.token(&scene.stack).await?;
    Ok((process, DeploymentServiceClient::new(with_token(channel, &token)?)))
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
    let (_process, second) = replica(&scene).await?;
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
