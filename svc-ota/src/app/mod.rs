//! One file a use case: load, decide in the model, save, return effects. The only place with transactions.
//!
//! Always holds: effects are made from what was committed; a use case that is cut off anywhere is taken up by the
//! device's next hello or by the sweep. Never sees gRPC or MQTT.

pub(crate) mod bundle;
pub(crate) mod deploy;
pub(crate) mod director;
pub(crate) mod hello;
pub(crate) mod layer;
pub(crate) mod order;
pub(crate) mod report;
pub(crate) mod sweep;
pub(crate) mod symbols;
pub(crate) mod turn;
pub(crate) mod upload;
pub(crate) mod watch;
pub(crate) mod writers;

use std::sync::Arc;

use kit::pg::Pg;
use kit::places::Places;
use kit::trace::Trace;
use tokio::sync::Semaphore;
use wire::DeviceId;

use crate::config::Config;
use crate::error::Error;
use crate::model::report::Moment;
use crate::store::hellos::Hellos;
use crate::store::objects::Objects;
use crate::store::pages::{PAGES_BYTES_MAX, Pages};

/// What the use cases share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) pg: Pg,
    pub(crate) hellos: Hellos,
    pub(crate) objects: Objects,
    pub(crate) pages: Pages,
    pub(crate) directors: director::Directors,
    pub(crate) directed: layer::DirectedCache,
    pub(crate) changes: watch::Changes,
    pub(crate) writers: Arc<writers::Writers>,
    pub(crate) watches: Arc<Places>,
    pub(crate) finishing: Semaphore,
    pub(crate) symbols_writers: Arc<Places>,
}

/// What is to be said to a device once the transaction has committed. Losing one costs time, never correctness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// On `hello`.
    Time { device: DeviceId, directive: Vec<u8> },
    /// On `update`.
    Direct { device: DeviceId, trace: Option<Trace>, directive: Vec<u8>, envelope: Vec<u8> },
    /// On `update`: the result of this moment is stored.
    Acknowledge { device: DeviceId, result: Moment },
}

impl App {
    pub(crate) fn new(config: Config, pg: Pg, hellos: Hellos) -> Result<Self, Error> {
        Ok(Self {
            objects: Objects::new(&config.s3)?,
            directors: director::Directors::load(&config.master_key_file)?,
            pages: Pages::new(PAGES_BYTES_MAX),
            directed: layer::DirectedCache::default(),
            changes: watch::Changes::default(),
            writers: Arc::default(),
            watches: Places::new("WATCHES", watch::WATCHES_MAX, watch::WATCHES_OF_TENANT_MAX),
            finishing: Semaphore::new(upload::FINISHING_MAX),
            symbols_writers: Places::new(
                "SYMBOLS_WRITERS",
                symbols::SYMBOLS_WRITERS_MAX,
                symbols::SYMBOLS_WRITERS_OF_TENANT_MAX,
            ),
            config,
            pg,
            hellos,
        })
    }
}
