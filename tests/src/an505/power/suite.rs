//! Which cuts of a story are tried, and what must come of them.
//!
//! Whatever was cut, the next start runs a version of the application and of the microvisor that was whole and signed, the old or the
//! new; the device is who it was; and once the new version is confirmed nothing brings the old one back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::class::Class;
use super::judge::{Judge, Running};
use super::operation::{Cut, Mode};
use super::record::Recording;
use super::story::Story;
use crate::broker::random::Random;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Every mode of every operation, or one of each, which follows from the seed.
    pub all_modes: bool,
    /// Operations on bodies of data that are cut: so many, or all. Every other operation is.
    pub data: Option<usize>,
    /// Cuts whose recovery is recorded and cut again, at every operation that is not on a body of data.
    pub recoveries: usize,
    /// Machines at once.
    pub machines: usize,
}

/// What was tried, by class.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub operations: BTreeMap<Class, usize>,
    pub cuts: BTreeMap<Class, usize>,
    /// What ran after them.
    pub ran: BTreeMap<String, usize>,
    pub recoveries: usize,
    pub recovery_operations: usize,
    pub recovery_cuts: usize,
}

/// A story and who judges its cuts.
#[derive(Debug)]
struct Trial {
    story: Story,
    judge: Judge,
    plan: Plan,
    machines: Semaphore,
}

/// Tries a story's cuts; fails at the first that is not survived.
pub async fn try_cuts(story: Story, plan: Plan, logs: &Path) -> Result<Counts> {
    let judge = Judge::new(&story.recording.base, logs)?;
    let cuts = choose(&story.recording, plan, &mut Random::new(plan.seed, 0))?;
    let trial = Arc::new(Trial { story, judge, plan, machines: Semaphore::new(plan.machines) });
    let mut counts = Counts::default();
    for operation in &trial.story.recording.operations {
        *counts.operations.entry(Class::of(operation)?).or_default() += 1;
    }
    let mut starts = JoinSet::new();
    for cut in &cuts {
        let (trial, cut) = (Arc::clone(&trial), *cut);
        starts.spawn(async move { anyhow::Ok((cut, trial.start(cut).await?)) });
    }
    let mut ran = BTreeMap::new();
    while let Some(start) = starts.join_next().await {
        let (cut, running) = start??;
        *counts.cuts.entry(Class::of(&trial.story.recording.operations[cut.operation])?).or_default() += 1;
        *counts.ran.entry(running.to_string()).or_default() += 1;
        ran.insert(cut, running);
    }
    confirmed_is_kept(&ran, &trial.story)?;
    trial.cut_recoveries(&cuts, &mut counts).await?;
    Ok(counts)
}

/// Every operation but those on bodies of data, of which there are many alike.
fn choose(recording: &Recording, plan: Plan, random: &mut Random) -> Result<Vec<Cut>> {
    let mut data = Vec::new();
    let mut chosen = Vec::new();
    for (index, operation) in recording.operations.iter().enumerate() {
        if Class::of(operation)?.part.is_data() { data.push(index) } else { chosen.push(index) }
    }
    match plan.data {
        None => chosen.append(&mut data),
        Some(count) => (0..count.min(data.len())).for_each(|_| {
            let at = random.below(data.len());
            chosen.push(data.swap_remove(at));
        }),
    }
    let cut = |operation: usize, mode| Cut { operation, mode };
    let mut cuts: Vec<Cut> = match plan.all_modes {
        true => chosen.iter().flat_map(|at| Mode::ALL.map(|mode| cut(*at, mode))).collect(),
        false => chosen.iter().map(|at| cut(*at, random.pick(&Mode::ALL))).collect(),
    };
    cuts.sort();
    Ok(cuts)
}

/// Later cuts are of a flash on which more was done.
fn confirmed_is_kept(ran: &BTreeMap<Cut, Running>, story: &Story) -> Result<()> {
    let is_confirmed = |running: &Running| {
        let is_new =
            story.apps.last() == Some(&running.app) && story.microvisors.last() == Some(&running.microvisor);
        is_new && !running.trial && !running.microvisor_trial
    };
    let mut since = None;
    for (cut, running) in ran {
        if is_confirmed(running) {
            since.get_or_insert(cut);
        } else if let Some(since) = since {
            anyhow::bail!("{running} runs after {cut:?}, and the new version was confirmed at {since:?}");
        }
    }
    Ok(())
}

impl Trial {
    async fn start(&self, cut: Cut) -> Result<Running> {
        self.start_of(&self.story.recording, cut, &format!("cut-{}-{:?}", cut.operation, cut.mode)).await
    }

    async fn start_of(&self, recording: &Recording, cut: Cut, name: &str) -> Result<Running> {
        let _machine = self.machines.acquire().await?;
        let operation = &recording.operations[cut.operation];
        let judged = async {
            let running = self.judge.start(name, &recording.image(cut)?).await?;
            ensure!(self.story.apps.contains(&running.app), "{running}: another application");
            ensure!(self.story.microvisors.contains(&running.microvisor), "{running}: another microvisor");
            Ok(running)
        };
        judged.await.with_context(|| {
            format!(
                "{name}: the power failed in {} at {:#x} ({:?}), seed {:#x}",
                Class::of(operation).map_or_else(|_| "?".to_owned(), |class| class.to_string()),
                operation.at,
                cut.mode,
                recording.seed
            )
        })
    }

    /// Records what a start does after some of the cuts, and cuts that, too.
    async fn cut_recoveries(self: &Arc<Self>, cuts: &[Cut], counts: &mut Counts) -> Result<()> {
        let mut random = Random::new(self.plan.seed, 1);
        let mut left = cuts.to_vec();
        let mut recoveries = JoinSet::new();
        while recoveries.len() < self.plan.recoveries && !left.is_empty() {
            let cut = left.swap_remove(random.below(left.len()));
            let trial = Arc::clone(self);
            recoveries.spawn(async move { trial.cut_recovery(cut).await });
        }
        while let Some(recovery) = recoveries.join_next().await {
            let (operations, cuts) = recovery??;
            counts.recoveries += 1;
            counts.recovery_operations += operations;
            counts.recovery_cuts += cuts;
        }
        Ok(())
    }

    /// How many operations a recovery has, and how many cuts of it were tried.
    async fn cut_recovery(&self, cut: Cut) -> Result<(usize, usize)> {
        let name = format!("again-{}-{:?}", cut.operation, cut.mode);
        let flash = self.story.recording.image(cut)?;
        let seed = self.plan.seed ^ cut.operation as u64;
        let recording = {
            let _machine = self.machines.acquire().await?;
            self.judge.recorded(&name, &flash, &self.story.stages, seed).await
        };
        let recording = recording.with_context(|| format!("recording {name}"))?;
        let plan = Plan { data: Some(0), ..self.plan };
        let again = choose(&recording, plan, &mut Random::new(seed, 2))?;
        for second in &again {
            let name = format!("{name}-{}-{:?}", second.operation, second.mode);
            self.start_of(&recording, *second, &name).await?;
        }
        Ok((recording.operations.len(), again.len()))
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_trial = |is: bool| if is { " on trial" } else { "" };
        write!(f, "application {}{}", self.app, on_trial(self.trial))?;
        write!(f, ", microvisor {}{}", self.microvisor, on_trial(self.microvisor_trial))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<38} {:>10} {:>8}", "operation", "recorded", "cuts")?;
        for (class, count) in &self.operations {
            let cuts = self.cuts.get(class).copied().unwrap_or_default();
            writeln!(f, "{:<38} {count:>10} {cuts:>8}", class.to_string())?;
        }
        let total = |of: &BTreeMap<Class, usize>| of.values().sum::<usize>();
        writeln!(f, "{:<38} {:>10} {:>8}", "all", total(&self.operations), total(&self.cuts))?;
        for (running, count) in &self.ran {
            writeln!(f, "{count:>5} started into {running}")?;
        }
        let Counts { recoveries, recovery_operations, recovery_cuts, .. } = self;
        write!(f, "{recoveries} recoveries of {recovery_operations} operations, cut {recovery_cuts} times")
    }
}
