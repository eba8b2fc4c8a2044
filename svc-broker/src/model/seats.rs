//! Who sits where: every connection past its TLS handshake, and which one holds which client id.
//!
//! Holds: a client id is held by at most one connection; a connection is in the table before svc-registry is asked
//! about it, so that `stop` reaches it at any point of its life; one that was stopped can never be seated; leaving
//! frees only what that very connection held (ids are never used twice). Ends nobody itself: it names whom to end.

use std::collections::{BTreeSet, HashMap};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(u64);

/// How much of the table a connection's kind may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// As much as there is.
    Whole,
    /// So many of one certificate name.
    Each(usize),
    /// So many of this kind together.
    Crowd(usize),
}

/// What the table keeps of one connection; `H` is the caller's means to end it.
#[derive(Debug)]
struct Seat<H> {
    identity: String,
    client: Option<String>,
    stopped: bool,
    in_crowd: bool,
    handle: H,
}

#[derive(Debug)]
pub(crate) struct Seats<H> {
    next: u64,
    max: usize,
    crowd: usize,
    closed: bool,
    seats: HashMap<ConnectionId, Seat<H>>,
    identities: HashMap<String, BTreeSet<ConnectionId>>,
    clients: HashMap<String, ConnectionId>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<H> {
    Seated,
    /// Another connection holds the client id: end it, wait until it has left, ask again.
    Held(H),
    /// Another certificate's connection holds the client id; it is not ended for this one.
    Foreign,
    /// This connection was stopped in the meantime.
    Stopped,
}

impl<H: Clone> Seats<H> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            next: 0,
            max,
            crowd: 0,
            closed: false,
            seats: HashMap::new(),
            identities: HashMap::new(),
            clients: HashMap::new(),
        }
    }

    /// Puts a connection with this certificate name in the table; `None` when the house is full or closed, or its share
    /// taken.
    pub(crate) fn enter(&mut self, identity: &str, share: Share, handle: H) -> Option<ConnectionId> {
        let in_crowd = matches!(share, Share::Crowd(_));
        let room = match share {
            Share::Whole => true,
            Share::Each(max) => self.identities.get(identity).is_none_or(|ids| ids.len() < max),
            Share::Crowd(max) => self.crowd < max,
        };
        if self.closed || self.seats.len() >= self.max || !room {
            return None;
        }
        self.next += 1;
        self.crowd += usize::from(in_crowd);
        let id = ConnectionId(self.next);
        self.identities.entry(identity.to_owned()).or_default().insert(id);
        let identity = identity.to_owned();
        self.seats.insert(id, Seat { identity, client: None, stopped: false, in_crowd, handle });
        Some(id)
    }

    /// Gives the connection its client id if nobody else holds it.
    pub(crate) fn take(&mut self, id: ConnectionId, client: &str) -> Taken<H> {
        let Some(seat) = self.seats.get_mut(&id).filter(|seat| !seat.stopped) else { return Taken::Stopped };
        let Some(holder) = self.clients.get(client) else {
            seat.client = Some(client.to_owned());
            self.clients.insert(client.to_owned(), id);
            return Taken::Seated;
        };
        if *holder == id {
            return Taken::Seated;
        }
        let identity = seat.identity.clone();
        match self.seats.get(holder) {
            Some(held) if held.identity == identity => Taken::Held(held.handle.clone()),
            _ => Taken::Foreign,
        }
    }

    /// Marks every connection of this certificate name as stopped and says how to end each.
    pub(crate) fn stop(&mut self, identity: &str) -> Vec<H> {
        let ids = self.identities.get(identity).into_iter().flatten();
        ids.filter_map(|id| {
            let seat = self.seats.get_mut(id)?;
            seat.stopped = true;
            Some(seat.handle.clone())
        })
        .collect()
    }

    /// Stops everyone, and lets nobody in any more.
    pub(crate) fn stop_all(&mut self) -> Vec<H> {
        self.closed = true;
        self.seats
            .values_mut()
            .map(|seat| {
                seat.stopped = true;
                seat.handle.clone()
            })
            .collect()
    }

    pub(crate) fn leave(&mut self, id: ConnectionId) {
        let Some(seat) = self.seats.remove(&id) else { return };
        self.crowd -= usize::from(seat.in_crowd);
        if let Some(ids) = self.identities.get_mut(&seat.identity) {
            ids.remove(&id);
            if ids.is_empty() {
                self.identities.remove(&seat.identity);
            }
        }
        if let Some(client) = seat.client
            && self.clients.get(&client) == Some(&id)
        {
            self.clients.remove(&client);
        }
    }

    /// Client ids held now.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seats() -> Seats<u32> {
        Seats::new(8)
    }

    #[test]
    fn a_client_id_is_handed_over_only_after_its_holder_left() {
        let mut seats = seats();
        let old = seats.enter("dv1", Share::Whole, 1).unwrap();
        let new = seats.enter("dv1", Share::Whole, 2).unwrap();
        assert_eq!(seats.take(old, "dv1"), Taken::Seated);
        assert_eq!(seats.take(new, "dv1"), Taken::Held(1));
        assert_eq!(seats.take(new, "dv1"), Taken::Held(1));
        seats.leave(old);
        assert_eq!(seats.take(new, "dv1"), Taken::Seated);
        assert_eq!(seats.take(new, "dv1"), Taken::Seated, "asking twice changes nothing");
    }

    #[test]
    fn a_client_id_is_never_handed_to_another_certificate() {
        let mut seats = seats();
        let first = seats.enter("cl1", Share::Whole, 1).unwrap();
        let other = seats.enter("cl2", Share::Whole, 2).unwrap();
        assert_eq!(seats.take(first, "nonce"), Taken::Seated);
        assert_eq!(seats.take(other, "nonce"), Taken::Foreign);
    }

    #[test]
    fn leaving_twice_or_late_never_frees_an_innocents_seat() {
        let mut seats = seats();
        let old = seats.enter("dv1", Share::Whole, 1).unwrap();
        seats.take(old, "dv1");
        seats.leave(old);
        let new = seats.enter("dv1", Share::Whole, 2).unwrap();
        assert_eq!(seats.take(new, "dv1"), Taken::Seated);
        seats.leave(old);
        let third = seats.enter("dv1", Share::Whole, 3).unwrap();
        assert_eq!(seats.take(third, "dv1"), Taken::Held(2));
    }

    #[test]
    fn a_stopped_connection_is_never_seated_even_before_it_asked() {
        let mut seats = seats();
        let pending = seats.enter("dv1", Share::Whole, 1).unwrap();
        let other = seats.enter("dv2", Share::Whole, 2).unwrap();
        assert_eq!(seats.stop("dv1"), vec![1]);
        assert_eq!(seats.take(pending, "dv1"), Taken::Stopped);
        assert_eq!(seats.take(other, "dv2"), Taken::Seated);
        let later = seats.enter("dv1", Share::Whole, 3).unwrap();
        assert_eq!(seats.take(later, "dv1"), Taken::Seated, "whether it may is the registry's word");
    }

    #[test]
    fn the_house_is_full_at_its_maximum_and_has_room_after_one_left() {
        let mut seats = Seats::new(2);
        let first = seats.enter("a", Share::Whole, 1).unwrap();
        assert!(seats.enter("b", Share::Whole, 2).is_some());
        assert_eq!(seats.enter("c", Share::Whole, 3), None);
        seats.leave(first);
        assert!(seats.enter("c", Share::Whole, 3).is_some());
    }

    #[test]
    fn one_certificate_takes_no_more_than_its_share() {
        let mut seats = seats();
        let first = seats.enter("dv1", Share::Each(2), 1).unwrap();
        assert!(seats.enter("dv1", Share::Each(2), 2).is_some());
        assert_eq!(seats.enter("dv1", Share::Each(2), 3), None);
        assert!(seats.enter("dv2", Share::Each(2), 4).is_some());
        seats.leave(first);
        assert!(seats.enter("dv1", Share::Each(2), 5).is_some());
    }

    #[test]
    fn a_crowd_leaves_room_for_the_others() {
        let mut seats = seats();
        let crowd: Vec<_> = (0..3).map(|n| seats.enter("cl1", Share::Crowd(3), n).unwrap()).collect();
        assert_eq!(seats.enter("cl2", Share::Crowd(3), 4), None);
        assert!(seats.enter("dv1", Share::Each(1), 5).is_some());
        assert!(seats.enter("svc-ota", Share::Whole, 6).is_some());
        seats.leave(crowd[0]);
        seats.leave(crowd[0]);
        assert!(seats.enter("cl2", Share::Crowd(3), 7).is_some());
        assert_eq!(seats.enter("cl2", Share::Crowd(3), 8), None);
    }

    #[test]
    fn a_closed_house_stops_everyone_and_lets_nobody_in() {
        let mut seats = seats();
        let guest = seats.enter("a", Share::Whole, 1).unwrap();
        assert_eq!(seats.stop_all(), [1]);
        assert_eq!(seats.take(guest, "a"), Taken::Stopped);
        assert_eq!(seats.enter("b", Share::Whole, 2), None);
    }

    proptest! {
        #[test]
        fn no_order_of_events_leaves_anything_behind_or_seats_two(
            events in proptest::collection::vec((0u8..4, 0usize..6, 0u8..3), 0..200)
        ) {
            let mut seats = Seats::new(64);
            let mut live: Vec<(ConnectionId, String)> = Vec::new();
            for (kind, which, name) in events {
                let name = format!("dv{name}");
                match kind {
                    0 => live.extend(seats.enter(&name, Share::Whole, 0u32).map(|id| (id, name.clone()))),
                    1 if !live.is_empty() => {
                        let (id, name) = &live[which % live.len()];
                        seats.take(*id, name);
                    }
                    2 if !live.is_empty() => {
                        let (id, _) = live.swap_remove(which % live.len());
                        seats.leave(id);
                    }
                    _ => { seats.stop(&name); }
                }
                prop_assert!(seats.clients().count() <= 3);
                prop_assert_eq!(seats.seats.len(), live.len());
            }
            for (id, _) in live { seats.leave(id); }
            prop_assert!(seats.crowd == 0 && seats.seats.is_empty() && seats.identities.is_empty() && seats.clients.is_empty());
        }
    }
}
