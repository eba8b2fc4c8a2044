//! The chart: what Helm and Kubernetes say of it, and the real binaries started with exactly what its pods would get.
//!
//! There is no cluster here. Secrets are files and texts, as the chart's README lists them, laid out where the manifests mount them; names
//! of Services are followed through the manifests to the port a container listens on, and then stand for the harness's port.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use dev::{Options, Service};
use scenarios::world::{PATIENCE, World};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const GOOD: &str = "#!holdfast-script\nlog hello from the chart\nhealthy\nwork 200\nrepeat\n";
/// Names and values.
type Environment = Vec<(String, String)>;

/// Where pods find their Secrets; here below a folder of each pod's own.
const MOUNTS: &str = "/etc/holdfast";
/// A pod's address, which nobody here has: each replica listens at a port of its own instead.
const POD_IP: &str = "10.0.0.7";
/// What this harness's server certificates name.
const SERVER_NAME: &str = "localhost";

async fn python(args: &[&str]) -> Result<String> {
    let mut command = Command::new(dev::python());
    let output = command.args(args).current_dir(dev::root()).stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

#[tokio::test]
async fn every_documented_combination_is_valid_and_restricted_and_wrong_values_are_refused() -> Result<()> {
    let said = python(&["helm/check.py"]).await?;
    for words in [
        "minimal-values.yaml: 22 objects",
        "mosquitto-values.yaml",
        "Kubernetes 1.30, 1.33",
        "wrong values refused",
    ] {
        ensure!(said.contains(words), "`{words}` is not in\n{said}");
    }
    Ok(())
}

/// What `helm template` gives.
#[derive(Debug)]
struct Manifests(Vec<Value>);

impl Manifests {
    async fn render(values: &str) -> Result<Manifests> {
        let file = format!("helm/holdfast/ci/{values}-values.yaml");
        Ok(Manifests(serde_json::from_str(&python(&["helm/check.py", "render", &file]).await?)?))
    }

    fn of_kind<'m>(&'m self, kind: &'m str) -> impl Iterator<Item = &'m Value> {
        self.0.iter().filter(move |document| document["kind"] == kind)
    }

    /// The pod of a service.
    fn pod(&self, service: Service) -> Result<&Value> {
        let name =
            |document: &&Value| document["metadata"]["labels"]["app.kubernetes.io/name"] == service.name();
        let deployment = self.of_kind("Deployment").find(name);
        Ok(&deployment.with_context(|| format!("no Deployment of {}", service.name()))?["spec"]["template"])
    }

    /// Which service, by which variable, listens behind `name.namespace.svc:port`.
    fn behind(&self, address: &str) -> Result<(String, String)> {
        let (host, port) = address.rsplit_once(':').context("no port")?;
        let port: u64 = port.parse()?;
        let (name, namespace) = host.trim_end_matches(".svc").rsplit_once('.').context("no namespace")?;
        ensure!(namespace == "holdfast", "{address} is in another namespace");
        let service =
            self.of_kind("Service").find(|it| it["metadata"]["name"] == name).context("no such Service")?;
        let ports = service["spec"]["ports"].as_array().context("no ports")?;
        let target = ports.iter().find(|it| it["port"] == port).context("not its port")?;
        let selector = service["spec"]["selector"].as_object().context("no selector")?;
        let pod = self
            .of_kind("Deployment")
            .map(|it| &it["spec"]["template"])
            .find(|pod| selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value));
        let pod = pod.context("nothing is selected")?;
        let container = &pod["spec"]["containers"][0];
        let ports = container["ports"].as_array().context("no ports")?;
        let listens =
            ports.iter().find(|it| it["name"] == target["targetPort"]).context("no such container port")?;
        let at = format!("0.0.0.0:{}", listens["containerPort"]);
        let env = container["env"].as_array().context("no env")?;
        let variable = env.iter().find(|it| it["value"] == at.as_str()).context("nothing listens there")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((text(&container["name"]), text(&variable["name"])))
    }
}

/// The Secrets an operator makes (helm/holdfast/README.md): (name, key) and what is in it.
fn secrets(
    service: Service,
    harness: &BTreeMap<String, String>,
) -> Result<BTreeMap<(String, String), String>> {
    let short = service.name().trim_start_matches("svc-");
    let file =
        |key: &str| std::fs::read_to_string(&harness[key]).with_context(|| format!("the file of {key}"));
    let own = |end: &str| format!("holdfast-{}-{end}", service.name());
    let mut secrets = BTreeMap::new();
    let mut put =
        |name: &str, key: &str, value: String| drop(secrets.insert((name.to_owned(), key.to_owned()), value));
    put(&own("server"), "tls.crt", file("HOLDFAST_TLS_CERT")?);
    put(&own("server"), "tls.key", file("HOLDFAST_TLS_KEY")?);
    put(&own("client"), "tls.crt", file("HOLDFAST_SERVICE_CERT")?);
    put(&own("client"), "tls.key", file("HOLDFAST_SERVICE_KEY")?);
    put("holdfast-ca", "service-ca.pem", file("HOLDFAST_SERVICE_CA")?);
    put("holdfast-ca", "server-ca.pem", file("HOLDFAST_SERVER_CA")?);
    for (key, name, in_secret) in [
        ("HOLDFAST_POSTGRES_URL", "holdfast-postgres", format!("{short}-url")),
        ("HOLDFAST_REDIS_URL", "holdfast-redis", "url".to_owned()),
        ("HOLDFAST_S3_ACCESS_KEY", "holdfast-s3", "access-key".to_owned()),
        ("HOLDFAST_S3_SECRET_KEY", "holdfast-s3", "secret-key".to_owned()),
    ] {
        if let Some(value) = harness.get(key) {
            put(name, &in_secret, value.clone());
        }
    }
    if harness.contains_key("HOLDFAST_MASTER_KEY_FILE") {
        put("holdfast-master-keys", short, file("HOLDFAST_MASTER_KEY_FILE")?);
    }
    Ok(secrets)
}

/// Lays the Secrets out as the pod mounts them, below `root`.
fn mount(pod: &Value, root: &Path, secrets: &BTreeMap<(String, String), String>) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let volumes = pod["spec"]["volumes"].as_array().context("no volumes")?;
    for mounted in pod["spec"]["containers"][0]["volumeMounts"].as_array().context("nothing is mounted")? {
        let volume = volumes.iter().find(|it| it["name"] == mounted["name"]).context("no such volume")?;
        let secret = text(&volume["secret"]["secretName"]);
        let dir = root.join(text(&mounted["mountPath"]).trim_start_matches('/'));
        std::fs::create_dir_all(&dir)?;
        let items = volume["secret"]["items"].as_array();
        let files: Vec<(String, String)> = match items {
            Some(items) => items.iter().map(|it| (text(&it["key"]), text(&it["path"]))).collect(),
            None => secrets
                .keys()
                .filter(|(name, _)| *name == secret)
                .map(|(_, key)| (key.clone(), key.clone()))
                .collect(),
        };
        ensure!(!files.is_empty(), "there is no Secret {secret}");
        for (key, path) in files {
            let value = secrets.get(&(secret.clone(), key.clone()));
            std::fs::write(dir.join(path), value.with_context(|| format!("{secret} has no {key}"))?)?;
        }
    }
    Ok(())
}

/// The environment of the pod: every variable of the manifest and no other.
fn environment(
    manifests: &Manifests,
    service: Service,
    root: &Path,
    harness: &BTreeMap<String, String>,
) -> Result<Environment> {
    let pod = manifests.pod(service)?;
    let secrets = secrets(service, harness)?;
    mount(pod, root, &secrets)?;
    let mut env = Vec::new();
    for variable in pod["spec"]["containers"][0]["env"].as_array().context("no env")? {
        let name = variable["name"].as_str().context("no name")?.to_owned();
        let value = match variable["value"].as_str() {
            None if variable["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP" => POD_IP.to_owned(),
            None => {
                let reference = &variable["valueFrom"]["secretKeyRef"];
                let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
                let value = secrets.get(&(text("name"), text("key")));
                value.with_context(|| format!("{name}: no Secret {reference}"))?.clone()
            }
            Some(path) if path.starts_with(MOUNTS) => {
                root.join(path.trim_start_matches('/')).display().to_string()
            }
            Some(value) if value.starts_with("0.0.0.0:") => harness[&name].clone(),
            // Kubernetes fills in what stands before; every pod listens on a port of its own here.
            Some("https://$(POD_IP):8443") => format!("https://{}", harness["HOLDFAST_GRPC_LISTEN"]),
            Some(name) if name.ends_with(".svc") => {
                let behind = manifests.behind(&format!("{name}:8443"))?;
                ensure!(behind.0 == service.name(), "{name} leads to {behind:?}");
                SERVER_NAME.to_owned()
            }
            Some(url) if url.contains(".svc:") => {
                let address = url.split_once("://").map_or(url, |(_, address)| address);
                let behind = manifests.behind(address).with_context(|| format!("{name}={url}"))?;
                let wanted = match name.as_str() {
                    "HOLDFAST_REGISTRY_URL" => ("svc-registry", "HOLDFAST_GRPC_LISTEN"),
                    "HOLDFAST_BROKER_URL" => ("svc-broker", "HOLDFAST_SERVICE_LISTEN"),
                    "HOLDFAST_BROKER_CONTROL_URLS" => ("svc-broker", "HOLDFAST_GRPC_LISTEN"),
                    other => bail!("{other} names a Service"),
                };
                ensure!(behind == (wanted.0.to_owned(), wanted.1.to_owned()), "{name} leads to {behind:?}");
                harness[&name].clone()
            }
            // What the values file names is outside the cluster.
            Some("devices.example.com:8883" | "devices.example.com:8884" | "https://s3.example.com") => {
                harness[&name].clone()
            }
            Some(value) => value.to_owned(),
        };
        env.push((name, value));
    }
    Ok(env)
}

/// One container of the chart's job.
fn migrate(service: Service, env: &Environment) -> Result<()> {
    let mut command = std::process::Command::new(dev::binary(service.name())?);
    let output = command.arg("migrate").env_clear().envs(env.iter().cloned()).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn the_binaries_do_the_main_job_with_exactly_the_environment_and_files_of_the_manifests() -> Result<()>
{
    let manifests = Manifests::render("minimal").await?;
    let folder = tempfile::tempdir()?;
    let root = folder.path().to_owned();
    let told: Arc<Mutex<BTreeMap<Service, Environment>>> = Arc::default();
    let seen = told.clone();
    let options = Options::all().rewrite(move |service, harness| {
        let harness: BTreeMap<String, String> = harness.into_iter().collect();
        let env = environment(&manifests, service, &root.join(service.name()), &harness)
            .unwrap_or_else(|error| panic!("{}: {error:#}", service.name()));
        // As the chart's job does, in its order: before the service runs for the first time, its schema empty.
        if service.role().is_some() {
            migrate(service, &env).unwrap_or_else(|error| panic!("{} migrate: {error:#}", service.name()));
        }
        seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(service, env.clone());
        env
    });
    let world = World::start_with(options).await?;
    let told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    ensure!(told.len() == Service::ALL.len(), "not every service was started from its manifest");
    for (service, env) in &told {
        let mut command = Command::new(dev::binary(service.name())?);
        let output = command.arg("--check-config").env_clear().envs(env.iter().cloned()).output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && !said.contains("warning"), "{service:?}: {said}{output:?}");
        // An upgrade runs the job again.
        if service.role().is_some() {
            migrate(*service, env)?;
        }
    }

    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |device| device["presence"] == "PRESENCE_ONLINE").await?.remove(0);
    let bundle = world.bundle(GOOD, "1.0.0", 1, &["--trial", "4s", "--stable", "0s"]).await?;
    ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
    let mut follow = world.command(&["logs", &device, "--follow"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("no stdout")?).lines();
    let said = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("hello from the chart") {
                return anyhow::Ok(());
            }
        }
        bail!("the log ended")
    };
    tokio::time::timeout(PATIENCE, said).await.context("the application's line did not arrive")??;
    // What probes ask.
    for service in Service::ALL {
        let url = world.stack.metrics_url(service).replace("/metrics", "/livez");
        let address = url.trim_start_matches("http://").trim_end_matches("/livez").to_owned();
        let mut stream = tokio::net::TcpStream::connect(&address).await.with_context(|| url.clone())?;
        stream.write_all(b"GET /livez HTTP/1.1\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{url}: {answer}");
    }
    Ok(())
}
