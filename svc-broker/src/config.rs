//! Configuration: three MQTT listeners, and how many connections at most. Everything else is kit's.

use std::net::SocketAddr;

use kit::config::{Common, Config as Read, Source};

use crate::model::limits::CONNECTIONS_MAX;

#[derive(Debug)]
pub struct Config {
    pub common: Common,
    /// `DEVICE_LISTEN`, `ENROLL_LISTEN`, `SERVICE_LISTEN`; port 0 chooses.
    pub device_listen: SocketAddr,
    pub enroll_listen: SocketAddr,
    pub service_listen: SocketAddr,
    /// `REGISTRY_URL`.
    pub registry_url: String,
    /// `CONNECTIONS_MAX`, on all listeners together.
    pub connections_max: usize,
}

impl Read for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let device_listen = from.required("device_listen");
        let enroll_listen = from.required("enroll_listen");
        let service_listen = from.required("service_listen");
        let registry_url = from.required("registry_url");
        let connections_max = from.or("connections_max", CONNECTIONS_MAX);
        if connections_max == Some(0) {
            from.problem("connections_max", "must be at least 1");
            return None;
        }
        Some(Self {
            common: common?,
            device_listen: device_listen?,
            enroll_listen: enroll_listen?,
            service_listen: service_listen?,
            registry_url: registry_url?,
            connections_max: connections_max?,
        })
    }
}
