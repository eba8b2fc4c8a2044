//! Configuration of svc-logs: what every service has, and how long what devices said is kept.

use std::time::Duration;

use kit::Secret;
use kit::config::{Common, Config as Read, Source, Wrong};
use kit::pg::Pg;
use kit::tls::Tls;

use crate::app::sweep::Retention;

/// How long records are kept by default, in days.
const RETENTION_DAYS: u32 = 30;
/// A version in the field crashes for longer than its logs are of interest.
const CRASH_RETENTION_DAYS: u32 = 90;
const TELEMETRY_RETENTION_DAYS: u32 = 30;
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
    /// `CRASH_RETENTION_DAYS`: the same of crash reports.
    pub crash_retention_days: u32,
    /// `TELEMETRY_RETENTION_DAYS`: the same of telemetry.
    pub telemetry_retention_days: u32,
}

impl Config {
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            records: DAY * self.retention_days,
            crashes: DAY * self.crash_retention_days,
            telemetry: DAY * self.telemetry_retention_days,
        }
    }
}

/// A number of days, at least one.
fn days(from: &mut Source, name: &'static str, default: u32) -> Option<u32> {
    let days = from.or(name, default);
    if days == Some(0) {
        from.problem(name, "must be at least 1");
    }
    days
}

impl Read for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let postgres_url = from.required("postgres_url");
        let registry_url = from.required("registry_url");
        let broker_url = from.required("broker_url");
        let retention_days = days(from, "log_retention_days", RETENTION_DAYS);
        let crash_retention_days = days(from, "crash_retention_days", CRASH_RETENTION_DAYS);
        let telemetry_retention_days = days(from, "telemetry_retention_days", TELEMETRY_RETENTION_DAYS);
        Some(Self {
            common: common?,
            postgres_url: postgres_url?,
            registry_url: registry_url?,
            broker_url: broker_url?,
            retention_days: retention_days?,
            crash_retention_days: crash_retention_days?,
            telemetry_retention_days: telemetry_retention_days?,
        })
    }

    fn verify(&self, tls: &Tls, wrong: &mut Wrong) {
        self.common.verify(tls, wrong);
        wrong.note("postgres_url", Pg::new(self.postgres_url.expose(), tls));
        wrong.note("registry_url", tls.channel(&self.registry_url));
        wrong.note_broker(&self.broker_url);
    }
}
