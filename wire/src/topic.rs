//! Topics: `hf/1/{id}/{up|dn}/{channel}`, and nothing else.
//!
//! A [`Topic`] is a concrete name, never a filter: wildcards, `$` names, other depths and unknown channels do not
//! parse. Who may use which is in [`crate::rule`].

use core::fmt;
use core::str::FromStr;

use crate::id::{ClientNonce, DeviceId, RelayId};
use crate::limits::TOPIC_BYTES_MAX;

/// What every topic of this protocol version starts with.
pub const ROOT: &str = "hf/1/";

/// Whose topic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicId {
    /// A device's, on every channel but `enroll`.
    Device(DeviceId),
    /// One enrolment's, named by its client id; on `enroll` only.
    Enroll(ClientNonce),
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the device.
    Up,
    /// To the device.
    Down,
}

impl Direction {
    /// Its level in a topic: `up` or `dn`.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "dn",
        }
    }
}

/// What a message is about. The list is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// All the device is and runs; signed time.
    Hello,
    /// Directives, progress and results.
    Update,
    /// Chunks of layers.
    Layer,
    /// Log batches and their acknowledgement.
    Log,
    /// Crash reports and dumps.
    Crash,
    /// Encrypted frames of a debug session, to the relay that holds it.
    Debug(RelayId),
    /// Values for the application.
    Config,
    /// The application's own messages.
    Telemetry,
    /// CSR and certificate, on the enrolment listener.
    Enroll,
}

/// A channel without its argument: what the authorisation table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the variant of Channel of the same name")]
pub enum ChannelKind {
    Hello,
    Update,
    Layer,
    Log,
    Crash,
    Debug,
    Config,
    Telemetry,
    Enroll,
}

impl ChannelKind {
    /// Every channel, in a fixed order.
    pub const ALL: [ChannelKind; 9] = [
        ChannelKind::Hello,
        ChannelKind::Update,
        ChannelKind::Layer,
        ChannelKind::Log,
        ChannelKind::Crash,
        ChannelKind::Debug,
        ChannelKind::Config,
        ChannelKind::Telemetry,
        ChannelKind::Enroll,
    ];

    /// Its level in a topic.
    pub const fn name(self) -> &'static str {
        match self {
            ChannelKind::Hello => "hello",
            ChannelKind::Update => "update",
            ChannelKind::Layer => "layer",
            ChannelKind::Log => "log",
            ChannelKind::Crash => "crash",
            ChannelKind::Debug => "debug",
            ChannelKind::Config => "config",
            ChannelKind::Telemetry => "telemetry",
            ChannelKind::Enroll => "enroll",
        }
    }

    /// The channel of this name.
    pub fn from_name(name: &str) -> Option<ChannelKind> {
        ChannelKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Channel {
    /// The channel without its argument.
    pub const fn kind(self) -> ChannelKind {
        match self {
            Channel::Hello => ChannelKind::Hello,
            Channel::Update => ChannelKind::Update,
            Channel::Layer => ChannelKind::Layer,
            Channel::Log => ChannelKind::Log,
            Channel::Crash => ChannelKind::Crash,
            Channel::Debug(_) => ChannelKind::Debug,
            Channel::Config => ChannelKind::Config,
            Channel::Telemetry => ChannelKind::Telemetry,
            Channel::Enroll => ChannelKind::Enroll,
        }
    }

    /// The channel of a kind and the level after it, if that kind has one.
    fn from_parts(kind: ChannelKind, argument: Option<&str>) -> Option<Channel> {
        match (kind, argument) {
            (ChannelKind::Debug, Some(relay)) => relay.parse().ok().map(Channel::Debug),
            (ChannelKind::Debug, None) | (_, Some(_)) => None,
            (ChannelKind::Hello, None) => Some(Channel::Hello),
            (ChannelKind::Update, None) => Some(Channel::Update),
            (ChannelKind::Layer, None) => Some(Channel::Layer),
            (ChannelKind::Log, None) => Some(Channel::Log),
            (ChannelKind::Crash, None) => Some(Channel::Crash),
            (ChannelKind::Config, None) => Some(Channel::Config),
            (ChannelKind::Telemetry, None) => Some(Channel::Telemetry),
            (ChannelKind::Enroll, None) => Some(Channel::Enroll),
        }
    }
}

/// One concrete topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// Whose.
    pub id: TopicId,
    /// Which way.
    pub direction: Direction,
    /// About what.
    pub channel: Channel,
}

/// The text is not a topic of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Longer than any topic is.
    #[error("topic is longer than {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    /// Not `hf/1/{id}/{up|dn}/{channel}`.
    #[error("topic is not hf/1/{{id}}/{{up|dn}}/{{channel}}")]
    Shape,
    /// Neither a device id nor, for `enroll`, a client id of 32 hex digits.
    #[error("topic names neither a device nor an enrolment")]
    Id,
    /// The channel list is closed.
    #[error("topic names no known channel")]
    Channel,
}

impl Topic {
    /// A device's topic.
    pub const fn device(id: DeviceId, direction: Direction, channel: Channel) -> Topic {
        Topic { id: TopicId::Device(id), direction, channel }
    }

    /// A topic the device publishes to.
    pub const fn up(id: DeviceId, channel: Channel) -> Topic {
        Topic::device(id, Direction::Up, channel)
    }

    /// A topic the device listens to.
    pub const fn down(id: DeviceId, channel: Channel) -> Topic {
        Topic::device(id, Direction::Down, channel)
    }

    /// The topic of one enrolment.
    pub const fn enroll(client: ClientNonce, direction: Direction) -> Topic {
        Topic { id: TopicId::Enroll(client), direction, channel: Channel::Enroll }
    }

    /// Parses a concrete topic name.
    pub fn parse(text: &str) -> Result<Topic, TopicError> {
        if text.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        let mut levels = text.strip_prefix(ROOT).ok_or(TopicError::Shape)?.split('/');
        let (Some(id), Some(way), Some(channel)) = (levels.next(), levels.next(), levels.next()) else {
            return Err(TopicError::Shape);
        };
        let argument = levels.next();
        if levels.next().is_some() {
            return Err(TopicError::Shape);
        }
        let direction = match way {
            "up" => Direction::Up,
            "dn" => Direction::Down,
            _ => return Err(TopicError::Shape),
        };
        let kind = ChannelKind::from_name(channel).ok_or(TopicError::Channel)?;
        let channel = Channel::from_parts(kind, argument).ok_or(TopicError::Channel)?;
        let id = match kind {
            ChannelKind::Enroll => id.parse().map(TopicId::Enroll),
            _ => id.parse().map(TopicId::Device),
        };
        Ok(Topic { id: id.map_err(|_| TopicError::Id)?, direction, channel })
    }

    /// Its text, without an allocation.
    pub fn text(&self) -> heapless::String<TOPIC_BYTES_MAX> {
        let mut text = heapless::String::new();
        // Cannot fail: TOPIC_BYTES_MAX is the length of the longest topic.
        let _ = fmt::write(&mut text, format_args!("{self}"));
        text
    }

    /// The device whose topic it is; none for an enrolment's.
    pub const fn device_id(&self) -> Option<DeviceId> {
        match self.id {
            TopicId::Device(id) => Some(id),
            TopicId::Enroll(_) => None,
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Topic, TopicError> {
        Topic::parse(text)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicId::Device(id) => id.fmt(f),
            TopicId::Enroll(id) => id.fmt(f),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())?;
        match self {
            Channel::Debug(relay) => write!(f, "/{relay}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}{}/{}/{}", self.id, self.direction.name(), self.channel)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString;

    const DEVICE: &str = "dvabababababababababababababababab";

    #[test]
    fn every_topic_parses_to_what_prints_it() {
        let id = DeviceId::new([0xab; 16]);
        let relay = RelayId::new([7; 16]);
        for kind in ChannelKind::ALL {
            for direction in [Direction::Up, Direction::Down] {
                let topic = match kind {
                    ChannelKind::Enroll => Topic::enroll(ClientNonce::new([9; 16]), direction),
                    ChannelKind::Debug => Topic::device(id, direction, Channel::Debug(relay)),
                    _ => Topic::device(id, direction, Channel::from_parts(kind, None).expect("plain")),
                };
                assert_eq!(Topic::parse(&topic.to_string()), Ok(topic));
                assert_eq!(topic.text().as_str(), topic.to_string());
            }
        }
    }

    #[test]
    fn the_longest_topic_has_exactly_the_limit() {
        let longest = Topic::up(DeviceId::new([0; 16]), Channel::Debug(RelayId::new([0; 16])));
        assert_eq!(longest.to_string().len(), TOPIC_BYTES_MAX);
        assert_eq!(Topic::parse(&format!("{longest}0")), Err(TopicError::TooLong));
    }

    #[test]
    fn what_is_not_exactly_a_topic_is_refused() {
        for (text, error) in [
            ("".to_string(), TopicError::Shape),
            (format!("hf/2/{DEVICE}/up/hello"), TopicError::Shape),
            (format!("/hf/1/{DEVICE}/up/hello"), TopicError::Shape),
            (format!("hf/1/{DEVICE}/up"), TopicError::Shape),
            (format!("hf/1/{DEVICE}/up/"), TopicError::Channel),
            (format!("hf/1/{DEVICE}/UP/hello"), TopicError::Shape),
            (format!("hf/1/{DEVICE}/up/hello/"), TopicError::Channel),
            (format!("hf/1/{DEVICE}/up/hello/x/y"), TopicError::Shape),
            (format!("hf/1/{DEVICE}/up/debug"), TopicError::Channel),
            (format!("hf/1/{DEVICE}/up/debug/short"), TopicError::Channel),
            (format!("hf/1/{DEVICE}/up/#"), TopicError::Channel),
            (format!("hf/1/{DEVICE}/up/enroll"), TopicError::Id),
            ("hf/1/+/up/hello".to_string(), TopicError::Id),
            ("hf/1/00000000000000000000000000000000/up/hello".to_string(), TopicError::Id),
        ] {
            assert_eq!(Topic::parse(&text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_only_to_the_topic_that_prints_it(
            text in "hf/1/(dv)?[0-9a-f]{32}/(up|dn)/(hello|debug|enroll|x)(/[0-9a-f]{32})?|\\PC*"
        ) {
            if let Ok(topic) = Topic::parse(&text) {
                prop_assert_eq!(topic.to_string(), text);
            }
        }
    }
}
