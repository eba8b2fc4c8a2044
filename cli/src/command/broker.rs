//! `holdfast broker`: what other brokers need to take svc-broker's place. Asks no server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use wire::acl::{emqx, mosquitto};

use crate::args::Global;
use crate::output;

/// Where the printed mosquitto.conf looks for its files.
const MOSQUITTO_DIR: &str = "/etc/mosquitto/holdfast";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the rules of who may use which topic, as files of another broker.
    #[command(after_help = "Examples:\n  holdfast broker rules mosquitto --dir /etc/mosquitto/holdfast\n  \
                      holdfast broker rules emqx > /etc/emqx/acl.conf\n\ndocs/brokers.md says how to set each broker up.")]
    Rules {
        #[arg(value_enum)]
        broker: Broker,
        /// Write the files into this folder, replacing older ones, instead of printing them.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        #[command(flatten)]
        listen: Listen,
    },
}

/// Where mosquitto is to listen; EMQX says so in a file of its own.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// mosquitto: an address of this machine, instead of all.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<std::net::IpAddr>,
    /// mosquitto: port for devices.
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    device_port: u16,
    /// mosquitto: port for boards that enrol.
    #[arg(long, value_name = "PORT", default_value_t = 8884)]
    enroll_port: u16,
    /// mosquitto: port for the services.
    #[arg(long, value_name = "PORT", default_value_t = 8885)]
    service_port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Broker {
    /// mosquitto 2.0: mosquitto.conf and a rule file for each listener.
    Mosquitto,
    /// EMQX 5: acl.conf.
    Emqx,
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<()> {
    let Command::Rules { broker, dir, listen } = command;
    let Some(dir) = dir else { return print(global, &files(*broker, Path::new(MOSQUITTO_DIR), listen)) };
    // mosquitto reads relative paths from where it was started.
    let dir = std::path::absolute(dir)?;
    write(&dir, &files(*broker, &dir, listen))
}

/// Names and texts.
fn files(broker: Broker, dir: &Path, listen: &Listen) -> Vec<(&'static str, String)> {
    if let Broker::Emqx = broker {
        return vec![("acl.conf", emqx::acl())];
    }
    let bind = listen.bind.map(|address| address.to_string());
    let listeners = mosquitto::Listeners {
        bind: bind.as_deref(),
        device: listen.device_port,
        enroll: listen.enroll_port,
        service: listen.service_port,
    };
    vec![
        ("mosquitto.conf", mosquitto::conf(&dir.display().to_string(), &listeners)),
        ("device.acl", mosquitto::device()),
        ("enroll.acl", mosquitto::enroll()),
        ("service.acl", mosquitto::service()),
    ]
}

fn write(dir: &Path, files: &[(&str, String)]) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    files.iter().try_for_each(|(name, text)| {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    })
}

fn print(global: &Global, files: &[(&str, String)]) -> Result<()> {
    if global.json {
        let document: serde_json::Map<_, _> =
            files.iter().map(|(name, text)| ((*name).to_owned(), text.as_str().into())).collect();
        return output::line(&serde_json::Value::from(document).to_string());
    }
    let texts: Vec<String> = match files {
        [(_, text)] => vec![text.clone()],
        many => many.iter().map(|(name, text)| format!("# ---- {name}\n{text}")).collect(),
    };
    output::line(texts.join("\n").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: Listen = Listen { bind: None, device_port: 8883, enroll_port: 8884, service_port: 8885 };

    #[test]
    fn the_configuration_names_the_files_beside_it() {
        let dir = Path::new("/srv/broker");
        let files = files(Broker::Mosquitto, dir, &LISTEN);
        let conf = &files[0].1;
        for (name, _) in &files[1..] {
            assert!(conf.contains(&format!("acl_file /srv/broker/{name}\n")), "{name}");
        }
    }

    #[test]
    fn the_configuration_listens_where_it_is_told() {
        let listen = Listen { bind: Some([127, 0, 0, 1].into()), device_port: 1, ..LISTEN };
        let conf = &files(Broker::Mosquitto, Path::new("/srv"), &listen)[0].1;
        assert!(conf.contains("\nlistener 1 127.0.0.1\n") && conf.contains("\nlistener 8885 127.0.0.1\n"));
    }

    #[test]
    fn written_files_are_those_printed() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(Broker::Mosquitto, dir.path(), &LISTEN);
        write(&dir.path().join("new"), &files).unwrap();
        for (name, text) in files {
            assert_eq!(std::fs::read_to_string(dir.path().join("new").join(name)).unwrap(), text);
        }
    }
}
