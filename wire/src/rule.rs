//! The one authoriser: (identity, action, topic) -> verdict, pure and driven by [`TABLE`].
//!
//! Every way in asks here: MQTT 3.1.1 and 5, wills, retained messages, shared subscriptions. What the table does not
//! name is denied. A device never gets a yes for a topic that names another id; nobody publishes a retained message;
//! no filter reaches across the two directions.

use crate::id::{ClientNonce, DeviceId, RelayId};
use crate::limits::FILTER_BYTES_MAX;
use crate::service::Service;
use crate::topic::{ChannelKind, Direction, ROOT, Topic, TopicId};

/// Who asks, as their certificate and listener say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A device, on the device listener.
    Device(DeviceId),
    /// Whoever enrols under this client id, on the enrolment listener.
    Claimant(ClientNonce),
    /// A service, on the service listener.
    Service(Service),
}

/// What they want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish a message that is not retained.
    Publish,
    /// Publish with the retain flag, in a will or not.
    Retain,
    /// Leave a will that is not retained.
    Will,
    /// Subscribe to a filter.
    Subscribe,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// Not a topic or filter of this protocol: wildcard, `$`, NUL, non-ASCII, other depth, unknown channel.
    #[error("not a topic or filter of this protocol")]
    Malformed,
    /// Longer than any topic or filter is.
    #[error("topic is too long")]
    TooLong,
    /// It names somebody else.
    #[error("topic belongs to another identity")]
    NotOwn,
    /// The other end's direction.
    #[error("direction belongs to the other end")]
    Direction,
    /// The channel is not this identity's.
    #[error("channel is not open to this identity")]
    Channel,
    /// Nothing is retained here.
    #[error("retained messages are not allowed")]
    Retained,
    /// Services leave no wills.
    #[error("wills are not allowed for this identity")]
    Will,
    /// Not a group of this service's own, named after the channel.
    #[error("shared group is not this identity's")]
    Group,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No, and why; for logs, never for the one who asked.
    Deny(Reason),
}

impl Verdict {
    /// Whether it is a yes.
    pub const fn allowed(self) -> bool {
        matches!(self, Verdict::Allow)
    }
}

/// Who is at the far end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A device, by its id.
    Device,
    /// One enrolment, by its client id.
    Claimant,
}

/// One channel: whose it is, and which services are at its other end.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The channel.
    pub channel: ChannelKind,
    /// Who publishes `up` and subscribes `dn`.
    pub end: End,
    /// Who may read `up`.
    pub up: &'static [Service],
    /// Who may write `dn`; empty: there is no `dn`.
    pub down: &'static [Service],
}

/// Who may use what (DESIGN.md, Topics). Broker configurations of other brokers are generated from it.
pub const TABLE: [Row; 9] = {
    use ChannelKind::{Config, Crash, Debug, Enroll, Hello, Layer, Log, Telemetry, Update};
    use Service::{Logs, Ota, Registry, Relay};
    const fn device(channel: ChannelKind, up: &'static [Service], down: &'static [Service]) -> Row {
        Row { channel, end: End::Device, up, down }
    }
    [
        device(Hello, &[Registry, Ota], &[Registry, Ota]),
        device(Update, &[Ota], &[Ota]),
        device(Layer, &[Ota], &[Ota]),
        device(Log, &[Logs], &[Logs]),
        device(Crash, &[Logs], &[Logs]),
        device(Debug, &[Relay], &[Relay]),
        device(Config, &[Registry], &[Registry]),
        device(Telemetry, &[Registry, Logs], &[]),
        Row { channel: Enroll, end: End::Claimant, up: &[Registry], down: &[Registry] },
    ]
};

/// May `identity` do `action` on this topic (or, to subscribe, this filter)?
pub fn verdict(identity: Identity, action: Action, topic_or_filter: &str) -> Verdict {
    let answer = match action {
        Action::Retain => Err(Reason::Retained),
        Action::Publish => may_publish(identity, topic_or_filter),
        Action::Will if matches!(identity, Identity::Service(_)) => Err(Reason::Will),
        Action::Will => may_publish(identity, topic_or_filter),
        Action::Subscribe => may_subscribe(identity, topic_or_filter),
    };
    match answer {
        Ok(()) => Verdict::Allow,
        Err(reason) => Verdict::Deny(reason),
    }
}

fn may_publish(identity: Identity, text: &str) -> Result<(), Reason> {
    use crate::topic::TopicError;
    let topic = Topic::parse(text).map_err(|error| match error {
        TopicError::TooLong => Reason::TooLong,
        _ => Reason::Malformed,
    })?;
    may_use(identity, topic.direction, Direction::Up, topic.id.into(), topic.channel.kind())
}

fn may_subscribe(identity: Identity, text: &str) -> Result<(), Reason> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(Reason::TooLong);
    }
    let (group, plain) = split_share(text)?;
    let filter = Filter::parse(plain).ok_or(Reason::Malformed)?;
    let Channels::One(channel) = filter.channels else {
        // `dn/+` and `dn/#` reach only what is already one's own.
        return match (identity, group) {
            (Identity::Service(_), _) => Err(Reason::Channel),
            (_, Some(_)) => Err(Reason::Group),
            (_, None) => may_hear(identity, filter.direction, filter.id),
        };
    };
    match (identity, group) {
        (_, None) => {}
        (Identity::Service(service), Some(group)) if is_group(group, service, channel) => {}
        (_, Some(_)) => return Err(Reason::Group),
    }
    may_use(identity, filter.direction, Direction::Down, filter.id, channel)
}

/// The table's answer. `own` is the direction a device uses for this action; services use the other.
fn may_use(
    identity: Identity,
    asked: Direction,
    own: Direction,
    id: Who,
    channel: ChannelKind,
) -> Result<(), Reason> {
    let row = TABLE.iter().find(|row| row.channel == channel).ok_or(Reason::Channel)?;
    let (is_own, end) = match identity {
        Identity::Service(service) => {
            let services = match asked {
                Direction::Up => row.up,
                Direction::Down => row.down,
            };
            return match (asked == own, services.contains(&service), id.is(row.end)) {
                (true, ..) => Err(Reason::Direction),
                (_, false, _) => Err(Reason::Channel),
                (.., false) => Err(Reason::Malformed),
                _ => Ok(()),
            };
        }
        Identity::Device(device) => (id == Who::Device(device), End::Device),
        Identity::Claimant(client) => (id == Who::Claimant(client), End::Claimant),
    };
    if !is_own {
        return Err(Reason::NotOwn);
    }
    if asked != own {
        return Err(Reason::Direction);
    }
    if row.end != end || (asked == Direction::Down && row.down.is_empty()) {
        return Err(Reason::Channel);
    }
    Ok(())
}

fn may_hear(identity: Identity, direction: Direction, id: Who) -> Result<(), Reason> {
    let is_own = match identity {
        Identity::Device(device) => id == Who::Device(device),
        // A claimant has one channel; it names it.
        Identity::Claimant(_) => return Err(Reason::Channel),
        Identity::Service(_) => return Err(Reason::Channel),
    };
    match (is_own, direction) {
        (false, _) => Err(Reason::NotOwn),
        (true, Direction::Up) => Err(Reason::Direction),
        (true, Direction::Down) => Ok(()),
    }
}

/// `$share/{group}/{filter}` in its parts; other `$` names are refused.
fn split_share(text: &str) -> Result<(Option<&str>, &str), Reason> {
    match text.strip_prefix("$share/") {
        Some(rest) => {
            rest.split_once('/').map(|(group, plain)| (Some(group), plain)).ok_or(Reason::Malformed)
        }
        None => Ok((None, text)),
    }
}

/// Whether the group is `{service}-{channel}`.
fn is_group(group: &str, service: Service, channel: ChannelKind) -> bool {
    group.split_once('-').is_some_and(|(who, what)| who == service.name() && what == channel.name())
}

/// The id level of a topic or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Device(DeviceId),
    Claimant(ClientNonce),
    Any,
}

impl Who {
    fn parse(level: &str) -> Option<Who> {
        if level == "+" {
            return Some(Who::Any);
        }
        level.parse().map(Who::Device).ok().or_else(|| level.parse().map(Who::Claimant).ok())
    }

    fn is(self, end: End) -> bool {
        matches!(
            (self, end),
            (Who::Any, _) | (Who::Device(_), End::Device) | (Who::Claimant(_), End::Claimant)
        )
    }
}

impl From<TopicId> for Who {
    fn from(id: TopicId) -> Who {
        match id {
            TopicId::Device(id) => Who::Device(id),
            TopicId::Enroll(id) => Who::Claimant(id),
        }
    }
}

/// The channel part of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channels {
    One(ChannelKind),
    /// `+` or `#`.
    All,
}

/// A plain subscription filter: `hf/1/{id|+}/{up|dn}/{channel|+|#}`, for debug with `/{relay|+}`.
#[derive(Clone, Copy, Debug)]
struct Filter {
    id: Who,
    direction: Direction,
    channels: Channels,
}

impl Filter {
    fn parse(text: &str) -> Option<Filter> {
        let mut levels = text.strip_prefix(ROOT)?.split('/');
        let id = Who::parse(levels.next()?)?;
        let direction = match levels.next()? {
            "up" => Direction::Up,
            "dn" => Direction::Down,
            _ => return None,
        };
        let channels = match levels.next()? {
            "+" | "#" => Channels::All,
            name => Channels::One(ChannelKind::from_name(name)?),
        };
        let argument = levels.next();
        let complete = match (channels, argument) {
            (Channels::One(ChannelKind::Debug), Some(relay)) => {
                relay == "+" || relay.parse::<RelayId>().is_ok()
            }
            (Channels::One(ChannelKind::Debug), None) => false,
            (_, argument) => argument.is_none(),
        };
        (complete && levels.next().is_none()).then_some(Filter { id, direction, channels })
    }
}
