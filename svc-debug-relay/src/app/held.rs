//! The sessions this process holds, and what passes through them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use wire::{DebugSessionId, DeviceId, RelayId, TenantId};

use super::App;
use crate::model::seat::SeatId;
use crate::model::session::{Departure, Down, Up};
use crate::model::{EndReason, Moment, Session};

/// Messages for one device in one turn: others have theirs between.
const TURN_MESSAGES_MAX: usize = 16;

/// By id; one for each session held.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<DebugSessionId, Arc<Held>>>);

/// One session, and who waits for it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: DebugSessionId,
    pub(super) tenant: TenantId,
    pub(super) device: DeviceId,
    pub(super) epoch: u32,
    /// It is stored that this process holds it.
    taken: AtomicBool,
    session: Mutex<Session>,
    /// Rises when those attached may have something to be told.
    news: watch::Sender<u64>,
    /// Which row of the database an attachment is.
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    attached: HashMap<SeatId, i64>,
    /// Gone, and not yet written down. Bounded: nobody new attaches while nothing can be written.
    gone: Vec<(i64, Departure)>,
}

/// What is to be said to one device.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) relay: RelayId,
    pub(crate) device: DeviceId,
    pub(crate) session: DebugSessionId,
    pub(crate) messages: Vec<Down>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<DebugSessionId, Arc<Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: DebugSessionId) -> Option<Arc<Held>> {
        self.lock().get(&id).cloned()
    }

    /// Takes it in; the one that was there, of an earlier epoch, is given back.
    pub(super) fn insert(&self, held: Arc<Held>) -> Option<Arc<Held>> {
        self.lock().insert(held.id, held)
    }

    /// Only this very one: another epoch's stays. `then` is done before another can take its place.
    pub(super) fn remove(&self, held: &Held, then: impl FnOnce()) {
        let mut sessions = self.lock();
        if sessions.get(&held.id).is_some_and(|there| there.is(held)) {
            sessions.remove(&held.id);
            then();
        }
    }

    /// Does something while this very one is held, and nothing if another epoch's is, or none.
    fn while_held(&self, held: &Held, then: impl FnOnce()) {
        let sessions = self.lock();
        if sessions.get(&held.id).is_some_and(|there| there.is(held)) {
            then();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl Held {
    pub(super) fn new(id: DebugSessionId, tenant: TenantId, device: DeviceId, session: Session) -> Self {
        Self {
            id,
            tenant,
            device,
            epoch: session.epoch(),
            taken: AtomicBool::new(false),
            session: Mutex::new(session),
            news: watch::Sender::new(0),
            rows: Mutex::default(),
        }
    }

    fn is(&self, other: &Held) -> bool {
        std::ptr::eq(self, other)
    }

    /// From now on a row that does not name this process means that the session is lost.
    pub(super) fn is_taken(&self) {
        self.taken.store(true, Ordering::Release);
    }

    pub(super) fn was_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attachment is this row.
    pub(super) fn is_row(&self, seat: SeatId, row: i64) {
        self.rows().attached.insert(seat, row);
    }

    /// Those attached, by row, with what went through.
    pub(super) fn attached(&self) -> Vec<(i64, crate::model::Traffic)> {
        let rows = self.rows();
        let attached: Vec<_> = self.session().attached().collect();
        attached
            .into_iter()
            .filter_map(|(seat, traffic)| Some((*rows.attached.get(&seat)?, traffic)))
            .collect()
    }

    /// Who has gone and is not yet written down.
    pub(super) fn gone(&self) -> Vec<(i64, Departure)> {
        self.rows().gone.clone()
    }

    /// These are written down.
    pub(super) fn forget_gone(&self, written: &[i64]) {
        self.rows().gone.retain(|(row, _)| !written.contains(row));
    }

    /// Nobody is attached and nothing is left to write.
    pub(super) fn is_empty(&self) -> bool {
        let rows = self.rows();
        rows.gone.is_empty() && rows.attached.is_empty() && self.session().attached().next().is_none()
    }
}

impl App {
    /// After anything was done to a session: who waits for it is woken, and its next turn is set.
    pub(super) fn touched(&self, held: &Held) {
        let (news, unsettled) = {
            let mut session = held.session();
            // Under the session's lock: what is set last is what the session last said.
            self.sessions.while_held(held, || self.turns.set(held.id, session.due()));
            (session.take_news(), session.is_unsettled())
        };
        if news {
            held.news.send_modify(|count| *count += 1);
        }
        if unsettled {
            self.changed.notify_one();
        }
    }

    /// A device said something to this process.
    pub(crate) fn hear(&self, device: DeviceId, session: DebugSessionId, said: Up) {
        let held = self.sessions.get(session).filter(|held| held.device == device);
        let Some(held) = held else {
            metrics::counter!("relay_messages_refused_total", "why" => "not_held").increment(1);
            return;
        };
        held.session().hear(said, self.now());
        self.touched(&held);
    }

    /// The next device that is to be told something, as soon as there is one.
    pub(crate) async fn turn(&self) -> Turn {
        loop {
            let id = self.turns.next(|| self.now()).await;
            let Some(held) = self.sessions.get(id) else { continue };
            let messages = self.messages(&held, self.now());
            self.touched(&held);
            if !messages.is_empty() {
                return Turn { relay: self.relay, device: held.device, session: id, messages };
            }
            // Many that are due and say nothing must not keep the thread.
            tokio::task::yield_now().await;
        }
    }

    fn messages(&self, held: &Held, now: Moment) -> Vec<Down> {
        let mut session = held.session();
        std::iter::from_fn(|| session.next_down(now)).take(TURN_MESSAGES_MAX).collect()
    }

    /// A seat's stream is gone.
    pub(super) fn left(&self, held: &Held, seat: SeatId, reason: EndReason) {
        let mut rows = held.rows();
        let departure = held.session().leave(seat, reason);
        if let (Some(row), Some(departure)) = (rows.attached.remove(&seat), departure) {
            rows.gone.push((row, departure));
        }
        drop(rows);
        self.touched(held);
        self.changed.notify_one();
    }
}
