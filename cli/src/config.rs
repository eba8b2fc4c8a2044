//! Contexts: which installation, which tenant, which sign-in key. The only reader of the environment (clap's `env`
//! attributes aside).
//!
//! One TOML file, `config.toml`, in the home folder (`--home`, `HOLDFAST_HOME`, `$XDG_CONFIG_HOME/holdfast`, or
//! `~/.config/holdfast`), readable by its owner only. It holds paths of keys, never keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::keyfile::write_private;

/// Where and as whom commands act.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// https URL of svc-registry.
    pub(crate) registry: String,
    /// https URL of svc-ota.
    pub(crate) ota: String,
    /// https URL of svc-logs.
    pub(crate) logs: String,
    /// https URL of svc-debug-relay; contexts of before there was one have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) debug: Option<String>,
    /// PEM of the CA that signs the servers' certificates.
    pub(crate) ca: PathBuf,
    /// tenants/{tenant}
    pub(crate) tenant: String,
    /// tenants/{tenant}/keys/{key}
    pub(crate) key: String,
    /// PKCS#8 PEM of the sign-in key.
    pub(crate) key_file: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Name of the context commands use.
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Config {
    /// Reads the file; a missing one is an empty configuration.
    pub(crate) fn load(home: &Path) -> Result<Config> {
        let path = file(home);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .with_context(|| format!("{} is not a valid configuration", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces the file as a whole.
    pub(crate) fn save(&self, home: &Path) -> Result<()> {
        std::fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        write_private(&file(home), toml::to_string_pretty(self)?.as_bytes(), true)
    }

    /// The context named, or the current one.
    pub(crate) fn context(&self, name: Option<&str>) -> Result<(&str, &Context)> {
        let Some(name) = name.or(self.current.as_deref()) else {
            bail!("no context yet: make one with `holdfast bootstrap` or `holdfast context add`");
        };
        match self.contexts.get_key_value(name) {
            Some((name, context)) => Ok((name, context)),
            None => bail!("no context `{name}`: `holdfast context list` shows those there are"),
        }
    }
}

fn file(home: &Path) -> PathBuf {
    home.join("config.toml")
}

/// The home folder: what was asked for, or the platform's place for configuration.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub(crate) fn home(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(home) = asked {
        return Ok(home.to_owned());
    }
    if let Ok(base) = std::env::var("XDG_CONFIG_HOME")
        && !base.is_empty()
    {
        return Ok(Path::new(&base).join("holdfast"));
    }
    let home = std::env::var("HOME").context("neither HOLDFAST_HOME nor HOME is set: give --home DIR")?;
    Ok(Path::new(&home).join(".config/holdfast"))
}

/// Where what can be fetched again is kept: in the home folder that was asked for, or the platform's place for such.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub(crate) fn cache(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(home) = asked {
        return Ok(home.join("cache"));
    }
    if let Ok(base) = std::env::var("XDG_CACHE_HOME")
        && !base.is_empty()
    {
        return Ok(Path::new(&base).join("holdfast"));
    }
    let home = std::env::var("HOME").context("neither HOLDFAST_HOME nor HOME is set: give --home DIR")?;
    Ok(Path::new(&home).join(".cache/holdfast"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            registry: "https://localhost:1".into(),
            ota: "https://localhost:2".into(),
            logs: "https://localhost:3".into(),
            debug: Some("https://localhost:4".into()),
            ca: "ca.pem".into(),
            tenant: "tenants/tn1".into(),
            key: "tenants/tn1/keys/ky1".into(),
            key_file: "key.pem".into(),
        }
    }

    #[test]
    fn a_saved_configuration_reads_back_and_is_private() {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config { current: Some("demo".into()), ..Config::default() };
        config.contexts.insert("demo".into(), context());
        config.save(home.path()).unwrap();
        config.save(home.path()).unwrap();
        let back = Config::load(home.path()).unwrap();
        assert_eq!(back.context(None).unwrap(), ("demo", &context()));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(home.path().join("config.toml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn a_context_of_before_the_debug_relay_is_read() {
        let old =
            "registry = 'a'\nota = 'b'\nlogs = 'c'\nca = 'd'\ntenant = 'e'\nkey = 'f'\nkey_file = 'g'\n";
        assert_eq!(toml::from_str::<Context>(old).unwrap().debug, None);
    }

    #[test]
    fn a_missing_context_says_how_to_make_one() {
        let home = tempfile::tempdir().unwrap();
        let config = Config::load(home.path()).unwrap();
        assert!(config.context(None).unwrap_err().to_string().contains("holdfast bootstrap"));
        assert!(config.context(Some("x")).unwrap_err().to_string().contains("context list"));
    }

    #[test]
    fn an_unreadable_configuration_names_the_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config.toml"), "current = 3").unwrap();
        assert!(Config::load(home.path()).unwrap_err().to_string().contains("config.toml"));
    }
}
