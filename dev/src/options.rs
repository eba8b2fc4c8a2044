//! What a stack consists of: the parts, where their state lies, and what each is told besides the usual.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// One of our service binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Registry,
    Broker,
    Ota,
    Logs,
    DebugRelay,
}

impl Service {
    /// In the order they start: the registry holds the trust roots that the broker asks for.
    pub const ALL: [Service; 5] =
        [Service::Registry, Service::Broker, Service::Ota, Service::Logs, Service::DebugRelay];

    /// The name of the binary, of the package and of the service's certificate.
    pub fn name(self) -> &'static str {
        match self {
            Service::Registry => "svc-registry",
            Service::Broker => "svc-broker",
            Service::Ota => "svc-ota",
            Service::Logs => "svc-logs",
            Service::DebugRelay => "svc-debug-relay",
        }
    }

    /// The role it logs in to Postgres with, when it has one.
    pub fn role(self) -> Option<&'static str> {
        match self {
            Service::Registry => Some("holdfast_registry"),
            Service::Ota => Some("holdfast_ota"),
            Service::Logs => Some("holdfast_logs"),
            Service::DebugRelay => Some("holdfast_debug"),
            Service::Broker => None,
        }
    }
}

/// Anything a stack runs and a test may stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Postgres,
    Redis,
    S3,
    Service(Service),
}

impl Part {
    /// Its name in logs, errors and file names.
    pub fn name(self) -> &'static str {
        match self {
            Part::Postgres => "postgres",
            Part::Redis => "redis",
            Part::S3 => "s3",
            Part::Service(service) => service.name(),
        }
    }

    fn needs(self) -> &'static [Part] {
        match self {
            Part::Service(Service::Registry) => &[Part::Postgres, Part::Redis],
            Part::Service(Service::Logs | Service::DebugRelay) => &[Part::Postgres],
            Part::Service(Service::Ota) => &[Part::Postgres, Part::Redis, Part::S3],
            Part::Service(Service::Broker) | Part::Postgres | Part::Redis | Part::S3 => &[],
        }
    }
}

impl From<Service> for Part {
    fn from(service: Service) -> Part {
        Part::Service(service)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which program stands where devices and services meet ([`Service::Broker`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Broker {
    /// Our own.
    #[default]
    SvcBroker,
    /// The distribution's mosquitto, under the rules `holdfast broker rules` writes.
    Mosquitto,
}

/// Where a stack keeps its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// A fresh directory under `.dev/run/`, removed when the stack is dropped.
    #[default]
    Temporary,
    /// This directory: kept, and taken up again with the same ports, credentials and data.
    Kept(PathBuf),
}

/// Changes what a service is told: its environment as the harness would have it, and what it gets instead.
type Rewriting = dyn Fn(Service, Vec<(String, String)>) -> Vec<(String, String)> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Rewrite(pub(crate) Arc<Rewriting>);

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite")
    }
}

/// What to start. `Options::all()` is everything; `Options::only([...])` is the parts named and what they need.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) parts: Vec<Part>,
    pub(crate) state: State,
    pub(crate) broker: Broker,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) env: BTreeMap<Service, Vec<(String, String)>>,
}

impl Options {
    /// Every service and what they need.
    pub fn all() -> Options {
        Options::only(Service::ALL)
    }

    /// These parts (services or infrastructure) and what they need, in starting order.
    pub fn only<P: Into<Part>>(parts: impl IntoIterator<Item = P>) -> Options {
        let mut wanted: Vec<Part> = Vec::new();
        for part in parts {
            let part = part.into();
            wanted.extend(part.needs());
            wanted.push(part);
        }
        wanted.sort();
        wanted.dedup();
        Options { parts: wanted, ..Options::default() }
    }

    /// One more environment variable for one service, over the harness's own.
    #[must_use]
    pub fn env(mut self, service: Service, key: &str, value: impl Into<String>) -> Options {
        self.env.entry(service).or_default().push((key.to_owned(), value.into()));
        self
    }

    /// Every service is started with what `rewrite` makes of the harness's environment, and with nothing else.
    #[must_use]
    pub fn rewrite(
        mut self,
        rewrite: impl Fn(Service, Vec<(String, String)>) -> Vec<(String, String)> + Send + Sync + 'static,
    ) -> Options {
        self.rewrite = Some(Rewrite(Arc::new(rewrite)));
        self
    }

    /// Another broker than svc-broker.
    #[must_use]
    pub fn broker(mut self, broker: Broker) -> Options {
        self.broker = broker;
        self
    }

    /// Keeps the state in this directory instead of a temporary one.
    #[must_use]
    pub fn keep(mut self, dir: impl Into<PathBuf>) -> Options {
        self.state = State::Kept(dir.into());
        self
    }

    pub(crate) fn has(&self, part: impl Into<Part>) -> bool {
        self.parts.contains(&part.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_brings_what_it_needs_before_itself() {
        let options = Options::only([Service::Ota]);
        assert_eq!(options.parts, [Part::Postgres, Part::Redis, Part::S3, Part::Service(Service::Ota)]);
        assert!(!Options::only([Service::Broker]).has(Part::Postgres));
    }

    #[test]
    fn the_registry_starts_before_those_that_ask_it() {
        let parts = Options::all().parts;
        let at = |part: Part| parts.iter().position(|p| *p == part);
        assert!(at(Service::Registry.into()) < at(Service::Broker.into()));
        assert!(at(Part::Postgres) < at(Service::Registry.into()));
    }
}
