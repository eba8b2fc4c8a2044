//! mosquitto in svc-broker's place, set up as docs/brokers.md tells an operator to: the rules by `holdfast broker rules`, the roots by
//! `svc-registry trust`, which needs the database, and so comes after svc-registry has started.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::options::Service;
use crate::process::{Ready, Spec};
use crate::stack::Stack;
use crate::{places, secret};

/// How long writing its files may take.
const FILES_MAX: Duration = Duration::from_secs(30);

impl Stack {
    pub(crate) async fn mosquitto(&self) -> Result<Spec> {
        let dir = self.dir.join("mosquitto");
        self.write_rules(&dir).await?;
        let mut trust = Command::new(places::binary(Service::Registry.name())?);
        trust.arg("trust").arg(&dir).envs(self.environment(Service::Registry));
        succeed(trust).await?;
        let (certificate, key) = self.pki.server(Service::Broker.name());
        for (from, to) in
            [(certificate, "server.pem"), (key, "server.key"), (self.pki.service_ca(), "service-ca.pem")]
        {
            std::fs::copy(&from, dir.join(to)).with_context(|| format!("copying {}", from.display()))?;
        }
        // As root it would become a user who may not read our folders.
        let conf = std::fs::read_to_string(dir.join("mosquitto.conf"))?;
        let started = dir.join("started.conf");
        secret::write(&started, &format!("user root\nlog_dest stderr\n{conf}"))?;
        Ok(Spec::new("mosquitto", places::program("mosquitto")?, self.log(Service::Broker))
            .arg("-c")
            .arg(started)
            .ready(Ready::Stderr("running")))
    }

    async fn write_rules(&self, dir: &Path) -> Result<()> {
        let port = |listener| OsString::from(self.settings.port(Service::Broker, listener).to_string());
        let mut rules = Command::new(places::binary("holdfast")?);
        rules.args(["broker", "rules", "mosquitto", "--bind", "127.0.0.1", "--dir"]).arg(dir);
        rules.arg("--device-port").arg(port("device"));
        rules.arg("--enroll-port").arg(port("enroll"));
        rules.arg("--service-port").arg(port("service"));
        succeed(rules).await
    }
}

async fn succeed(mut command: Command) -> Result<()> {
    let output = tokio::time::timeout(FILES_MAX, command.kill_on_drop(true).output()).await??;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
