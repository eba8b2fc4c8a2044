//! Conversations no client should have, and what must hold whatever is said: the broker lives, nothing panics, nobody
//! hears what is not theirs, those in order go on talking, and memory comes back.
//!
//! Everything follows from a seed; each conversation from seed and number (`conversation`). What the clock decides,
//! which of several connections is ahead, is left to chance: that is what takeovers are tried with.

mod conversation;
mod packets;
mod play;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::watch as progress;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::packets::Voice;
use self::play::{Lingering, Stage};
use self::watch::{Ear, Judge, Listener, Sentinel};
use super::client::{self, Client, Connect};
use super::pki::{Authority, Identity};
use super::random::Random;
use super::rig::{Rig, SOON, device_id};
use crate::bench::usage;

/// Hostile devices, enrolments and services.
const DEVICES: u32 = 7;
const CLAIMS: u32 = 2;
const SERVICES: u32 = 2;
/// A service gone bad, and where it may speak to every device (`wire::rule`).
const HOSTILE_SERVICE: &str = "svc-logs";
const HOSTILE_CHANNELS: &[&str] = &["log", "crash"];
/// Connections that linger, for each worker.
const LINGERING_MAX: usize = 4;
/// The metrics are read once in so many conversations: what panics is found near where it was said.
const LOOK_PERIOD: u64 = 16;
/// What the allocator may keep of a storm that is over.
const GROWTH_MIB_MAX: f64 = 32.0;

/// What is to be played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// The number of the first conversation.
    pub first: u64,
    pub connections: u64,
    /// Conversations at once.
    pub workers: u64,
}

/// What was.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    pub packets: u64,
    /// Connections that were let in, of all.
    pub admitted: u64,
    /// Messages heard and judged by those in order.
    pub judged: u64,
    /// Pairs of messages those in order exchanged.
    pub turns: u64,
    pub panics: u64,
    pub rss_before_mib: f64,
    pub rss_after_mib: f64,
    pub rss_peak_mib: f64,
}

/// A failure is due to one of these conversations, or to several: those not ended, and those since all was last well.
#[derive(Debug, Clone)]
pub struct Suspects {
    pub seed: u64,
    pub numbers: BTreeSet<u64>,
}

impl fmt::Display for Suspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {:#x}, one of the conversations {:?}", self.seed, self.numbers)
    }
}

/// What the workers share.
struct Play {
    plan: Plan,
    stage: Stage,
    cast: Vec<Voice>,
    next: AtomicU64,
    packets: AtomicU64,
    numbers: Mutex<Numbers>,
    /// How many have ended.
    ended: progress::Sender<u64>,
}

#[derive(Default)]
struct Numbers {
    /// Those not ended, the lingering among them.
    under_way: BTreeSet<u64>,
    /// Those that have ended since all was last well.
    lately: BTreeSet<u64>,
}

/// Plays the plan; `ended` counts along. An error's context is [`Suspects`].
pub async fn run(rig: &Rig, plan: Plan, ended: progress::Sender<u64>) -> Result<Report> {
    let secret = format!("secret-{:016x}-", Random::new(plan.seed, u64::MAX).number());
    let (cast, stage) = cast(rig, plan.seed, &secret);
    let judge = Arc::new(judge(&cast, &secret));
    let (sentinels, listeners) = in_order(rig, &judge).await;
    let rss_before_mib = usage::resident_mib(rig.broker.pid())?;
    let play = Arc::new(Play {
        plan,
        stage,
        cast,
        next: AtomicU64::new(plan.first),
        packets: AtomicU64::new(0),
        numbers: Mutex::default(),
        ended,
    });
    let suspects = || Suspects { seed: plan.seed, numbers: play.suspects() };
    let turns = storm(rig, &play, sentinels, listeners, &judge).await.with_context(suspects)?;
    let rss_after_mib = usage::resident_mib(rig.broker.pid())?;
    ensure!(
        rss_after_mib < rss_before_mib + GROWTH_MIB_MAX,
        "seed {:#x}: {rss_before_mib:.1} MiB before, {rss_after_mib:.1} MiB after",
        plan.seed
    );
    Ok(Report {
        packets: play.packets.load(Ordering::Relaxed),
        admitted: rig.try_metric("holdfast_broker_connects_total", "\"ok\"").await? as u64,
        judged: judge.heard.load(Ordering::Relaxed),
        turns,
        panics: rig.try_metric("holdfast_broker_panics_total", "").await? as u64,
        rss_before_mib,
        rss_after_mib,
        rss_peak_mib: usage::peak_mib(rig.broker.pid())?,
    })
}

/// All conversations, and those in order beside them; how many turns these took.
async fn storm(
    rig: &Rig,
    play: &Arc<Play>,
    mut sentinels: Vec<Sentinel>,
    listeners: Vec<Listener>,
    judge: &Arc<Judge>,
) -> Result<u64> {
    let in_order = listeners.len();
    let mut ears = JoinSet::new();
    for listener in listeners {
        ears.spawn(listener.listen());
    }
    let turns = conversations(rig, play, &mut sentinels, &mut ears).await?;
    let gone = async {
        while rig.try_metric("holdfast_broker_connections", "").await? > in_order as f64 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    timeout(SOON, gone).await.context("the broker counts connections that nobody has")??;
    judge.is_over.store(true, Ordering::SeqCst);
    for sentinel in sentinels {
        sentinel.close().await?;
    }
    while let Some(ear) = ears.join_next().await {
        ear??;
    }
    is_well(rig).await?;
    Ok(turns)
}

async fn conversations(
    rig: &Rig,
    play: &Arc<Play>,
    sentinels: &mut [Sentinel],
    ears: &mut JoinSet<Result<()>>,
) -> Result<u64> {
    let (tick, ticks) = progress::channel(0);
    let id = device_id(IN_ORDER[0]);
    let mut canary = pin!(watch::canary(sentinels, &id, &play.stage.secret, ticks));
    let mut workers = JoinSet::new();
    for _ in 0..play.plan.workers {
        workers.spawn(worker(play.clone()));
    }
    let (mut ended, mut looked) = (play.ended.subscribe(), 0);
    loop {
        tokio::select! {
            ear = ears.join_next() => ear.context("nobody listens")???,
            turns = &mut canary => bail!("those in order stopped after {} turns", turns?),
            worker = workers.join_next() => match worker {
                Some(worker) => worker??,
                None => break,
            },
            _ = ended.changed() => {
                let now = *ended.borrow_and_update();
                tick.send_replace(now);
                if now >= looked + LOOK_PERIOD {
                    looked = now;
                    let before = play.numbers().lately.clone();
                    is_well(rig).await?;
                    play.is_well(before);
                }
            }
        }
    }
    drop(tick);
    canary.await
}

/// Plays one conversation after the other until there is none left.
async fn worker(play: Arc<Play>) -> Result<()> {
    let mut lingering: VecDeque<(u64, Lingering)> = VecDeque::new();
    loop {
        let number = play.next.fetch_add(1, Ordering::Relaxed);
        if number >= play.plan.first + play.plan.connections {
            break;
        }
        play.numbers().under_way.insert(number);
        let conversation = conversation::conversation(play.plan.seed, number, &play.cast);
        play.packets.fetch_add(conversation.packets, Ordering::Relaxed);
        let left = play::play(&play.stage, &conversation).await.with_context(|| {
            format!("conversation {number}: {:?}, {:?}", conversation.door, conversation.end)
        })?;
        match left {
            Some(left) => lingering.push_back((number, left)),
            None => play.end(number),
        }
        if lingering.len() > LINGERING_MAX
            && let Some((number, left)) = lingering.pop_front()
        {
            play::leave(left).await;
            play.end(number);
        }
    }
    for (number, left) in lingering {
        play::leave(left).await;
        play.end(number);
    }
    Ok(())
}

impl Play {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, number: u64) {
        let mut numbers = self.numbers();
        numbers.under_way.remove(&number);
        numbers.lately.insert(number);
        drop(numbers);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// What has ended before all was seen to be well is no suspect any more.
    fn is_well(&self, before: BTreeSet<u64>) {
        self.numbers().lately.retain(|number| !before.contains(number));
    }

    fn suspects(&self) -> BTreeSet<u64> {
        let numbers = self.numbers();
        numbers.under_way.union(&numbers.lately).copied().collect()
    }
}

/// The broker lives, and nothing in it has panicked.
async fn is_well(rig: &Rig) -> Result<()> {
    let panics = rig.try_metric("holdfast_broker_panics_total", "").await;
    ensure!(rig.broker.running() && panics.is_ok(), "the broker has ended\n{}", rig.broker.tail());
    ensure!(panics? == 0.0, "a connection panicked\n{}", rig.broker.tail());
    Ok(())
}

/// Devices in order: one that talks, one that listens.
const IN_ORDER: [u32; 2] = [1000, 1001];

async fn in_order(rig: &Rig, judge: &Arc<Judge>) -> (Vec<Sentinel>, Vec<Listener>) {
    const OTA: &[&str] = &["hello", "update", "layer"];
    const LOGS: &[&str] = &["log", "crash", "telemetry"];
    const REGISTRY: &[&str] = &["hello", "enroll", "config", "telemetry"];
    let [talks, listens] = IN_ORDER.map(|n| rig.device(n));
    let heard = |name: &str, channels: &[&str]| -> Vec<String> {
        let filter = |channel: &&str| match name {
            "svc-registry" => format!("$share/registry-{channel}/hf/1/+/up/{channel}"),
            _ => format!("hf/1/+/up/{channel}"),
        };
        channels.iter().map(filter).collect()
    };
    let service = async |name: &str, channels: &[&str]| {
        let filters = heard(name, channels);
        rig.service(name, "in-order", &filters.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let quiet = Connect { level: 4, ..Connect::v5(&listens.name) };
    let mut quiet = rig.connect(&listens, quiet).await.unwrap();
    quiet.subscribe(&[(&format!("hf/1/{}/dn/#", listens.name), 1)]).await;
    let clients: [(Client, Ear); 5] = [
        (rig.connected(&talks).await, Ear::Device(talks.name.clone())),
        (service("svc-ota", OTA).await, Ear::Service(OTA)),
        (quiet, Ear::Device(listens.name.clone())),
        (service("svc-logs", LOGS).await, Ear::Service(LOGS)),
        (service("svc-registry", REGISTRY).await, Ear::Service(REGISTRY)),
    ];
    clients.into_iter().map(|(client, ear)| Sentinel::new(client, ear, judge)).unzip()
}

fn judge(cast: &[Voice], secret: &str) -> Judge {
    let author =
        |voice: &Voice| if voice.says == "dn" { HOSTILE_SERVICE.to_owned() } else { voice.id.clone() };
    Judge {
        secret: secret.to_owned(),
        in_order: IN_ORDER.map(device_id).to_vec(),
        authors: cast.iter().map(|voice| (voice.mark.clone(), author(voice))).collect(),
        hostile_service: HOSTILE_SERVICE,
        hostile_channels: HOSTILE_CHANNELS,
        heard: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    }
}

/// Everybody who speaks out of order, and the stage for them.
fn cast(rig: &Rig, seed: u64, secret: &str) -> (Vec<Voice>, Stage) {
    let config = |identity: &Identity| Arc::new(client::config(&rig.server_ca, Some(identity)));
    let others: Vec<String> = (1..3).chain(IN_ORDER).map(device_id).collect();
    let voice = |n: u32, id: String, client_id: String, says| Voice {
        level: 5,
        id,
        client_id,
        mark: format!("{:016x}", Random::new(seed, u64::MAX - 1 - u64::from(n)).number()),
        others: others.clone(),
        says,
    };
    let (mut voices, mut cast) = (Vec::new(), Vec::new());
    for n in 1..=DEVICES {
        let device = rig.device(n);
        voices.push(voice(n, device.name.clone(), device.name.clone(), "up"));
        cast.push((0, config(&device)));
    }
    for n in 0..CLAIMS {
        let nonce = format!("{n:032x}");
        voices.push(voice(100 + n, nonce.clone(), nonce, "up"));
        cast.push((1, config(&rig.claim(n))));
    }
    for n in 0..SERVICES {
        // It may speak to any device: half the time to one in order.
        let to = device_id(if n == 0 { IN_ORDER[0] } else { 1 });
        voices.push(voice(200 + n, to, format!("hostile-{n}"), "dn"));
        cast.push((2, config(&rig.service_ca.client(HOSTILE_SERVICE))));
    }
    let stranger = Authority::root("Holdfast device root").client(&device_id(1));
    let listeners = [rig.device.clone(), rig.enroll.clone(), rig.service.clone()];
    let stage = Stage { listeners, cast, untrusted: config(&stranger), secret: secret.to_owned() };
    (voices, stage)
}
