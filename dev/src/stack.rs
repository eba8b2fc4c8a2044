//! A running installation: started whole, each part stoppable and startable by itself, gone when dropped.
//!
//! A stopped part keeps its port and its data. Logs are in `logs/` of the state directory; when a test panics they stay there and
//! the way to them is printed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::environment::{self, Settings};
use crate::options::{Broker, Options, Part, Service, State};
use crate::pki::Pki;
use crate::ports::Ports;
use crate::postgres::{self, Cluster};
use crate::process::{Process, Ready, Signal, Spec};
use crate::{places, secret};

/// How long a part may take to become ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a part may take to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How often a stack is started again because a port was taken between choosing and listening.
const START_ATTEMPTS_MAX: usize = 3;
/// After this long the logs of a failed test are swept.
const FAILED_KEPT: Duration = Duration::from_secs(3600);

/// A private installation of Holdfast.
#[derive(Debug)]
pub struct Stack {
    options: Options,
    pub(crate) dir: PathBuf,
    cluster: Cluster,
    pub(crate) settings: Settings,
    pub(crate) pki: Pki,
    running: Mutex<BTreeMap<Part, Arc<Process>>>,
    failed: AtomicBool,
    _ports: Ports,
    _lock: Held,
}

impl Stack {
    /// Starts everything the options name and waits until it is ready.
    pub async fn start(options: Options) -> Result<Stack> {
        let mut attempt = 1;
        loop {
            let stack = Stack::prepare(options.clone())?;
            match stack.start_all().await {
                Ok(()) => return Ok(stack),
                Err(error) if attempt < START_ATTEMPTS_MAX && format!("{error:#}").contains("in use") => {
                    attempt += 1
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Chooses ports and makes credentials; nothing runs yet.
    fn prepare(options: Options) -> Result<Stack> {
        let dir = match &options.state {
            State::Kept(dir) => dir.clone(),
            State::Temporary => {
                sweep();
                places::dot_dev().join("run").join(secret::hex(4)?)
            }
        };
        postgres::open_folder(&dir)?;
        let lock = lock(&dir)?;
        std::fs::create_dir_all(dir.join("logs"))?;
        let known = Settings::load(&dir.join("settings.json"))?;
        let mut ports = Ports::lease(known.as_ref().map(|s| s.block))?;
        let fresh = Settings::make(&mut ports)?;
        let settings = match known {
            Some(known) => known.with_ports_of(fresh),
            None => fresh,
        };
        settings.save(&dir.join("settings.json"))?;
        for service in Service::ALL {
            let key = master_key(&dir, service);
            if !key.is_file() {
                secret::write(&key, &secret::hex(32)?)?;
            }
        }
        let pki = Pki::make(dir.join("pki"))?;
        let durable = matches!(options.state, State::Kept(_));
        let cluster = Cluster::new(&dir, dir.join("logs/postgres.log"), durable);
        Ok(Stack {
            options,
            dir,
            cluster,
            settings,
            pki,
            running: Mutex::default(),
            failed: AtomicBool::new(false),
            _ports: ports,
            _lock: lock,
        })
    }

    /// Infrastructure side by side, then the registry, then the other services side by side.
    async fn start_all(&self) -> Result<()> {
        let wants = |part: Part| self.options.has(part);
        let start = async |part: Part| {
            if wants(part) { self.launch(part).await } else { Ok(()) }
        };
        tokio::try_join!(start(Part::Postgres), start(Part::Redis), start(Part::S3))?;
        start(Service::Registry.into()).await?;
        tokio::try_join!(
            start(Service::Broker.into()),
            start(Service::Ota.into()),
            start(Service::Logs.into()),
            start(Service::DebugRelay.into())
        )?;
        Ok(())
    }

    /// Stops a part in order (services drain) and waits for its end.
    pub async fn stop(&self, part: impl Into<Part>) -> Result<()> {
        let part = part.into();
        let Some(process) = self.take(part) else { bail!("{part} does not run") };
        // Postgres: SIGINT is its fast shutdown; SIGTERM would wait for every client to leave.
        let signal = if part == Part::Postgres { Signal::Interrupt } else { Signal::Terminate };
        process.stop(signal, STOP_MAX).await.map(drop)
    }

    /// Kills a part as a power failure would (SIGKILL) and waits until it is gone.
    pub async fn kill(&self, part: impl Into<Part>) -> Result<()> {
        let part = part.into();
        let Some(process) = self.take(part) else { bail!("{part} does not run") };
        process.stop(Signal::Kill, STOP_MAX).await.map(drop)
    }

    /// Starts a stopped part again, on its port and with its data, and waits until it is ready.
    pub async fn start_service(&self, part: impl Into<Part>) -> Result<()> {
        let part = part.into();
        if self.process(part).is_some_and(|p| p.running()) {
            bail!("{part} already runs");
        }
        self.launch(part).await
    }

    /// Stops and starts a part.
    pub async fn restart(&self, part: impl Into<Part>) -> Result<()> {
        let part = part.into();
        self.stop(part).await?;
        self.start_service(part).await
    }

    /// The child that runs a part, for signals and measurements; none while it is stopped.
    pub fn process(&self, part: impl Into<Part>) -> Option<Arc<Process>> {
        self.parts().get(&part.into()).cloned()
    }

    /// Stops everything in order, services first, and keeps or removes the state as the options say.
    pub async fn shutdown(self) -> Result<()> {
        for part in [Service::DebugRelay, Service::Ota, Service::Logs, Service::Registry, Service::Broker] {
            if self.process(part).is_some() {
                self.stop(part).await?;
            }
        }
        for part in [Part::S3, Part::Redis, Part::Postgres] {
            if self.process(part).is_some() {
                self.stop(part).await?;
            }
        }
        Ok(())
    }

    /// Leaves the logs behind and says where, when the stack is dropped; a panic does so by itself.
    pub fn keep_logs(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Waits until a part ends that nobody stopped.
    pub async fn first_ended(&self) -> Arc<Process> {
        let mut watched = tokio::task::JoinSet::new();
        for process in self.parts().values().cloned() {
            watched.spawn(async move {
                let _ = process.ended(Duration::MAX).await;
                process
            });
        }
        match watched.join_next().await {
            Some(Ok(process)) => process,
            _ => std::future::pending().await,
        }
    }

    async fn launch(&self, part: Part) -> Result<()> {
        match part {
            Part::Postgres if !self.cluster.is_complete() => self.launch_new_postgres().await,
            Part::Postgres => self.run(part, self.cluster.spec(self.settings.port(part, "sql"))?).await,
            Part::Redis => self.run(part, self.redis()?).await,
            Part::S3 => self.run(part, self.s3_server()?).await,
            Part::Service(Service::Broker) => self.run(part, self.broker().await?).await,
            Part::Service(service) => self.run(part, self.service(service)?).await,
        }
    }

    async fn run(&self, part: Part, spec: Spec) -> Result<()> {
        let process = Arc::new(Process::spawn(spec)?);
        self.parts().insert(part, Arc::clone(&process));
        if let Err(error) = process.ready(READY_MAX).await {
            self.take(part);
            return Err(error);
        }
        Ok(())
    }

    async fn launch_new_postgres(&self) -> Result<()> {
        // Copying and `initdb` block for a while, but the first stack of a checkout only.
        let old = self.cluster.create()?;
        let port = self.settings.port(Part::Postgres, "sql");
        self.run(Part::Postgres, self.cluster.spec(port)?).await?;
        let roles: Vec<(&str, &str)> = Service::ALL
            .iter()
            .filter_map(|s| s.role())
            .map(|role| (role, self.settings.password(role)))
            .collect();
        self.cluster.furnish(port, &old, self.settings.password("postgres"), &roles)
    }

    fn redis(&self) -> Result<Spec> {
        let dir = self.dir.join("redis");
        std::fs::create_dir_all(&dir)?;
        let port = self.settings.port(Part::Redis, "redis");
        let config = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {}\ndir {}\nappendonly yes\nsave \"\"\nmaxmemory 64mb\n",
            self.settings.password("redis"),
            dir.display(),
        );
        let mut spec = Spec::new("redis", places::program("redis-server")?, self.log(Part::Redis))
            .arg("-")
            .ready(Ready::Stdout("Ready to accept connections"));
        // By standard input: an argument would show the password to everybody on the machine.
        spec.stdin = Some(config);
        Ok(spec)
    }

    fn s3_server(&self) -> Result<Spec> {
        let s3 = self.s3();
        std::fs::create_dir_all(s3.dir.join(&s3.bucket))?;
        let mut spec = Spec::new("s3", places::binary("dev-s3")?, self.log(Part::S3))
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.settings.port(Part::S3, "http")))
            .arg("--dir")
            .arg(&s3.dir)
            .ready(Ready::Stdout("\"ready\""));
        spec.env = vec![
            ("DEV_S3_ACCESS_KEY".to_owned(), s3.access_key),
            ("DEV_S3_SECRET_KEY".to_owned(), s3.secret_key),
        ];
        Ok(spec)
    }

    async fn broker(&self) -> Result<Spec> {
        match self.options.broker {
            Broker::SvcBroker => self.service(Service::Broker),
            Broker::Mosquitto => self.mosquitto().await,
        }
    }

    fn service(&self, service: Service) -> Result<Spec> {
        let program = places::binary(service.name())?;
        let mut spec =
            Spec::new(service.name(), program, self.log(service)).ready(Ready::Stdout("\"ready\""));
        spec.env = self.environment(service);
        Ok(spec)
    }

    /// The environment a service is started with.
    pub fn environment(&self, service: Service) -> Vec<(String, String)> {
        let master_key = master_key(&self.dir, service);
        let mut env = environment::of(service, self.options.broker, &self.settings, &self.pki, &master_key);
        env.extend(self.options.env.get(&service).cloned().unwrap_or_default());
        match &self.options.rewrite {
            Some(rewrite) => (rewrite.0)(service, env),
            None => env,
        }
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Part, Arc<Process>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, part: Part) -> Option<Arc<Process>> {
        self.parts().remove(&part)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let running = std::mem::take(&mut *self.parts());
        let kept = matches!(self.options.state, State::Kept(_));
        for (part, process) in &running {
            let signal = match part {
                // Immediate shutdown: unlike SIGKILL it gives back the shared memory of the cluster.
                Part::Postgres if !kept => Signal::Quit,
                Part::Postgres => Signal::Interrupt,
                _ if kept => Signal::Terminate,
                _ => Signal::Kill,
            };
            let _ = process.signal(signal);
        }
        for process in running.values() {
            if !process.ended_blocking(STOP_MAX) {
                let _ = process.signal(Signal::Kill);
                process.ended_blocking(STOP_MAX);
            }
        }
        if kept {
            return;
        }
        let _ = std::fs::remove_dir_all(self.cluster.data());
        // A folder of its own when the cluster lies elsewhere; otherwise it is our directory, and not empty.
        let _ = self.cluster.data().parent().map(std::fs::remove_dir);
        if std::thread::panicking() || self.failed.load(Ordering::Relaxed) {
            eprintln!("the stack's logs are in {}", self.dir.join("logs").display());
            for process in running.values().filter(|p| p.name().starts_with("svc-")) {
                eprintln!("{}", process.tail());
            }
            return;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn master_key(dir: &Path, service: Service) -> PathBuf {
    dir.join(format!("{}.master-key", service.name()))
}

/// A lock that is given back when it is dropped. Closing the file would not do: a process that somebody starts at that moment
/// holds a copy of it until it has become its program.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Locks the directory for our lifetime and says in the lock file who holds it.
fn lock(dir: &Path) -> Result<Held> {
    use std::io::Write;
    let mut lock = File::options()
        .create(true)
        .append(true)
        .open(dir.join("lock"))
        .context("creating the stack's lock")?;
    if lock.try_lock().is_err() {
        bail!("a stack already runs in {}: stop it, or give this one another name", dir.display());
    }
    lock.set_len(0)?;
    write!(lock, "{}", std::process::id())?;
    Ok(Held(lock))
}

/// Removes what killed runs left behind: directories nobody holds the lock of, and no test failed in lately.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(places::dot_dev().join("run")) else {
        return;
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let free = File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        let age = |m: std::fs::Metadata| SystemTime::now().duration_since(m.modified().ok()?).ok();
        let old = std::fs::metadata(dir.join("lock")).ok().and_then(age).is_some_and(|age| age > FAILED_KEPT);
        if free && old {
            let _ = std::fs::remove_dir_all(Cluster::new(&dir, PathBuf::new(), false).data());
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}
