//! Keeps what this process holds: renews its leases, writes down who has gone and what has ended, hears of sessions that
//! others ended or took, and gives everything back when the process stops.

use std::collections::HashSet;
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
pub(crate) async fn run(app: Arc<App>, mut hints: mpsc::Receiver<Hint>, shutdown: Shutdown) {
    let mut renew_at = Instant::now();
    loop {
        let due = Instant::now() >= renew_at;
        let kept = async {
            app.write_down().await?;
            if due { app.renew().await } else { Ok(()) }
        };
        match shutdown.or(kept).await {
            None => break,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(error = kit::status::chain(&error), "debug sessions not kept");
                metrics::counter!("relay_keep_errors_total").increment(1);
            }
        }
        if due {
            renew_at = Instant::now() + RENEW;
        }
        let woken = async {
            tokio::select! {
                () = tokio::time::sleep_until(renew_at) => false,
                () = app.changed.notified() => false,
                hint = hints.recv() => app.concerns(hint.as_ref()),
            }
        };
        match shutdown.or(woken).await {
            None => break,
            Some(true) => renew_at = Instant::now(),
            Some(false) => {}
        }
        if shutdown.or(tokio::time::sleep(PAUSE_MIN)).await.is_none() {
            break;
        }
    }
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

    /// Who has gone, and which sessions have ended.
    async fn write_down(&self) -> Result<(), Error> {
        for held in self.sessions.all() {
            self.write_gone(&held).await?;
            let ended = held.session().ended();
            if let Some(reason) = ended
                && held.session().is_unsettled()
            {
                self.write_end(&held, reason).await?;
            }
            let is_finished = held.session().is_finished();
            if is_finished && held.is_empty() {
                self.turns.set(held.id, None);
                self.sessions.remove(&held);
            }
        }
        metrics::gauge!("relay_sessions_held").set(self.sessions.count() as f64);
        Ok(())
    }

    async fn write_gone(&self, held: &Held) -> Result<(), Error> {
        let gone = held.gone();
        if gone.is_empty() {
            return Ok(());
        }
        let rows: Vec<i64> = gone.iter().map(|(row, _)| *row).collect();
        let gone: Vec<Gone> = gone
            .into_iter()
            .map(|(attachment, departure)| {
                let (reason, traffic) = (departure.reason, departure.traffic);
                tracing::info!(session = %held.id, device = %held.device, reason = reason.name(), "detached");
                Gone { attachment, reason, traffic }
            })
            .collect();
        let tx = self.store.tx(held.tenant).await?;
        attachments::remove(&tx, &gone).await?;
        tx.commit().await?;
        held.forget_gone(&rows);
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

    fn renewal(&self, held: &Held) -> Renewal {
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
        let live = |held: &Arc<Held>| held.session().ended().is_none() && !held.session().is_lost();
        let all: Vec<_> = self.sessions.all().into_iter().filter(live).collect();
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
        let revoked: HashSet<_> = devices::bad(&tx, &device_ids).await?.into_iter().collect();
        tx.commit().await?;
        for held in &all {
            if lost.contains(&held.id) {
                let end = ends.iter().find(|(id, _)| *id == held.id).map(|(_, reason)| *reason);
                self.lost(held, end);
            } else if revoked.contains(&held.device) {
                held.session().end(EndReason::DeviceRevoked, self.now());
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
        let released = async {
            for held in &all {
                self.write_gone(held).await?;
            }
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
