//! Configuration: defaults, then the TOML file named by `HOLDFAST_CONFIG`, then `HOLDFAST_*` of the environment.
//!
//! Every problem is reported at once, by the key's name. Values are text until their own type parses them: nothing
//! guesses that `007` is a number. This module alone reads the environment.
//!
//! What was asked for is remembered, so that `--check-config` can show all of it: secrets elided, and where each came from.

mod check;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::seal::Secret;
use crate::tls::Tls;
use crate::{mqtt, status, trace};

pub(crate) use check::{FILE, keys};
pub use check::{Report, check};

const PREFIX: &str = "HOLDFAST_";
const FILE_KEY: &str = "HOLDFAST_CONFIG";

/// A service's configuration, read field by field so that all that is wrong is found.
///
/// ```
/// # use kit::config::{Config, Source};
/// struct Mine { ttl_s: u32, name: String }
/// impl Config for Mine {
///     fn read(from: &mut Source) -> Option<Self> {
///         let ttl_s = from.or("ttl_s", 30);
///         let name = from.required("name");
///         Some(Self { ttl_s: ttl_s?, name: name? })
///     }
/// }
/// ```
pub trait Config: Sized {
    /// `None` only after at least one problem was noted in `from`.
    fn read(from: &mut Source) -> Option<Self>;

    /// What only using a value would find: makes of each what the service will, and connects to nothing.
    fn verify(&self, _tls: &Tls, _wrong: &mut Wrong) {}
}

/// What [`Config::verify`] found.
#[derive(Debug, Default)]
pub struct Wrong(Vec<String>);

impl Wrong {
    /// Notes the error of a value that cannot be used.
    pub fn note<T>(&mut self, key: &str, made: Result<T, impl Error + 'static>) {
        if let Err(error) = made {
            self.0.push(format!("{PREFIX}{}: {}", key.to_uppercase(), status::chain(&error)));
        }
    }

    /// The same of the link's `BROKER_URL`.
    pub fn note_broker(&mut self, url: &str) {
        self.note("broker_url", mqtt::host_port(url).ok_or(mqtt::LinkError::Url));
    }
}

/// What every service has.
#[derive(Debug, Clone)]
pub struct Common {
    /// `GRPC_LISTEN`; port 0 chooses.
    pub grpc_listen: SocketAddr,
    /// `METRICS_LISTEN`; port 0 chooses.
    pub metrics_listen: SocketAddr,
    /// `OTLP_ENDPOINT`: the collector of traces, `http://host:4317` or `https://…`; without it they go nowhere.
    pub otlp_endpoint: Option<String>,
    pub tls: TlsFiles,
}

/// PEM files: who we are, and whom we believe.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// `TLS_CERT`, `TLS_KEY`: the server's.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// `SERVICE_CA`: who may present service certificates to us.
    pub service_ca: PathBuf,
    /// `SERVICE_CERT`, `SERVICE_KEY`: our own service identity, as a client.
    pub service_cert: PathBuf,
    pub service_key: PathBuf,
    /// `SERVER_CA`: verifies the servers we call.
    pub server_ca: PathBuf,
}

/// All that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("configuration is wrong:\n  {}", .problems.join("\n  "))]
pub struct ConfigError {
    pub problems: Vec<String>,
}

/// Text values by lower-case key (without the prefix), what was asked for, and the problems met so far.
#[derive(Default)]
pub struct Source {
    values: BTreeMap<String, Given>,
    asked: Vec<Setting>,
    problems: Vec<String>,
}

/// Values may be secrets.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("problems", &self.problems).finish_non_exhaustive()
    }
}

struct Given {
    text: String,
    origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    File,
    Default,
}

/// A key that the service reads.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Lower case, without prefix.
    pub key: String,
    /// As text; none when nothing is set. Secrets are elided.
    pub value: Option<String>,
    pub origin: Origin,
    /// The value names a file.
    file: Option<PathBuf>,
}

/// Reads the process's configuration.
pub fn load<C: Config>() -> Result<C, ConfigError> {
    load_from(variables())
}

/// The environment; names and values that are no UTF-8 are none of ours.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The same from given variables instead of the environment's.
pub fn load_from<C: Config>(vars: impl IntoIterator<Item = (String, String)>) -> Result<C, ConfigError> {
    let mut source = Source::new(vars);
    match C::read(&mut source) {
        Some(config) if source.problems.is_empty() => Ok(config),
        _ => Err(ConfigError { problems: source.problems }),
    }
}

impl Source {
    fn new(vars: impl IntoIterator<Item = (String, String)>) -> Source {
        let vars: BTreeMap<String, String> = vars.into_iter().collect();
        let mut source = Source::default();
        if let Some(path) = vars.get(FILE_KEY) {
            source.read_file(path);
        }
        for (name, text) in vars {
            if let Some(key) = name.strip_prefix(PREFIX) {
                source.values.insert(key.to_lowercase(), Given { text, origin: Origin::Environment });
            }
        }
        source
    }

    /// A value that must be given.
    pub fn required<T: FromStr<Err: Display> + 'static>(&mut self, key: &str) -> Option<T> {
        match self.optional(key)? {
            Some(value) => Some(value),
            None => {
                self.problem(key, "is missing");
                None
            }
        }
    }

    /// A value with a default.
    pub fn or<T: FromStr<Err: Display> + Display + 'static>(&mut self, key: &str, default: T) -> Option<T> {
        let value = self.optional(key);
        if let Some(asked) = self.asked.last_mut().filter(|asked| asked.value.is_none()) {
            asked.value = Some(default.to_string());
        }
        value.map(|value| value.unwrap_or(default))
    }

    /// A value that may be absent (`Some(None)`); outer `None`: it is there and wrong.
    pub fn optional<T: FromStr<Err: Display> + 'static>(&mut self, key: &str) -> Option<Option<T>> {
        let type_id = TypeId::of::<T>();
        let given = self.values.get(key);
        let shown = given.map(|given| match type_id == TypeId::of::<Secret<String>>() {
            true => "…".to_owned(),
            false => without_user(&given.text),
        });
        self.asked.push(Setting {
            key: key.to_owned(),
            value: shown,
            origin: given.map_or(Origin::Default, |given| given.origin),
            file: given.filter(|_| type_id == TypeId::of::<PathBuf>()).map(|given| given.text.clone().into()),
        });
        let Some(given) = given else {
            return Some(None);
        };
        match given.text.parse() {
            Ok(value) => Some(Some(value)),
            // The value itself is not repeated: it may be a secret.
            Err(error) => {
                let text = format!("{error}");
                self.problem(key, &text);
                None
            }
        }
    }

    /// Values separated by commas; absent means none.
    pub fn list<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<Vec<T>> {
        let given = self.values.get(key);
        let text = given.map(|given| given.text.clone()).unwrap_or_default();
        let origin = given.map_or(Origin::Default, |given| given.origin);
        let shown = text.split(',').map(without_user).collect::<Vec<_>>().join(",");
        self.asked.push(Setting { key: key.to_owned(), value: Some(shown), origin, file: None });
        let mut values = Vec::new();
        let mut wrong = false;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(value) => values.push(value),
                Err(error) => {
                    wrong = true;
                    let text = format!("{error}");
                    self.problem(key, &text);
                }
            }
        }
        (!wrong).then_some(values)
    }

    /// Notes that a value cannot be used, for rules no type states.
    pub fn problem(&mut self, key: &str, text: &str) {
        self.problems.push(format!("{PREFIX}{}: {text}", key.to_uppercase()));
    }

    fn read_file(&mut self, path: &str) {
        let table = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<toml::Table>().map_err(|error| error.message().to_owned()));
        let table = match table {
            Ok(table) => table,
            Err(error) => return self.problem("config", &format!("{path}: {error}")),
        };
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                    value.to_string()
                }
                _ => {
                    self.problem(&key, "must be text, a number or a boolean");
                    continue;
                }
            };
            self.values.insert(key, Given { text, origin: Origin::File });
        }
    }
}

/// A URL without the user and password it should not have had; other text as it is.
pub(crate) fn without_user(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, address))) => format!("{scheme}://…@{address}"),
        None => text.to_owned(),
    }
}

impl Config for Common {
    fn read(from: &mut Source) -> Option<Self> {
        let grpc_listen = from.required("grpc_listen");
        let metrics_listen = from.required("metrics_listen");
        let otlp_endpoint = from.optional("otlp_endpoint");
        let tls = TlsFiles::read(from);
        Some(Self {
            grpc_listen: grpc_listen?,
            metrics_listen: metrics_listen?,
            otlp_endpoint: otlp_endpoint?,
            tls: tls?,
        })
    }

    fn verify(&self, _: &Tls, wrong: &mut Wrong) {
        if let Some(endpoint) = &self.otlp_endpoint {
            wrong.note("otlp_endpoint", trace::is_encrypted(endpoint));
        }
    }
}

impl Config for TlsFiles {
    fn read(from: &mut Source) -> Option<Self> {
        let cert = from.required("tls_cert");
        let key = from.required("tls_key");
        let service_ca = from.required("service_ca");
        let service_cert = from.required("service_cert");
        let service_key = from.required("service_key");
        let server_ca = from.required("server_ca");
        Some(Self {
            cert: cert?,
            key: key?,
            service_ca: service_ca?,
            service_cert: service_cert?,
            service_key: service_key?,
            server_ca: server_ca?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Debug)]
    struct Probe {
        ttl_s: u32,
        name: String,
        urls: Vec<SocketAddr>,
    }

    impl Config for Probe {
        fn read(from: &mut Source) -> Option<Self> {
            let ttl_s = from.or("ttl_s", 30);
            let name = from.required("name");
            let urls = from.list("urls");
            Some(Self { ttl_s: ttl_s?, name: name?, urls: urls? })
        }
    }

    fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "name = 'from file'\nttl_s = 60").unwrap();
        let path = file.path().to_str().unwrap();
        let probe: Probe =
            load_from(vars(&[(FILE_KEY, path), ("HOLDFAST_NAME", "007"), ("OTHER", "x")])).unwrap();
        assert_eq!((probe.ttl_s, probe.name.as_str(), probe.urls.len()), (60, "007", 0));
    }

    #[test]
    fn all_problems_are_reported_at_once_and_values_are_not_repeated() {
        let error = load_from::<Probe>(vars(&[
            ("HOLDFAST_TTL_S", "s3cret"),
            ("HOLDFAST_URLS", "127.0.0.1:1, nowhere"),
            (FILE_KEY, "/nonexistent/file"),
        ]))
        .unwrap_err();
        let keys: Vec<_> = error.problems.iter().map(|p| p.split(':').next().unwrap()).collect();
        assert_eq!(keys, ["HOLDFAST_CONFIG", "HOLDFAST_TTL_S", "HOLDFAST_NAME", "HOLDFAST_URLS"]);
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn lists_are_split_at_commas() {
        let probe: Probe =
            load_from(vars(&[("HOLDFAST_NAME", "x"), ("HOLDFAST_URLS", " 127.0.0.1:1,127.0.0.1:2, ")]))
                .unwrap();
        assert_eq!(probe.urls.len(), 2);
    }
}
