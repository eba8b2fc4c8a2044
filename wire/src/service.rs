//! The services that speak MQTT, and the names they carry: certificate subject and shared-group prefix.

use core::fmt;

/// A service of the backend, as its certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// svc-registry: who exists.
    Registry,
    /// svc-ota: what should run.
    Ota,
    /// svc-logs: what was said.
    Logs,
    /// svc-debug-relay: byte pipes it cannot read.
    Relay,
}

impl Service {
    /// Every service, in a fixed order.
    pub const ALL: [Service; 4] = [Service::Registry, Service::Ota, Service::Logs, Service::Relay];

    /// The common name of its certificate.
    pub const fn common_name(self) -> &'static str {
        match self {
            Service::Registry => "svc-registry",
            Service::Ota => "svc-ota",
            Service::Logs => "svc-logs",
            Service::Relay => "svc-debug-relay",
        }
    }

    /// The service a certificate's common name stands for.
    pub fn from_common_name(name: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| service.common_name() == name)
    }

    /// Its short name: the first half of its shared-group names, `{name}-{channel}`.
    pub const fn name(self) -> &'static str {
        match self {
            Service::Registry => "registry",
            Service::Ota => "ota",
            Service::Logs => "logs",
            Service::Relay => "relay",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
