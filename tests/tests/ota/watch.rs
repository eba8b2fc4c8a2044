//! Reading what svc-ota knows: watches that go on where they ended, lists that stay right.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use proto::device::v1::UpdateState;
use proto::ota::v1::deployment::State;
use proto::ota::v1::{
    Deployment, ListBundlesRequest, ListDeploymentsRequest, WatchDeploymentRequest, WatchDeploymentResponse,
};
use tonic::{Code, Status, Streaming};
use wire::directive::Order;

use crate::deploy::Scene;
use crate::tenant::*;

struct Watch(Streaming<WatchDeploymentResponse>);

impl Watch {
    /// The next message, or none at the end.
    async fn next(&mut self) -> Result<Option<(State, WatchDeploymentResponse)>> {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await.context("nothing came")??;
        Ok(next.map(|told| (told.deployment.clone().unwrap_or_default().state(), told)))
    }

    async fn told(&mut self) -> Result<(State, WatchDeploymentResponse)> {
        self.next().await?.context("the watch ended")
    }
}

impl Scene {
    async fn watch(&mut self, deployment: &Deployment, resume_token: &str) -> Result<Watch, Status> {
        let request =
            WatchDeploymentRequest { name: deployment.name.clone(), resume_token: resume_token.into() };
        Ok(Watch(self.deployments.watch_deployment(request).await?.into_inner()))
    }

    fn revision(&self, deployment: &Deployment) -> Result<i64> {
        let id = deployment.name.rsplit('/').next().unwrap_or_default();
        let sql = format!("SELECT revision FROM ota.deployments WHERE deployment_id = '{id}'");
        Ok(self.stack.sql(&sql)?.trim().parse()?)
    }
}

#[tokio::test]
async fn a_watch_goes_on_with_its_token_and_says_how_much_it_did_not_tell() -> Result<()> {
    let mut scene = Scene::set().await?;
    let deployment = scene.deploy().await?;
    let (state, first) = scene.watch(&deployment, "").await?.told().await?;
    assert_eq!((state, first.missed), (State::Pending, 0));
    let before = scene.revision(&deployment)?;

    let heard = scene.device.directive().await?;
    let Order::Install(about) = heard.order else { anyhow::bail!("{:?}", heard.order) };
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    scene.becomes(&deployment, State::Fetching).await?;
    let mut half = scene.device.report(&about, UpdateState::Fetching);
    (half.bytes_done, half.bytes_total) = (100_000, 200_000);
    scene.device.say(&half).await?;
    scene.device.say_state(&about, UpdateState::Verified).await?;
    scene.becomes(&deployment, State::Verified).await?;
    let changes = scene.revision(&deployment)? - before;
    assert!(changes >= 2);

    let mut watch = scene.watch(&deployment, &first.resume_token).await?;
    let (state, second) = watch.told().await?;
    assert_eq!(
        (state, second.missed),
        (State::Verified, changes - 1),
        "once, as it is, and how often it was not told"
    );
    drop(watch);
    // Nothing is told again: the next message is the next change.
    let mut watch = scene.watch(&deployment, &second.resume_token).await?;
    scene.cancel(&deployment).await?;
    let (state, last) = watch.told().await?;
    assert_eq!(state, State::Cancelled);
    assert!(watch.next().await?.is_none(), "it is final");
    let end = scene.watch(&deployment, &last.resume_token).await?.next().await?;
    assert!(end.is_none(), "who knows the end hears nothing more: {end:?}");
    let (state, _) = scene.watch(&deployment, "").await?.told().await?;
    assert_eq!(state, State::Cancelled);

    let other = scene.deploy().await?;
    for (of, token) in
        [(&other, last.resume_token.as_str()), (&other, "x"), (&other, "\u{1b}\0"), (&deployment, "AAAA")]
    {
        let refused = scene.watch(of, token).await.err().context("taken")?;
        assert_eq!(refused.code(), Code::InvalidArgument, "{token}");
        assert!(refused.message().starts_with("resume_token") && !refused.message().contains('\u{1b}'));
    }
    Ok(())
}

#[tokio::test]
async fn bundles_and_deployments_are_listed_newest_first_while_more_are_made() -> Result<()> {
    let mut scene = Scene::set().await?;
    let parent = scene.tenant.person.tenant.clone();
    let (tenant, device) =
        (parent.trim_start_matches("tenants/"), scene.device.name.rsplit('/').next().unwrap_or_default());
    let (tenant, device) = (tenant.to_owned(), device.to_owned());
    let make = |stack: &dev::Stack, numbers: std::ops::Range<i64>| {
        // Ids sort by age: these are older than what the services make.
        stack.sql(&format!(
            "INSERT INTO ota.bundles (bundle_id, tenant_id, manifest_digest, component, board, version, security_counter, size, envelope)
             SELECT 'bn' || lpad(to_hex(n), 32, '0'), '{tenant}', sha256(int8send(n)), 'app', 'bench', 'v' || n, n, 1, ''
             FROM generate_series({0}, {1}) n;
             INSERT INTO ota.deployments (deployment_id, tenant_id, device_id, bundle_id, manifest_digest, component, version,
                 security_counter, bytes_total, state)
             SELECT 'dp' || lpad(to_hex(n), 32, '0'), '{tenant}', CASE n % 2 WHEN 0 THEN '{device}' ELSE 'dv' || repeat('f', 32) END, 'bn' || repeat('0', 32),
                 sha256(''), 'app', 'v', 1, 1, 'cancelled' FROM generate_series({0}, {1}) n",
            numbers.start,
            numbers.end - 1
        ))
    };
    make(&scene.stack, 100..130)?;
    let mut bundles = scene.tenant.bundles(&scene.stack).await?;
    let mut seen = Vec::new();
    let (mut token, mut deployments_token, mut of_device) = (String::new(), String::new(), Vec::new());
    for page in 0..100 {
        if page == 0 || !token.is_empty() {
            let request = ListBundlesRequest { parent: parent.clone(), page_size: 7, page_token: token };
            let answer = bundles.list_bundles(request).await?.into_inner();
            seen.extend(answer.bundles.into_iter().map(|bundle| bundle.name));
            token = answer.next_page_token;
        }
        if page == 0 || !deployments_token.is_empty() {
            let request = ListDeploymentsRequest {
                parent: parent.clone(),
                page_size: 4,
                page_token: deployments_token,
                device: scene.device.name.clone(),
            };
            let answer = scene.deployments.list_deployments(request).await?.into_inner();
            of_device.extend(answer.deployments.into_iter().map(|deployment| deployment.name));
            deployments_token = answer.next_page_token;
        }
        if token.is_empty() && deployments_token.is_empty() {
            break;
        }
        if page < 3 {
            make(&scene.stack, 1000 + page * 10..1001 + page * 10)?;
        }
    }
    let real = 1;
    assert_eq!(
        (seen.len(), of_device.len()),
        (30 + real, 15),
        "those there throughout; newer ones came before the first page"
    );
    for all in [&seen, &of_device] {
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "none twice");
        assert!(all.iter().rev().is_sorted(), "newest first: {all:?}");
    }

    // Every list refuses what is no token of it, and bounds its pages.
    for page_token in [
        "x".to_owned(),
        kit::page::token(&["bundles", &parent], &"\0"),
        kit::page::token(&["deployments", &parent, ""], &"' OR true"),
        kit::page::token(&["deployments", "tenants/other", ""], &format!("dp{}", "0".repeat(32))),
    ] {
        let request = ListBundlesRequest {
            parent: parent.clone(),
            page_token: page_token.clone(),
            ..Default::default()
        };
        let refused = bundles.list_bundles(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message().starts_with("page_token")),
            (Code::InvalidArgument, true)
        );
        let request = ListDeploymentsRequest { parent: parent.clone(), page_token, ..Default::default() };
        let refused = scene.deployments.list_deployments(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message().starts_with("page_token")),
            (Code::InvalidArgument, true)
        );
    }
    for (page_size, given) in [(-1, None), (0, Some(34)), (i32::MAX, Some(34))] {
        let request = ListBundlesRequest { parent: parent.clone(), page_size, ..Default::default() };
        let answer = bundles.list_bundles(request).await.map(|answer| answer.into_inner().bundles.len());
        assert_eq!(answer.ok(), given, "{page_size}");
    }
    Ok(())
}
