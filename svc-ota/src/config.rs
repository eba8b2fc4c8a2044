//! What svc-ota is told; the only reader of its environment (through kit).

use std::path::PathBuf;
use std::time::Duration;

use kit::Secret;
use kit::config::{Common, Source, Wrong};
use kit::pg::Pg;
use kit::seal::MasterKey;
use kit::tls::Tls;

#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) common: Common,
    /// `POSTGRES_URL`, `REDIS_URL`
    pub(crate) postgres_url: Secret<String>,
    pub(crate) redis_url: Secret<String>,
    /// `REGISTRY_URL`: whose tokens are believed.
    pub(crate) registry_url: String,
    /// `BROKER_URL`: the service listener.
    pub(crate) broker_url: String,
    /// `MASTER_KEY_FILE`: 64 hex digits; director keys are sealed under it.
    pub(crate) master_key_file: PathBuf,
    pub(crate) s3: S3,
    /// `UPLOAD_TTL_S`: an upload nothing was written to for so long is forgotten.
    pub(crate) upload_ttl: Duration,
    /// `SWEEP_MS`: how often due work is looked for.
    pub(crate) sweep: Duration,
}

/// `S3_ENDPOINT`, `S3_BUCKET`, `S3_REGION`, `S3_ACCESS_KEY`, `S3_SECRET_KEY`. The bucket exists.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: Secret<String>,
}

impl kit::config::Config for Config {
    fn read(from: &mut Source) -> Option<Self> {
        let common = Common::read(from);
        let postgres_url = from.required("postgres_url");
        let redis_url = from.required("redis_url");
        let registry_url = from.required("registry_url");
        let broker_url = from.required("broker_url");
        let master_key_file = from.required("master_key_file");
        let s3 = S3::read(from);
        let upload_ttl = seconds(from, "upload_ttl_s", 24 * 3600);
        let sweep = from.or("sweep_ms", 1000).map(Duration::from_millis);
        Some(Self {
            common: common?,
            postgres_url: postgres_url?,
            redis_url: redis_url?,
            registry_url: registry_url?,
            broker_url: broker_url?,
            master_key_file: master_key_file?,
            s3: s3?,
            upload_ttl: upload_ttl?,
            sweep: sweep?.max(Duration::from_millis(10)),
        })
    }

    fn verify(&self, tls: &Tls, wrong: &mut Wrong) {
        self.common.verify(tls, wrong);
        wrong.note("postgres_url", Pg::new(self.postgres_url.expose(), tls));
        wrong.note("redis_url", kit::redis::connect(self.redis_url.expose()));
        wrong.note("registry_url", tls.channel(&self.registry_url));
        wrong.note_broker(&self.broker_url);
        wrong.note("master_key_file", MasterKey::load(&self.master_key_file));
    }
}

impl kit::config::Config for S3 {
    fn read(from: &mut Source) -> Option<Self> {
        let endpoint: Option<String> = from.required("s3_endpoint");
        if endpoint.as_ref().is_some_and(|it| !it.starts_with("http://") && !it.starts_with("https://")) {
            from.problem("s3_endpoint", "must begin with http:// or https://");
        }
        let bucket = from.required("s3_bucket");
        let region = from.or("s3_region", "us-east-1".to_owned());
        let access_key = from.required("s3_access_key");
        let secret_key = from.required("s3_secret_key");
        Some(Self {
            endpoint: endpoint?,
            bucket: bucket?,
            region: region?,
            access_key: access_key?,
            secret_key: secret_key?,
        })
    }
}

/// At least one second: a zero would forget uploads while they are made.
fn seconds(from: &mut Source, key: &str, default: u64) -> Option<Duration> {
    let seconds = from.or(key, default)?;
    if seconds == 0 {
        from.problem(key, "must be at least 1");
        return None;
    }
    Some(Duration::from_secs(seconds))
}
