//! Use cases, one file each: load, decide in `model`, save, and return what is to be done outside as [`Effect`]s.
//! The only place with transactions. It knows neither gRPC nor MQTT.

mod authority;
mod bootstrap;
mod claims;
mod debugging;
mod devices;
mod enroll;
mod feed;
mod hello;
mod installation;
mod keysets;
mod pending;
mod replace;
mod resume;
mod roots;
mod tenants;
mod tokens;
mod upkeep;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use kit::pg::micros;
use kit::seal::MasterKey;
use kit::together::Together;
use tokio::sync::watch as published;
use wire::{DeviceId, TenantId};

pub(crate) use authority::Asked;
pub(crate) use bootstrap::new_code;
pub(crate) use claims::NewClaim;
pub(crate) use devices::Shown;
pub(crate) use enroll::{EnrollReply, EnrollRequest, Issue};
pub(crate) use hello::{HELLO_BATCH_MAX, Told as HelloTold};
pub(crate) use installation::{Installation, device_roots_der};
pub(crate) use roots::RootShown;
pub(crate) use watch::{Reset, Told, WATCHERS_MAX, WATCHERS_OF_TENANT_MAX, Watch, WatchItem};

use crate::error::Error;
use crate::model::key::subject;
use crate::store::Store;
use crate::store::presence::Leases;

/// Everything the use cases need.
#[derive(Debug)]
pub(crate) struct App {
    store: Store,
    leases: Leases,
    master: MasterKey,
    installation: Installation,
    settings: Settings,
    feed: feed::Feed,
    jwks: published::Sender<String>,
    /// Devices asked for one by one, by tenant.
    reads: Arc<Together<TenantId, DeviceId, Option<Shown>>>,
}

/// What the configuration says to the use cases.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// host:port, as told to devices.
    pub device_address: String,
    pub enroll_address: String,
    pub device_certificate: Duration,
    pub token: Duration,
}

/// Who asks, as far as it is noted and decides anything.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// A key's resource name.
    pub subject: String,
    /// Administers the installation.
    pub installation: bool,
    /// Administers its tenant.
    pub admin: bool,
}

/// What is to be done outside, once the change is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// End every connection of this device or claim id.
    Disconnect(String),
}

/// A page's rows and where the next begins.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// The last row's key, when there may be more.
    pub next: Option<String>,
}

impl App {
    pub(crate) fn new(
        store: Store,
        leases: Leases,
        master: MasterKey,
        installation: Installation,
        settings: Settings,
    ) -> Self {
        let jwks = published::Sender::new(installation.jwks().to_owned());
        Self {
            store,
            leases,
            master,
            installation,
            settings,
            feed: feed::Feed::default(),
            jwks,
            reads: Arc::default(),
        }
    }

    /// The JWK Set, for kit's own check of tokens.
    pub(crate) fn jwks(&self) -> published::Receiver<String> {
        self.jwks.subscribe()
    }

    pub(crate) fn enroll_address(&self) -> &str {
        &self.settings.enroll_address
    }
}

impl<T> Page<T> {
    /// From up to `limit + 1` rows.
    fn of(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}

fn new_tenant_id() -> TenantId {
    TenantId::new(kit::fresh_id())
}

/// Some rows more than a page, to know whether it is the last.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}

/// The first actor: nobody signed in yet.
fn installer(tenant: TenantId, key: wire::KeyId) -> String {
    subject(tenant, key)
}

fn found<T>(row: Option<T>) -> Result<T, Error> {
    row.ok_or(Error::NotFound)
}
