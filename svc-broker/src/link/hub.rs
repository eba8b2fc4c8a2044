//! The way of a message from one connection to another: `dn` through a map of who is connected, `up` through the
//! services' subscriptions.
//!
//! Holds: memory follows who is connected now and what services subscribe to now, never who was (docs/decisions/
//! 0010); a message goes to a mailbox or is counted as dropped; of a shared group exactly one member gets it, the
//! device's own as long as that one keeps up. Authorises nothing: what comes here was allowed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use wire::topic::{ChannelKind, Direction, TopicId};

use super::mailbox::{Mailbox, Message, Offer};
use super::metrics::{Loss, Metrics};
use crate::model::filter::Filter;
use crate::model::share;

#[derive(Debug)]
pub(crate) struct Hub {
    down: RwLock<HashMap<TopicId, Arc<Mailbox>>>,
    up: RwLock<Arc<Routes>>,
    metrics: Metrics,
}

/// Services' subscriptions, replaced whole at each change: few, and read for every message.
type Routes = HashMap<ChannelKind, Vec<Group>>;

/// One shared group of one filter, or one plain subscription.
#[derive(Debug, Clone)]
struct Group {
    filter: Filter,
    seeds: Vec<u64>,
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    mailbox: Arc<Mailbox>,
    qos: u8,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// Nobody there to take it.
    Nobody,
    /// There was, but full.
    Dropped,
}

impl Hub {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { down: RwLock::default(), up: RwLock::default(), metrics }
    }

    /// From now on `dn` messages of this id go to this mailbox.
    pub(crate) fn attach(&self, id: TopicId, mailbox: &Arc<Mailbox>) {
        self.down.write().unwrap_or_else(PoisonError::into_inner).insert(id, mailbox.clone());
    }

    pub(crate) fn detach(&self, id: TopicId, mailbox: &Arc<Mailbox>) {
        let mut down = self.down.write().unwrap_or_else(PoisonError::into_inner);
        if down.get(&id).is_some_and(|held| Arc::ptr_eq(held, mailbox)) {
            down.remove(&id);
        }
    }

    /// A service's subscription; `seed` names the member in shared groups. Subscribing again changes the QoS.
    pub(crate) fn subscribe(&self, filter: &Filter, seed: u64, mailbox: &Arc<Mailbox>, qos: u8) {
        self.change(|routes| {
            for kind in kinds(filter) {
                let groups = routes.entry(kind).or_default();
                let member = Member { mailbox: mailbox.clone(), qos };
                let shared = filter.group.is_some();
                let held = groups.iter_mut().find(|group| {
                    group.filter == *filter && (shared || group.members.iter().any(|held| held.is(mailbox)))
                });
                match held {
                    Some(group) => group.join(member, seed),
                    None => groups.push(Group {
                        filter: filter.clone(),
                        seeds: vec![seed],
                        members: vec![member],
                    }),
                }
            }
        });
    }

    pub(crate) fn unsubscribe(&self, filter: &Filter, mailbox: &Arc<Mailbox>) {
        self.leave(mailbox, |group| group.filter == *filter);
    }

    /// Forgets a service's connection.
    pub(crate) fn forget(&self, mailbox: &Arc<Mailbox>) {
        self.leave(mailbox, |_| true);
    }

    fn leave(&self, mailbox: &Arc<Mailbox>, of: impl Fn(&Group) -> bool) {
        self.change(|routes| {
            for groups in routes.values_mut() {
                groups.iter_mut().filter(|group| of(group)).for_each(|group| group.leave(mailbox));
                groups.retain(|group| !group.members.is_empty());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Routes)) {
        let mut routes = self.up.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut routes));
    }

    /// Says how much waits in all mailboxes, by direction.
    pub(crate) fn measure(&self) {
        let down: Vec<_> =
            self.down.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let routes = self.up.read().unwrap_or_else(PoisonError::into_inner).clone();
        let members =
            routes.values().flatten().flat_map(|group| &group.members).map(|member| &member.mailbox);
        // One mailbox may be in several groups.
        let up: HashMap<_, _> = members.map(|mailbox| (Arc::as_ptr(mailbox), mailbox)).collect();
        let sum =
            |(messages, bytes): (usize, usize), (more, size): (usize, usize)| (messages + more, bytes + size);
        let (messages, bytes) = down.iter().map(|mailbox| mailbox.waiting()).fold((0, 0), sum);
        self.metrics.waiting(Direction::Down, messages, bytes);
        let (messages, bytes) = up.values().map(|mailbox| mailbox.waiting()).fold((0, 0), sum);
        self.metrics.waiting(Direction::Up, messages, bytes);
    }

    pub(crate) fn route(&self, message: &Message) -> Outcome {
        let outcome = match message.name.direction {
            Direction::Down => self.route_down(message),
            Direction::Up => self.route_up(message),
        };
        if outcome == Outcome::Delivered {
            self.metrics.delivered(message);
        }
        outcome
    }

    fn route_down(&self, message: &Message) -> Outcome {
        let mailbox = self.down.read().unwrap_or_else(PoisonError::into_inner).get(&message.name.id).cloned();
        match mailbox.map(|mailbox| mailbox.deliver(message)) {
            Some(offer) => self.outcome(offer, message),
            None => self.drop(Loss::NotConnected, Outcome::Nobody, message),
        }
    }

    fn route_up(&self, message: &Message) -> Outcome {
        let routes = self.up.read().unwrap_or_else(PoisonError::into_inner).clone();
        let groups = routes.get(&message.name.channel.kind()).map_or(&[][..], Vec::as_slice);
        let mut outcome = None;
        for group in groups.iter().filter(|group| group.filter.matches(&message.name)) {
            let offered = group.offer(message);
            let this = self.outcome(offered, message);
            outcome = Some(if outcome == Some(Outcome::Delivered) { Outcome::Delivered } else { this });
        }
        outcome.unwrap_or_else(|| self.drop(Loss::NoSubscriber, Outcome::Nobody, message))
    }

    fn outcome(&self, offer: Offer, message: &Message) -> Outcome {
        match offer {
            Offer::Taken => Outcome::Delivered,
            Offer::NotSubscribed => self.drop(Loss::NotSubscribed, Outcome::Nobody, message),
            Offer::Full => self.drop(Loss::MailboxFull, Outcome::Dropped, message),
            Offer::TooLarge => self.drop(Loss::TooLarge, Outcome::Dropped, message),
        }
    }

    fn drop(&self, why: Loss, outcome: Outcome, message: &Message) -> Outcome {
        self.metrics.dropped(why);
        tracing::debug!(topic = %message.name, reason = why.name(), "message dropped");
        outcome
    }
}

impl Member {
    fn is(&self, mailbox: &Arc<Mailbox>) -> bool {
        Arc::ptr_eq(&self.mailbox, mailbox)
    }
}

impl Group {
    fn join(&mut self, member: Member, seed: u64) {
        match self.members.iter_mut().find(|held| held.is(&member.mailbox)) {
            Some(held) => held.qos = member.qos,
            None => {
                self.seeds.push(seed);
                self.members.push(member);
            }
        }
    }

    fn leave(&mut self, mailbox: &Arc<Mailbox>) {
        if let Some(index) = self.members.iter().position(|held| held.is(mailbox)) {
            self.members.remove(index);
            self.seeds.remove(index);
        }
    }

    /// To the device's member; when it stalls or is full, to the next; to a stalled one only if all are.
    fn offer(&self, message: &Message) -> Offer {
        if let [member] = &self.members[..] {
            return member.mailbox.offer(message, member.qos);
        }
        let device = share::seed(device_bytes(&message.name.id));
        let now = Instant::now();
        let mut last = Offer::Full;
        for patience in [false, true] {
            let chosen = share::choose(device, &self.seeds, |index| {
                let member = &self.members[index];
                if !patience && member.mailbox.is_stalled(now) {
                    return false;
                }
                last = member.mailbox.offer(message, member.qos);
                last == Offer::Taken
            });
            if chosen.is_some() {
                break;
            }
        }
        last
    }
}

fn device_bytes(id: &TopicId) -> &[u8] {
    match id {
        TopicId::Device(id) => id.bytes(),
        TopicId::Enroll(id) => id.bytes(),
    }
}

/// The channels a filter reaches; a service's names one.
fn kinds(filter: &Filter) -> impl Iterator<Item = ChannelKind> + use<'_> {
    ChannelKind::ALL.into_iter().filter(|kind| filter.reaches(*kind))
}

#[cfg(test)]
mod tests {
    use super::super::input::Version;
    use super::*;
    use crate::model::limits::{DEVICE, Limits, SERVICE};
    use bytes::Bytes;
    use wire::{DeviceId, Topic};

    fn hub() -> Hub {
        Hub::new(Metrics::new())
    }

    fn device(n: u8) -> DeviceId {
        DeviceId::new([n; 16])
    }

    fn message(n: u8, way: &str) -> Message {
        let topic = format!("hf/1/{}/{way}", device(n));
        Message {
            name: Topic::parse(&topic).unwrap(),
            topic: topic.into(),
            payload: Bytes::from_static(b"x"),
            properties: Bytes::new(),
            qos: 0,
        }
    }

    fn service(limits: Limits) -> Arc<Mailbox> {
        Arc::new(Mailbox::new(Version::V5, limits, None, None))
    }

    fn taken(mailbox: &Mailbox) -> usize {
        let mut batch = super::super::mailbox::Batch::default();
        mailbox.take(&mut batch);
        let bytes: Vec<u8> = batch.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        bytes.windows(5).filter(|window| window == b"hf/1/").count()
    }

    fn shared() -> Filter {
        Filter::parse("$share/ota-hello/hf/1/+/up/hello").unwrap()
    }

    #[test]
    fn a_message_down_reaches_its_device_only() {
        let hub = hub();
        let (one, two) = (service(DEVICE), service(DEVICE));
        for (n, mailbox) in [(1, &one), (2, &two)] {
            mailbox.subscribe(&Filter::parse(&format!("hf/1/{}/dn/#", device(n))).unwrap(), 1);
            hub.attach(TopicId::Device(device(n)), mailbox);
        }
        assert_eq!(hub.route(&message(1, "dn/hello")), Outcome::Delivered);
        assert_eq!(hub.route(&message(3, "dn/hello")), Outcome::Nobody);
        assert_eq!((taken(&one), taken(&two)), (1, 0));
    }

    #[test]
    fn a_late_detach_leaves_the_successor_attached() {
        let hub = hub();
        let (old, new) = (service(DEVICE), service(DEVICE));
        let id = TopicId::Device(device(1));
        hub.attach(id, &old);
        hub.attach(id, &new);
        hub.detach(id, &old);
        assert_eq!(hub.down.read().unwrap().len(), 1);
        hub.detach(id, &new);
        assert_eq!(hub.down.read().unwrap().len(), 0, "nothing is kept of who was here");
    }

    #[test]
    fn one_member_of_a_group_gets_each_message_and_every_group_does() {
        let hub = hub();
        let members = [service(SERVICE), service(SERVICE), service(SERVICE)];
        let other = service(SERVICE);
        for (seed, mailbox) in members.iter().enumerate() {
            hub.subscribe(&shared(), seed as u64, mailbox, 1);
        }
        hub.subscribe(&Filter::parse("$share/registry-hello/hf/1/+/up/hello").unwrap(), 9, &other, 1);
        for n in 0..200 {
            assert_eq!(hub.route(&message(n, "up/hello")), Outcome::Delivered);
        }
        let counts = members.each_ref().map(|member| taken(member));
        assert_eq!(counts.iter().sum::<usize>(), 200);
        assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
        assert_eq!(taken(&other), 200);
    }

    #[test]
    fn the_same_group_name_with_another_filter_is_another_group() {
        let hub = hub();
        let (hello, update) = (service(SERVICE), service(SERVICE));
        hub.subscribe(&Filter::parse("$share/g/hf/1/+/up/hello").unwrap(), 1, &hello, 0);
        hub.subscribe(&Filter::parse("$share/g/hf/1/+/up/update").unwrap(), 2, &update, 0);
        hub.route(&message(1, "up/hello"));
        hub.route(&message(1, "up/update"));
        assert_eq!((taken(&hello), taken(&update)), (1, 1));
    }

    #[test]
    fn a_full_member_is_skipped_and_a_group_of_full_ones_drops() {
        let hub = hub();
        let stuck = service(Limits { mailbox_messages_max: 1, ..SERVICE });
        let healthy = service(SERVICE);
        hub.subscribe(&shared(), 1, &stuck, 0);
        hub.subscribe(&shared(), 2, &healthy, 0);
        for n in 0..100 {
            assert_eq!(hub.route(&message(n, "up/hello")), Outcome::Delivered);
        }
        assert_eq!((taken(&stuck), taken(&healthy)), (1, 99));
        hub.forget(&healthy);
        hub.route(&message(1, "up/hello"));
        assert_eq!(hub.route(&message(2, "up/hello")), Outcome::Dropped);
    }

    #[test]
    fn a_leaver_is_forgotten_with_all_its_subscriptions() {
        let hub = hub();
        let (one, two) = (service(SERVICE), service(SERVICE));
        hub.subscribe(&shared(), 1, &one, 0);
        hub.subscribe(&Filter::parse("hf/1/+/up/update").unwrap(), 1, &one, 0);
        hub.subscribe(&shared(), 2, &two, 0);
        hub.forget(&one);
        assert_eq!(hub.route(&message(1, "up/update")), Outcome::Nobody);
        assert_eq!(hub.route(&message(1, "up/hello")), Outcome::Delivered);
        hub.unsubscribe(&shared(), &two);
        assert_eq!(hub.route(&message(1, "up/hello")), Outcome::Nobody);
        assert!(hub.up.read().unwrap().values().all(Vec::is_empty));
    }

    #[test]
    fn plain_subscriptions_each_get_the_message() {
        let hub = hub();
        let (one, two) = (service(SERVICE), service(SERVICE));
        let plain = Filter::parse("hf/1/+/up/log").unwrap();
        for mailbox in [&one, &two, &one] {
            hub.subscribe(&plain, 1, mailbox, 0);
        }
        hub.route(&message(1, "up/log"));
        assert_eq!((taken(&one), taken(&two)), (1, 1));
    }
}
