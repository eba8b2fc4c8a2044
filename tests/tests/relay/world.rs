//! A stack with a relay, a second relay process where one is wanted, a device and a developer.

use anyhow::{Context, Result};
use dev::{Options, Service};
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{
    CreateDebugSessionRequest, DebugSession, DebugSessionEvent, EndReason, GetDebugSessionRequest,
    ListDebugSessionEventsRequest, Role,
};
use scenarios::client::Person;
use scenarios::replica::Replica;
use tokio::time::timeout;

use crate::board::{Enrolled, PATIENCE};
use crate::developer::Api;
use crate::device::Device;
use crate::fleet::Fleet;

pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) enrolled: Enrolled,
    pub(crate) device: Device,
}

impl World {
    pub(crate) async fn start() -> Result<World> {
        World::start_with(|options| options).await
    }

    /// A relay that gives a silent device up after this many seconds.
    pub(crate) async fn impatient(silence_s: u32) -> Result<World> {
        World::start_with(|options| {
            options.env(Service::DebugRelay, "HOLDFAST_DEVICE_SILENCE_S", silence_s.to_string())
        })
        .await
    }

    async fn start_with(change: impl FnOnce(Options) -> Options) -> Result<World> {
        let options = Options::only([Service::Registry, Service::Broker, Service::DebugRelay]);
        let fleet = Fleet::start_with(change(options)).await?;
        let enrolled = fleet.enroll("HW-1").await?;
        let device = Device::connect(&fleet.stack, &enrolled).await?;
        Ok(World { fleet, enrolled, device })
    }

    pub(crate) async fn api(&self) -> Result<Api> {
        self.api_of(&self.fleet.admin).await
    }

    pub(crate) async fn api_of(&self, person: &Person) -> Result<Api> {
        Ok(Api::new(person.client(&self.fleet.stack, Service::DebugRelay).await?))
    }

    /// The name of a new session with the device.
    pub(crate) async fn session(&self, api: &Api) -> Result<String> {
        self.session_with(api, DebugSession::default()).await
    }

    /// The name of a new session to watch the device in.
    pub(crate) async fn watch(&self, api: &Api) -> Result<String> {
        self.session_with(api, DebugSession { role: Role::Watcher.into(), ..DebugSession::default() }).await
    }

    pub(crate) async fn session_with(&self, api: &Api, wanted: DebugSession) -> Result<String> {
        let wanted = DebugSession { device: self.enrolled.name(), ..wanted };
        let parent = self.fleet.admin.tenant.clone();
        let request = CreateDebugSessionRequest { parent, debug_session: Some(wanted), ..Default::default() };
        Ok(api.clone().create_debug_session(request).await?.into_inner().name)
    }

    pub(crate) async fn show(&self, api: &Api, name: &str) -> Result<DebugSession> {
        Ok(api.clone().get_debug_session(GetDebugSessionRequest { name: name.into() }).await?.into_inner())
    }

    /// Asks until the session has ended, and why.
    pub(crate) async fn end_of(&self, api: &Api, name: &str) -> Result<EndReason> {
        let asking = async {
            loop {
                match self.show(api, name).await?.end_reason() {
                    EndReason::Unspecified => tokio::task::yield_now().await,
                    reason => return anyhow::Ok(reason),
                }
            }
        };
        timeout(PATIENCE, asking).await.context("it does not end")?
    }

    /// The session's events, oldest first, as soon as there are some of a kind.
    pub(crate) async fn events(
        &self,
        api: &Api,
        name: &str,
        kind: Kind,
        count: usize,
    ) -> Result<Vec<DebugSessionEvent>> {
        let asking = async {
            loop {
                let request = ListDebugSessionEventsRequest {
                    parent: self.fleet.admin.tenant.clone(),
                    debug_session: name.to_owned(),
                    ..Default::default()
                };
                let mut events = api.clone().list_debug_session_events(request).await?.into_inner().events;
                events.reverse();
                if events.iter().filter(|event| event.kind() == kind).count() >= count {
                    return anyhow::Ok(events);
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asking).await.with_context(|| format!("no {count} events {kind:?}"))?
    }

    /// Starts another relay process of the same installation.
    pub(crate) async fn replica(&self) -> Result<Replica> {
        Replica::start(&self.fleet.stack, Service::DebugRelay).await
    }

    /// A client of that process.
    pub(crate) async fn api_at(&self, replica: &Replica) -> Result<Api> {
        Ok(Api::new(replica.client(&self.fleet.stack, &self.fleet.admin).await?))
    }
}

/// Frames that can be told apart.
pub(crate) fn frames(what: &str, count: usize) -> Vec<Vec<u8>> {
    (1..=count).map(|n| format!("{what} {n} {}", "x".repeat(n * 37 % 900)).into_bytes()).collect()
}

/// The reason a call was refused for.
pub(crate) fn reason_of(refused: &anyhow::Error) -> Option<String> {
    refused.downcast_ref::<tonic::Status>().and_then(kit::status::reason)
}
