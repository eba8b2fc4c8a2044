//! Configuration of svc-logs: what every service has, and how long records are kept.

use std::time::Duration;

use kit::Secret;
use kit::config::{Common, Config as Read, Source, Wrong};
use kit::pg::Pg;
use kit::tls::Tls;

/// How long records are kept by default, in days.
const RETENTION_DAYS: u32 = 30;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone)]
pub struct Config {
    pub common: Common,
    /// `POSTGRES_URL`: as role `holdfast_logs`.
    pub postgres_url: Secret<String>,
    /// `REGISTRY_URL`: where access tokens' keys come from.
    pub registry_url: String,
    /// `BROKER_URL`: `mqtts://host:port`, the service listener.
    pub broker_url: String,
    /// `LOG_RETENTION_DAYS`: records older than this are deleted.
    pub retention_days: u32,
}

impl Config {
    pub(crate) fn retention(&self) -> Duration {
        DAY * self.retention_days
    }
}

impl Read for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let postgres_url = from.required("postgres_url");
        let registry_url = from.required("registry_url");
        let broker_url = from.required("broker_url");
        let retention_days = from.or("log_retention_days", RETENTION_DAYS);
        if retention_days == Some(0) {
            from.problem("log_retention_days", "must be at least 1");
        }
        Some(Self {
            common: common?,
            postgres_url: postgres_url?,
            registry_url: registry_url?,
            broker_url: broker_url?,
            retention_days: retention_days?,
        })
    }

    fn verify(&self, tls: &Tls, wrong: &mut Wrong) {
        self.common.verify(tls, wrong);
        wrong.note("postgres_url", Pg::new(self.postgres_url.expose(), tls));
        wrong.note("registry_url", tls.channel(&self.registry_url));
        wrong.note_broker(&self.broker_url);
    }
}
