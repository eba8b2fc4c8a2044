//! `cargo dev bench broker`: svc-broker beside mosquitto, both over mutual TLS 1.3 with the same certificates and rules.
//!
//! Each part starts a broker of its own, first ours, then the peer, so often as `--runs` says; the median counts. CPU and
//! memory are the broker process's only. docs/performance.md says what the figures mean.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};
use scenarios::bench::broker::client::Identity;
use scenarios::bench::broker::connects::{self, Connects};
use scenarios::bench::broker::downlink::{self, Downlink};
use scenarios::bench::broker::fleet::{self, Round};
use scenarios::bench::broker::site::{Broker, Site, Which, peer_name};
use scenarios::bench::broker::uplink::{self, Uplink};
use scenarios::bench::figure::Figures;

const FIGURES: Figures = Figures("broker");
/// Publishers of the two parts about QoS 1.
const FEW: usize = 100;
const MANY: usize = 2_000;
/// Connections whose memory is looked at.
const IDLE: usize = 2_000;
/// Descriptors that are not connections.
const DESCRIPTORS_RESERVED: usize = 300;
const FLEET_ROUNDS: usize = 2;

#[derive(Parser)]
struct Arguments {
    /// Devices of the fleet and of the downlink.
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// Seconds of each measurement that has no end of its own.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Measurements of each broker, taken in turn.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Only these parts.
    #[arg(long)]
    only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Qos1,
    #[value(name = "qos1_2000")]
    Qos1Many,
    Connects,
    Idle,
    Fleet,
    Downlink,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let fleet = as_many_as_fit(arguments.devices);
    let bench = Bench::new(&arguments, fleet)?;
    let parts = [Part::Qos1, Part::Qos1Many, Part::Connects, Part::Idle, Part::Fleet, Part::Downlink];
    for part in parts {
        if arguments.only.is_empty() || arguments.only.contains(&part) {
            bench.part(part).await?;
        }
    }
    Ok(())
}

/// Raises the limit of descriptors, which brokers inherit, and says how many devices it allows.
fn as_many_as_fit(devices: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let current = if raised.is_ok() { limit.current } else { getrlimit(Resource::Nofile).current };
    let most = current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let fit = devices.min(most.saturating_sub(DESCRIPTORS_RESERVED));
    if fit < devices {
        eprintln!("{most} descriptors: {fit} devices instead of {devices}");
    }
    fit
}

/// What the parts share.
struct Bench {
    site: Site,
    peer: String,
    service: Identity,
    devices: Vec<Identity>,
    fleet: usize,
    runs: usize,
    time: Duration,
}

impl Bench {
    fn new(arguments: &Arguments, fleet: usize) -> Result<Bench> {
        let site = Site::new()?;
        let service = site.service("svc-ota")?;
        let count = fleet.max(MANY).max(IDLE);
        let devices = (1..=count).map(|n| site.device(&format!("dv{n:032x}"))).collect::<Result<_>>()?;
        let time = Duration::from_secs(arguments.seconds);
        Ok(Bench { peer: peer_name()?, service, devices, fleet, runs: arguments.runs, time, site })
    }

    async fn part(&self, part: Part) -> Result<()> {
        match part {
            Part::Qos1 => self.uplink(FEW, "").await,
            Part::Qos1Many => self.uplink(MANY, "_2000").await,
            Part::Connects => self.connects().await,
            Part::Idle => self.idle().await,
            Part::Fleet => self.fleet().await,
            Part::Downlink => self.downlink().await,
        }
    }

    async fn uplink(&self, publishers: usize, suffix: &str) -> Result<()> {
        let devices = &self.devices[..publishers];
        let runs = self
            .both(self.runs, async |broker| uplink::measure(broker, &self.service, devices, self.time).await)
            .await?;
        self.beside(&format!("qos1_mtls_msgs_per_s{suffix}"), "msg/s", &runs, |run: &Uplink| {
            run.messages_per_s
        });
        self.beside(&format!("qos1_mtls_cpu_us_per_msg{suffix}"), "us", &runs, |run| run.cpu_us);
        Ok(())
    }

    async fn connects(&self) -> Result<()> {
        let runs = self
            .both(self.runs, async |broker| connects::rate(broker, &self.devices[..MANY], self.time).await)
            .await?;
        self.beside("mtls_connects_per_s", "1/s", &runs, |run: &Connects| run.per_s);
        self.beside("mtls_cpu_us_per_connect", "us", &runs, |run| run.cpu_us);
        Ok(())
    }

    async fn idle(&self) -> Result<()> {
        let runs =
            self.both(1, async |broker| connects::idle_kib(broker, &self.devices[..IDLE]).await).await?;
        self.beside("idle_conn_kib_vs_mosquitto", "KiB", &runs, |kib| *kib);
        FIGURES.alone("idle_conn_kib", "KiB", median(&runs.ours, |kib| *kib)?);
        Ok(())
    }

    async fn fleet(&self) -> Result<()> {
        let devices = &self.devices[..self.fleet];
        eprintln!("fleet of {} devices", devices.len());
        let runs = self
            .both(1, async |broker| fleet::rounds(broker, &self.service, devices, FLEET_ROUNDS).await)
            .await?;
        let (ours, peer) = (runs.ours.concat(), runs.peer.concat());
        for (index, (ours, peer)) in ours.iter().zip(&peer).enumerate() {
            let name = |what: &str| format!("fleet_10k_{what}_{}", index + 1);
            let beside = |what: &str, unit: &str, of: fn(&Round) -> f64| {
                FIGURES.beside(&name(what), unit, of(ours), of(peer), &self.peer);
            };
            beside("seconds", "s", |round| round.seconds);
            beside("cpu", "CPU-s", |round| round.slices.iter().map(|(cpu_s, _)| cpu_s).sum());
            beside("present", "MiB", |round| round.present_mib);
            beside("gone", "MiB", |round| round.gone_mib);
            FIGURES.alone(&name("cost_growth"), "CPU of last thousand / first", growth(ours));
            FIGURES.alone(&name("time_growth"), "seconds of last thousand / first", time_growth(ours));
        }
        if let [first, .., last] = &ours[..] {
            FIGURES.alone(
                "fleet_10k_memory_growth",
                "after last round / first",
                last.gone_mib / first.gone_mib,
            );
        }
        Ok(())
    }

    async fn downlink(&self) -> Result<()> {
        let devices = &self.devices[..self.fleet];
        eprintln!("downlink to {} devices", devices.len());
        let runs = self
            .both(self.runs, async |broker| {
                downlink::measure(broker, &self.service, devices, self.time).await
            })
            .await?;
        self.beside("downlink_msgs_per_s", "msg/s", &runs, |run: &Downlink| run.messages_per_s);
        self.beside("downlink_cpu_us_per_msg", "us", &runs, |run| run.cpu_us);
        Ok(())
    }

    /// Measures one broker and then the other, in turn.
    async fn both<T>(&self, runs: usize, measure: impl AsyncFn(&Broker) -> Result<T>) -> Result<Runs<T>> {
        let mut all = Runs { ours: Vec::new(), peer: Vec::new() };
        for _ in 0..runs {
            for (which, measured) in [(Which::Ours, &mut all.ours), (Which::Peer, &mut all.peer)] {
                let broker = self.site.start(which).await?;
                measured
                    .push(measure(&broker).await.with_context(|| format!("{which:?}\n{}", broker.tail()))?);
                broker.stop().await?;
            }
        }
        Ok(all)
    }

    fn beside<T>(&self, metric: &str, unit: &str, runs: &Runs<T>, of: impl Fn(&T) -> f64) {
        if let (Ok(ours), Ok(peer)) = (median(&runs.ours, &of), median(&runs.peer, &of)) {
            FIGURES.beside(metric, unit, ours, peer, &self.peer);
        }
    }
}

/// What each broker's measurements gave.
struct Runs<T> {
    ours: Vec<T>,
    peer: Vec<T>,
}

fn median<T>(runs: &[T], of: impl Fn(&T) -> f64) -> Result<f64> {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}

/// The broker's CPU for the last thousand devices, as a multiple of that for the first.
fn growth(round: &Round) -> f64 {
    ends(round, |slice| slice.0)
}

fn time_growth(round: &Round) -> f64 {
    ends(round, |slice| slice.1)
}

fn ends(round: &Round, of: fn(&(f64, f64)) -> f64) -> f64 {
    match (round.slices.first(), round.slices.last()) {
        (Some(first), Some(last)) => of(last) / of(first),
        _ => f64::NAN,
    }
}
