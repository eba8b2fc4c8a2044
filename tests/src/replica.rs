//! Another process of a service beside the stack's own, with the same database: what one of them did the other must know.

use std::time::Duration;

use anyhow::{Context, Result};
use dev::{Process, Ready, Service, Spec, Stack};

use crate::client::{Client, Person, channel_to, with_token};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// It ends when this is dropped.
#[derive(Debug)]
pub struct Replica {
    process: Process,
    url: String,
}

impl Replica {
    /// With the stack's own configuration, but for the ports.
    pub async fn start(stack: &Stack, service: Service) -> Result<Replica> {
        let name = format!("{}-2", service.name());
        let log = stack.dir().join(format!("logs/{name}.log"));
        let mut spec = Spec::new(&name, dev::binary(service.name())?, log).ready(Ready::Stdout("\"ready\""));
        spec.env = stack.environment(service);
        for (key, value) in &mut spec.env {
            if key.ends_with("_LISTEN") {
                *value = "127.0.0.1:0".into();
            }
        }
        let process = Process::spawn(spec)?;
        let line: serde_json::Value = serde_json::from_str(&process.ready(START_MAX).await?)?;
        let port = line["grpc"].as_str().and_then(|at| at.rsplit_once(':')).context("no port")?.1;
        Ok(Replica { url: format!("https://localhost:{port}"), process })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A channel to it with a fresh token of this person.
    pub async fn client(&self, stack: &Stack, person: &Person) -> Result<Client> {
        with_token(channel_to(stack, &self.url).await?, &person.token(stack).await?)
    }
}
