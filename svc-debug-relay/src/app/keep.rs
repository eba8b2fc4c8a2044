//! Keeps what this process holds: renews its leases, writes down who has gone and what has ended, hears of sessions that
//! others ended or took, and gives everything back when the process stops.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kit::Shutdown;
use kit::pg::{Hint, Scope};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::DebugSessionId;

use super::held::Held;
use super::{App, LEASE};
use crate::error::Error;
use crate::model::EndReason;
use crate::store::attachments::Gone;
use crate::store::leases::Renewal;
use crate::store::{attachments, devices, leases, sessions};

/// Between two renewals: a lease outlives two that fail.
const RENEW: Duration = Duration::from_millis(1500);
/// Shortest time between two looks, however much happens.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// How long streams may take to end when the process stops.
const STREAMS_END_MAX: Duration = Duration::from_secs(5);

/// Runs until shutdown, then gives back what is held.
pub(crate) async fn run(app: Arc<App>, hints: mpsc::Receiver<Hint>, shutdown: Shutdown) {
    // Beside each other: leases do not wait for bookkeeping.
    tokio::join!(app.keep_renewing(hints, &shutdown), app.keep_writing(&shutdown));
    app.give_back().await;
}

impl App {
    /// Whether a hint is about something held here.
    fn concerns(&self, hint: Option<&Hint>) -> bool {
        match hint {
            Some(Hint::Notified(id)) => id.parse().is_ok_and(|id| self.sessions.get(id).is_some()),
            Some(Hint::Missed) => true,
            None => false,
        }
    }

    async fn keep_renewing(&self, mut hints: mpsc::Receiver<Hint>, shutdown: &Shutdown) {
        loop {
            match shutdown.or(self.renew()).await {
                None => return,
                Some(outcome) => failed("renew", outcome),
            }
            let renew_at = Instant::now() + RENEW;
            let due = async {
                loop {
                    tokio::select! {
                        () = tokio::time::sleep_until(renew_at) => return,
                        hint = hints.recv() => if self.concerns(hint.as_ref()) {
                            return tokio::time::sleep(PAUSE_MIN).await;
                        },
                    }
                }
            };
            if shutdown.or(due).await.is_none() {
                return;
            }
        }
    }

    async fn keep_writing(&self, shutdown: &Shutdown) {
        loop {
            match shutdown.or(self.write_down()).await {
                None => return,
                Some(outcome) => failed("write", outcome),
            }
            let due = async {
                let _ = tokio::time::timeout(RENEW, self.changed.notified()).await;
                tokio::time::sleep(PAUSE_MIN).await;
            };
            if shutdown.or(due).await.is_none() {
                return;
            }
        }
    }

    /// Who has gone, and which sessions have ended.
    async fn write_down(&self) -> Result<(), Error> {
        let all = self.sessions.all();
        self.write_gone(&all).await?;
        for held in all {
            let ended = held.session().ended();
            if let Some(reason) = ended
                && held.session().is_unsettled()
            {
                self.write_end(&held, reason).await?;
            }
            let is_finished = held.session().is_finished();
            if is_finished && held.is_empty() {
                self.sessions.remove(&held, || self.turns.set(held.id, None));
            }
        }
        metrics::gauge!("relay_sessions_held").set(self.sessions.count() as f64);
        Ok(())
    }

    /// Who has left which sessions, all at once: many leave together when a network does.
    async fn write_gone(&self, all: &[Arc<Held>]) -> Result<(), Error> {
        let mut left = Vec::new();
        let mut gone: Vec<Gone> = Vec::new();
        for held in all {
            let departures = held.gone();
            for (attachment, departure) in &departures {
                let (reason, traffic) = (departure.reason, departure.traffic);
                tracing::info!(session = %held.id, device = %held.device, reason = reason.name(), "detached");
                gone.push(Gone { attachment: *attachment, reason, traffic });
            }
            left.push((held, departures));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let tx = self.store.tx(Scope::Every).await?;
        attachments::remove(&tx, &gone).await?;
        tx.commit().await?;
        for (held, departures) in left {
            let rows: Vec<i64> = departures.iter().map(|(row, _)| *row).collect();
            held.forget_gone(&rows);
        }
        Ok(())
    }

    /// The end of a session, with what went through it to the last.
    async fn write_end(&self, held: &Arc<Held>, reason: EndReason) -> Result<(), Error> {
        let tx = self.store.tx(held.tenant).await?;
        // Nothing is written when another process has it, or it was ended by somebody else.
        leases::renew(&tx, self.relay, LEASE, &[self.renewal(held)]).await?;
        let written = sessions::end(&tx, held.id, Some(held.epoch), reason, "").await?;
        tx.commit().await?;
        if written {
            tracing::info!(session = %held.id, device = %held.device, reason = reason.name(), "debug session ended");
            metrics::counter!("relay_sessions_ended_total", "reason" => reason.name()).increment(1);
        }
        held.session().settle();
        self.touched(held);
        Ok(())
    }

    /// Taken, and by what is known here neither over nor lost.
    fn is_live(&self, held: &Held) -> bool {
        held.session().advance(self.now());
        self.touched(held);
        let session = held.session();
        held.was_taken() && session.ended().is_none() && !session.is_lost()
    }

    pub(super) fn renewal(&self, held: &Held) -> Renewal {
        let session = held.session();
        Renewal {
            id: held.id,
            epoch: held.epoch,
            silent_for: self.now().saturating_sub(session.last_frame_at()),
            boot: session.boot(),
            traffic: session.traffic(),
        }
    }

    /// Says that this process is alive, writes down how much went through, and finds out what is its own no more.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        let all: Vec<_> = self.sessions.all().into_iter().filter(|held| self.is_live(held)).collect();
        if all.is_empty() {
            return Ok(());
        }
        let renewals: Vec<Renewal> = all.iter().map(|held| self.renewal(held)).collect();
        let attached: Vec<_> = all.iter().flat_map(|held| held.attached()).collect();
        let device_ids: Vec<String> = all.iter().map(|held| held.device.to_string()).collect();
        let tx = self.store.tx(Scope::Every).await?;
        let kept: HashSet<DebugSessionId> =
            leases::renew(&tx, self.relay, LEASE, &renewals).await?.into_iter().collect();
        let lost: Vec<_> = all.iter().filter(|held| !kept.contains(&held.id)).map(|held| held.id).collect();
        let ends = if lost.is_empty() { Vec::new() } else { leases::ends(&tx, &lost).await? };
        attachments::count(&tx, &attached).await?;
        let bad: HashMap<_, _> = devices::bad(&tx, &device_ids).await?.into_iter().collect();
        tx.commit().await?;
        for held in &all {
            if lost.contains(&held.id) {
                let end = ends.iter().find(|(id, _)| *id == held.id).map(|(_, reason)| *reason);
                self.lost(held, end);
            } else if let Some(reason) = bad.get(&held.device) {
                held.session().end(*reason, self.now());
                self.touched(held);
            }
        }
        Ok(())
    }

    /// Somebody else ended it, or took it.
    fn lost(&self, held: &Held, end: Option<EndReason>) {
        match end {
            Some(reason) => {
                let mut session = held.session();
                session.end(reason, self.now());
                session.settle();
            }
            None => {
                tracing::warn!(session = %held.id, device = %held.device, "another relay took the debug session");
                held.session().lose(EndReason::Moved);
            }
        }
        self.touched(held);
    }

    /// Ends every stream and then every lease: another replica goes on at once.
    async fn give_back(&self) {
        let all = self.sessions.all();
        // Ends that were not stored yet: nobody could tell later why.
        failed("write", self.write_down().await);
        for held in &all {
            held.session().lose(EndReason::Draining);
            self.touched(held);
        }
        let deadline = Instant::now() + STREAMS_END_MAX;
        while all.iter().any(|held| held.session().attached().next().is_some()) {
            if tokio::time::timeout_at(deadline, self.changed.notified()).await.is_err() {
                break;
            }
        }
        let epochs: Vec<_> = all.iter().map(|held| (held.id, held.epoch)).collect();
        let renewals: Vec<Renewal> = all.iter().map(|held| self.renewal(held)).collect();
        failed("write", self.write_gone(&all).await);
        let released = async {
            let tx = self.store.tx(Scope::Every).await?;
            leases::renew(&tx, self.relay, LEASE, &renewals).await?;
            leases::release(&tx, self.relay, &epochs).await?;
            tx.commit().await?;
            Ok::<(), Error>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(error = kit::status::chain(&error), "leases not given back: they run out");
        }
    }
}

/// What failed is tried again.
fn failed(what: &'static str, outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        tracing::warn!(what, error = kit::status::chain(&error), "debug sessions not kept");
        metrics::counter!("relay_keep_errors_total", "what" => what).increment(1);
    }
}
