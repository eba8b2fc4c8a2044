//! `holdfast device replace`: another board takes a device's place, and runs what that one was to run.
//!
//! Two services are asked, one after the other; done again, it goes on where it ended.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use proto::ota::v1::deployment::State;
use proto::ota::v1::{CreateDeploymentRequest, Deployment, GetBundleRequest, ListDeploymentsRequest};
use proto::registry::v1::{Device, ReplaceDeviceRequest};

use crate::args::Global;
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::output;
use crate::session::Session;

/// Deployments of one device that are looked at, newest first.
const DEPLOYMENTS_MAX: usize = 1000;

/// Prints what the replacement is now, and what it was directed to.
pub(super) async fn run(global: &Global, session: &Session, old: &str, new: &str) -> Result<()> {
    let (old, new) = (session.name("devices", old), session.name("devices", new));
    let request = ReplaceDeviceRequest {
        name: old.clone(),
        replacement: new.clone(),
        request_id: fresh_request_id(),
        ..Default::default()
    };
    let device = session.devices().await?.replace_device(request).await?.into_inner();
    let made = direct(session, &old, &new).await?;
    super::show(global, &device)?;
    tell(global, &device, &made)
}

/// Directs the replacement to what the old device was to run of each component, unless it was directed to something itself.
async fn direct(session: &Session, old: &str, new: &str) -> Result<Vec<Deployment>> {
    let own = wanted(session, new).await?;
    let mut made = Vec::new();
    for (component, bundle) in wanted(session, old).await? {
        if own.contains_key(&component) {
            continue;
        }
        let request = CreateDeploymentRequest {
            parent: session.tenant(),
            device: new.to_owned(),
            bundle,
            request_id: fresh_request_id(),
            ..Default::default()
        };
        made.push(session.deployments().await?.create_deployment(request).await?.into_inner());
    }
    Ok(made)
}

/// Of each component the bundle a device was directed to last, as far as that was neither called off nor failed.
async fn wanted(session: &Session, device: &str) -> Result<BTreeMap<String, String>> {
    let (mut deployments, mut bundles) = (session.deployments().await?, session.bundles().await?);
    let all = collect(DEPLOYMENTS_MAX, async |page_token| {
        let request = ListDeploymentsRequest {
            parent: session.tenant(),
            device: device.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = deployments.list_deployments(request).await?.into_inner();
        Ok((page.deployments, page.next_page_token))
    });
    let (mut wanted, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for deployment in all.await?.into_iter().filter(is_wanted) {
        let name = deployment.bundle;
        if seen.insert(name.clone()) {
            let bundle = bundles.get_bundle(GetBundleRequest { name: name.clone() }).await?.into_inner();
            wanted.entry(bundle.component).or_insert(name);
        }
    }
    Ok(wanted)
}

/// What was called off because its device was revoked is still what it was to run.
fn is_wanted(deployment: &Deployment) -> bool {
    match deployment.state() {
        State::Reverted | State::Refused | State::Superseded | State::Unspecified => false,
        State::Cancelled => deployment.reason == "device_revoked",
        _ => true,
    }
}

fn tell(global: &Global, device: &Device, made: &[Deployment]) -> Result<()> {
    if global.json {
        return Ok(());
    }
    for deployment in made {
        let (device, version) = (output::id(&device.name), &deployment.version);
        output::line(&format!("{device} is to run {version} ({})", output::id(&deployment.name)))?;
    }
    Ok(())
}
