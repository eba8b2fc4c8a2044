//! Configuration; kit reads it. Beside the common keys:
//!
//! `POSTGRES_URL`, `REDIS_URL`, `BROKER_URL`, `BROKER_CONTROL_URLS`, `BROKER_CONTROL_KEY`, `MASTER_KEY_FILE`; `DEVICE_ADDRESS` and
//! `ENROLL_ADDRESS` (host:port, as told to devices); `DEVICE_CERTIFICATE_S` (life of a device's certificate),
//! `TOKEN_S` (life of an access token), `PRESENCE_LEASE_S` (silence after which a device counts as offline).

use std::path::PathBuf;
use std::time::Duration;

use kit::Secret;
use kit::auth::token::TOKEN_TTL_MAX_S;
use kit::broker::BrokerControl;
use kit::config::{Common, Config as Read, Source, Wrong};
use kit::pg::Pg;
use kit::seal::MasterKey;
use kit::tls::Tls;

const DEVICE_CERTIFICATE_S: u64 = 365 * 24 * 3600;
/// Above the 15 minutes between a device's hellos.
const PRESENCE_LEASE_S: u64 = 20 * 60;
const YEARS_30_S: u64 = 30 * 365 * 24 * 3600;

#[derive(Debug)]
pub struct Config {
    pub common: Common,
    pub postgres_url: Secret<String>,
    pub redis_url: Secret<String>,
    pub broker_url: String,
    pub broker_control_urls: Vec<String>,
    /// `key:secret` of the API of an EMQX.
    pub broker_control_key: Option<Secret<String>>,
    pub master_key_file: PathBuf,
    pub device_address: String,
    pub enroll_address: String,
    pub device_certificate: Duration,
    pub token: Duration,
    pub presence_lease: Duration,
}

impl Read for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let postgres_url = from.required("postgres_url");
        let redis_url = from.required("redis_url");
        let broker_url = from.required("broker_url");
        let broker_control_urls = from.list("broker_control_urls");
        let broker_control_key = from.optional("broker_control_key");
        let master_key_file = from.required("master_key_file");
        let device_address = from.required("device_address");
        let enroll_address = from.required("enroll_address");
        let device_certificate = seconds(from, "device_certificate_s", DEVICE_CERTIFICATE_S, YEARS_30_S);
        let token = seconds(from, "token_s", TOKEN_TTL_MAX_S, TOKEN_TTL_MAX_S);
        let presence_lease = seconds(from, "presence_lease_s", PRESENCE_LEASE_S, 24 * 3600);
        Some(Self {
            common: common?,
            postgres_url: postgres_url?,
            redis_url: redis_url?,
            broker_url: broker_url?,
            broker_control_urls: broker_control_urls?,
            broker_control_key: broker_control_key?,
            master_key_file: master_key_file?,
            device_address: device_address?,
            enroll_address: enroll_address?,
            device_certificate: device_certificate?,
            token: token?,
            presence_lease: presence_lease?,
        })
    }

    fn verify(&self, tls: &Tls, wrong: &mut Wrong) {
        self.common.verify(tls, wrong);
        wrong.note("postgres_url", Pg::new(self.postgres_url.expose(), tls));
        wrong.note("redis_url", kit::redis::connect(self.redis_url.expose()));
        wrong.note_broker(&self.broker_url);
        let key = self.broker_control_key.as_ref();
        wrong.note("broker_control_urls", BrokerControl::new(tls, &self.broker_control_urls, key));
        wrong.note("master_key_file", MasterKey::load(&self.master_key_file));
    }
}

fn seconds(from: &mut Source, key: &str, default: u64, max: u64) -> Option<Duration> {
    let value = from.or(key, default)?;
    if (1..=max).contains(&value) {
        return Some(Duration::from_secs(value));
    }
    from.problem(key, &format!("must be 1 to {max}"));
    None
}
