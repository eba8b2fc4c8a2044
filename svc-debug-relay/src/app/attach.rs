//! Attaching: to the session this process holds, or takes because nobody does; or learning who holds it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kit::auth::Person;
use kit::places::Place;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{DebugSessionId, TenantId};

use super::held::Held;
use super::{App, LEASE, SESSIONS_HELD_MAX};
use crate::error::Error;
use crate::model::seat::SeatId;
use crate::model::session::{Next, Refusal, Rules, Said, Told};
use crate::model::{EndReason, Position, Session};
use crate::store::devices::{self, Standing};
use crate::store::leases::Locked;
use crate::store::{attachments, events, leases};

/// Where an attachment is served.
#[derive(Debug)]
pub(crate) enum Attached {
    Here(Attachment),
    /// By another replica, reached there.
    Elsewhere {
        url: String,
        place: Place,
    },
}

/// One attachment. When it is dropped its stream is gone.
#[derive(Debug)]
pub(crate) struct Attachment {
    app: Arc<App>,
    held: Arc<Held>,
    seat: SeatId,
    /// When the token it was made with expires, Unix seconds.
    until_s: u64,
    _place: Place,
}

/// Who attaches, and to what.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) tenant: TenantId,
    pub(crate) session: DebugSessionId,
    pub(crate) person: Person,
    pub(crate) position: Option<Position>,
}

impl App {
    /// Attaches, or says where to. Who is refused is written down.
    ///
    /// A caller that leaves meanwhile does not stop it half-way: it attaches, and the attachment is dropped.
    pub(crate) async fn attach(self: &Arc<Self>, wish: &Wish) -> Result<Attached, Error> {
        let (app, wish) = (self.clone(), wish.clone());
        let attaching = tokio::spawn(async move {
            match app.admit(&wish).await {
                Ok(attached) => Ok(attached),
                Err(error) => Err(app.denied(&wish, error).await),
            }
        });
        match attaching.await {
            Ok(outcome) => outcome,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Draining),
            },
        }
    }

    async fn admit(self: &Arc<Self>, wish: &Wish) -> Result<Attached, Error> {
        let place = self.places.take(wish.tenant)?;
        Ok(match self.find(wish).await? {
            Found::Elsewhere(url) => Attached::Elsewhere { url, place },
            Found::Here(held) => Attached::Here(self.sit(&held, wish, place).await?),
        })
    }

    /// The session, here or elsewhere; taken if nobody has it.
    async fn find(&self, wish: &Wish) -> Result<Found, Error> {
        let tx = self.store.tx(wish.tenant).await?;
        let locked = leases::lock(&tx, wish.session).await?.ok_or(Error::NotFound)?;
        if locked.creator != wish.person.subject {
            return Err(Error::SessionOfAnother);
        }
        let standing = devices::standing(&tx, wish.tenant, locked.device).await?;
        if let Standing::Forbidden(by) = standing {
            // Of a session that it has ended too: what forbids it says more than that.
            return Err(Error::DebuggingForbidden { by });
        }
        if let Some(reason) = locked.ended {
            return Err(Refusal::Ended(reason).into());
        }
        if standing != Standing::Good {
            return Err(Error::DeviceRevoked);
        }
        if locked.relay != Some(self.relay) && locked.is_leased {
            return Ok(Found::Elsewhere(locked.relay_url));
        }
        // While the row is locked, so that two who attach at once find the same.
        if let Some(held) = self.sessions.get(wish.session).filter(|held| held.epoch == locked.epoch)
            && !held.session().is_lost()
        {
            return Ok(Found::Here(held));
        }
        if self.sessions.count() >= SESSIONS_HELD_MAX {
            return Err(Error::RelayFull { max: SESSIONS_HELD_MAX });
        }
        let epoch = leases::take(&tx, wish.session, self.relay, &self.url, LEASE).await?;
        attachments::remove_orphans(&tx, wish.session, epoch, EndReason::RelayLost).await?;
        let held = Arc::new(Held::new(wish.session, wish.tenant, locked.device, self.begin(&locked, epoch)));
        let older = self.sessions.insert(held.clone());
        if let Err(error) = tx.commit().await {
            self.sessions.remove(&held, || self.turns.set(held.id, None));
            return Err(error.into());
        }
        held.is_taken();
        if let Some(older) = older {
            older.session().lose(EndReason::Moved);
            self.touched(&older);
        }
        self.touched(&held);
        tracing::info!(session = %held.id, device = %held.device, epoch, "debug session taken");
        Ok(Found::Here(held))
    }

    fn begin(&self, locked: &Locked, epoch: u32) -> Session {
        let now = self.now();
        let rules = Rules {
            role: locked.role,
            epoch,
            boot: locked.boot,
            idle: locked.idle,
            expires_at: now + locked.expires_in,
            last_frame_at: now.saturating_sub(locked.silent_for),
            silence: self.silence,
            traffic: locked.traffic,
        };
        Session::new(rules, now)
    }

    /// A seat, and its row.
    async fn sit(self: &Arc<Self>, held: &Arc<Held>, wish: &Wish, place: Place) -> Result<Attachment, Error> {
        let subject = &wish.person.subject;
        let seat = held.session().attach(wish.position, self.now())?;
        // Dropped on the way, it leaves again.
        let attachment = Attachment {
            app: self.clone(),
            held: held.clone(),
            seat,
            until_s: wish.person.until_s,
            _place: place,
        };
        self.touched(held);
        let tx = self.store.tx(wish.tenant).await?;
        let row = attachments::add(&tx, wish.tenant, held.id, held.epoch, subject).await?;
        tx.commit().await?;
        held.is_row(seat, row);
        tracing::info!(session = %held.id, device = %held.device, subject, "attached");
        Ok(attachment)
    }

    /// Writes down that somebody was refused, where there is a session it can be said of.
    async fn denied(&self, wish: &Wish, error: Error) -> Error {
        if matches!(error, Error::NotFound | Error::Database(_)) {
            return error;
        }
        let (subject, reason) = (&wish.person.subject, error.reason());
        tracing::info!(session = %wish.session, subject, reason, "refused to attach");
        metrics::counter!("relay_denials_total", "reason" => reason).increment(1);
        let written = async {
            let tx = self.store.tx(wish.tenant).await?;
            events::denied(&tx, wish.session, subject, reason).await?;
            tx.commit().await
        };
        match written.await {
            Ok(()) => error,
            // A denial that cannot be written down is none that could be shown: the caller comes again.
            Err(failed) => failed.into(),
        }
    }
}

enum Found {
    Here(Arc<Held>),
    Elsewhere(String),
}

impl Attachment {
    /// To be awaited when [`Attachment::next`] has nothing.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.held.news()
    }

    /// When its token expires.
    pub(crate) fn expires_at(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.until_s.saturating_sub(unix_now_s()))
    }

    /// What the caller is told next; none: nothing ever again.
    pub(crate) async fn next(&self, news: &mut watch::Receiver<u64>) -> Option<Told> {
        loop {
            news.borrow_and_update();
            let next = self.held.session().next_told(self.seat, self.app.now());
            match next {
                Next::Tell(told) => return Some(told),
                Next::Over => return None,
                // The sender lives as long as what is held.
                Next::Wait => drop(news.changed().await),
            }
        }
    }

    /// The caller says something.
    pub(crate) fn say(&self, said: Said) {
        self.held.session().say(self.seat, said, self.app.now());
        self.app.touched(&self.held);
    }

    /// Ends it, with a last word if the caller still listens.
    pub(crate) fn end(&self, reason: EndReason) {
        self.held.session().end_seat(self.seat, reason);
        self.app.touched(&self.held);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.app.left(&self.held, self.seat, why_left(self.until_s, unix_now_s()));
    }
}

fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Streams end with their token.
fn why_left(until_s: u64, now_s: u64) -> EndReason {
    if now_s >= until_s { EndReason::TokenExpired } else { EndReason::Left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_when_the_token_ends_did_not_leave_by_will() {
        assert_eq!(why_left(100, 99), EndReason::Left);
        assert_eq!(why_left(100, 100), EndReason::TokenExpired);
    }
}
