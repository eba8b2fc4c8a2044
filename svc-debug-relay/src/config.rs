//! Configuration of svc-debug-relay: what every service has, how replicas reach each other, and how long things take.

use std::time::Duration;

use kit::Secret;
use kit::config::{Common, Config as Read, Source, Wrong};
use kit::pg::Pg;
use kit::tls::Tls;

/// How long a device may be silent before its session ends, by default.
const DEVICE_SILENCE_S: u32 = 60;
/// How long events and ended sessions are kept by default, in days.
const AUDIT_RETENTION_DAYS: u32 = 365;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone)]
pub struct Config {
    pub common: Common,
    /// `POSTGRES_URL`: as role `holdfast_debug`.
    pub postgres_url: Secret<String>,
    /// `REGISTRY_URL`: where access tokens' keys come from.
    pub registry_url: String,
    /// `BROKER_URL`: `mqtts://host:port`, the service listener.
    pub broker_url: String,
    /// `ADVERTISE_URL`: `https://host:port` by which other replicas reach this one; by default the address it listens on.
    pub advertise_url: Option<String>,
    /// `ADVERTISE_NAME`: the name in the replicas' server certificate, where `ADVERTISE_URL` holds one that is not in it, as a pod's
    /// address; by default the host of that URL.
    pub advertise_name: Option<String>,
    /// `DEVICE_SILENCE_S`: a device not heard for so long is given up.
    pub device_silence_s: u32,
    /// `AUDIT_RETENTION_DAYS`: events and ended sessions older than this are deleted.
    pub audit_retention_days: u32,
}

impl Config {
    pub(crate) fn device_silence(&self) -> Duration {
        Duration::from_secs(self.device_silence_s.into())
    }

    pub(crate) fn audit_retention(&self) -> Duration {
        DAY * self.audit_retention_days
    }
}

impl Read for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let postgres_url = from.required("postgres_url");
        let registry_url = from.required("registry_url");
        let broker_url = from.required("broker_url");
        let advertise_url: Option<Option<String>> = from.optional("advertise_url");
        let advertise_name = from.optional("advertise_name");
        let device_silence_s = from.or("device_silence_s", DEVICE_SILENCE_S);
        let audit_retention_days = from.or("audit_retention_days", AUDIT_RETENTION_DAYS);
        for (key, value) in
            [("device_silence_s", device_silence_s), ("audit_retention_days", audit_retention_days)]
        {
            if value == Some(0) {
                from.problem(key, "must be at least 1");
            }
        }
        let everywhere = common.as_ref().is_some_and(|c| c.grpc_listen.ip().is_unspecified());
        match &advertise_url {
            Some(Some(url)) if !url.starts_with("https://") => {
                from.problem("advertise_url", "must be https://host:port")
            }
            Some(None) if everywhere => {
                from.problem("advertise_url", "is missing: GRPC_LISTEN is no address others could use")
            }
            _ => {}
        }
        Some(Self {
            common: common?,
            postgres_url: postgres_url?,
            registry_url: registry_url?,
            broker_url: broker_url?,
            advertise_url: advertise_url?,
            advertise_name: advertise_name?,
            device_silence_s: device_silence_s?,
            audit_retention_days: audit_retention_days?,
        })
    }

    fn verify(&self, tls: &Tls, wrong: &mut Wrong) {
        self.common.verify(tls, wrong);
        wrong.note("postgres_url", Pg::new(self.postgres_url.expose(), tls));
        wrong.note("registry_url", tls.channel(&self.registry_url));
        wrong.note_broker(&self.broker_url);
        if let Some(url) = &self.advertise_url {
            wrong.note("advertise_url", tls.channel_as(url, self.advertise_name.as_deref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Config, String> {
        let mut vars: std::collections::BTreeMap<String, String> = [
            ("GRPC_LISTEN", "127.0.0.1:0"),
            ("METRICS_LISTEN", "127.0.0.1:0"),
            ("TLS_CERT", "a"),
            ("TLS_KEY", "a"),
            ("SERVICE_CA", "a"),
            ("SERVICE_CERT", "a"),
            ("SERVICE_KEY", "a"),
            ("SERVER_CA", "a"),
            ("POSTGRES_URL", "postgres://x"),
            ("REGISTRY_URL", "https://r"),
            ("BROKER_URL", "mqtts://b:1"),
        ]
        .iter()
        .chain(changes)
        .map(|(key, value)| (format!("HOLDFAST_{key}"), (*value).to_owned()))
        .collect();
        vars.retain(|_, value| value != "-");
        kit::config::load_from(vars).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_hold_and_what_is_wrong_is_named() {
        let config = read(&[]).unwrap();
        assert_eq!((config.device_silence_s, config.audit_retention_days), (60, 365));
        assert!(read(&[("DEVICE_SILENCE_S", "0")]).unwrap_err().contains("HOLDFAST_DEVICE_SILENCE_S"));
        assert!(read(&[("AUDIT_RETENTION_DAYS", "0")]).unwrap_err().contains("AUDIT_RETENTION_DAYS"));
    }

    #[test]
    fn a_replica_that_listens_everywhere_must_say_where_it_is_reached() {
        let everywhere = ("GRPC_LISTEN", "0.0.0.0:443");
        assert!(read(&[everywhere]).unwrap_err().contains("HOLDFAST_ADVERTISE_URL"));
        assert!(read(&[everywhere, ("ADVERTISE_URL", "https://10.0.0.1:443")]).is_ok());
        assert!(read(&[("ADVERTISE_URL", "http://10.0.0.1:443")]).is_err());
    }
}
