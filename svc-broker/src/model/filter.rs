//! Subscription filters that `wire::rule` has allowed, taken apart so that a message is matched without strings.
//!
//! Decides nothing about rights: a filter is parsed only after the rule said yes, and anything else does not parse.

use wire::topic::{Channel, ChannelKind, Direction, ROOT, Topic, TopicId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The name in `$share/{group}/…`.
    pub(crate) group: Option<String>,
    /// `None`: `+`.
    id: Option<TopicId>,
    pub(crate) direction: Direction,
    channels: Channels,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channels {
    One(Channel),
    /// `debug/+`.
    Debug,
    /// `+`: every channel of one level, so all but debug.
    Level,
    /// `#`.
    All,
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (group, plain) = match text.strip_prefix("$share/") {
            Some(rest) => rest.split_once('/').map(|(group, plain)| (Some(group.to_owned()), plain))?,
            None => (None, text),
        };
        let mut levels = plain.strip_prefix(ROOT)?.split('/');
        let id = match levels.next()? {
            "+" => None,
            id => Some(parse_id(id)?),
        };
        let direction = match levels.next()? {
            "up" => Direction::Up,
            "dn" => Direction::Down,
            _ => return None,
        };
        let channels = Channels::parse(levels.next()?, levels.next())?;
        levels.next().is_none().then_some(Self { group, id, direction, channels })
    }

    /// Whether it can match a topic of this channel at all.
    pub(crate) fn reaches(&self, kind: ChannelKind) -> bool {
        match self.channels {
            Channels::One(channel) => channel.kind() == kind,
            Channels::Debug => kind == ChannelKind::Debug,
            Channels::Level => kind != ChannelKind::Debug,
            Channels::All => true,
        }
    }

    pub(crate) fn matches(&self, topic: &Topic) -> bool {
        self.direction == topic.direction
            && self.id.is_none_or(|id| id == topic.id)
            && match self.channels {
                Channels::One(channel) => channel == topic.channel,
                _ => self.reaches(topic.channel.kind()),
            }
    }
}

impl Channels {
    fn parse(name: &str, argument: Option<&str>) -> Option<Self> {
        match (name, argument) {
            ("#", None) => Some(Channels::All),
            ("+", None) => Some(Channels::Level),
            ("debug", Some("+")) => Some(Channels::Debug),
            ("debug", Some(relay)) => relay.parse().ok().map(|relay| Channels::One(Channel::Debug(relay))),
            ("hello", None) => Some(Channels::One(Channel::Hello)),
            ("update", None) => Some(Channels::One(Channel::Update)),
            ("layer", None) => Some(Channels::One(Channel::Layer)),
            ("log", None) => Some(Channels::One(Channel::Log)),
            ("crash", None) => Some(Channels::One(Channel::Crash)),
            ("config", None) => Some(Channels::One(Channel::Config)),
            ("telemetry", None) => Some(Channels::One(Channel::Telemetry)),
            ("enroll", None) => Some(Channels::One(Channel::Enroll)),
            _ => None,
        }
    }
}

fn parse_id(level: &str) -> Option<TopicId> {
    level.parse().map(TopicId::Device).ok().or_else(|| level.parse().map(TopicId::Enroll).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEVICE: &str = "dv00000000000000000000000000000001";
    const RELAY: &str = "0000000000000000000000000000000a";

    fn matches(filter: &str, topic: &str) -> bool {
        Filter::parse(filter).unwrap().matches(&Topic::parse(topic).unwrap())
    }

    #[test]
    fn a_filter_matches_what_mqtt_says_it_matches() {
        let (hello, debug) = (format!("hf/1/{DEVICE}/dn/hello"), format!("hf/1/{DEVICE}/dn/debug/{RELAY}"));
        assert!(matches(&format!("hf/1/{DEVICE}/dn/#"), &hello));
        assert!(matches(&format!("hf/1/{DEVICE}/dn/#"), &debug));
        assert!(matches(&format!("hf/1/{DEVICE}/dn/+"), &hello));
        assert!(!matches(&format!("hf/1/{DEVICE}/dn/+"), &debug), "+ is one level");
        assert!(matches(&format!("hf/1/{DEVICE}/dn/debug/+"), &debug));
        assert!(matches(&format!("hf/1/{DEVICE}/dn/debug/{RELAY}"), &debug));
        assert!(!matches(&format!("hf/1/{DEVICE}/dn/log"), &hello));
        assert!(!matches(&format!("hf/1/{DEVICE}/up/hello"), &hello));
        assert!(matches("$share/ota-hello/hf/1/+/up/hello", &format!("hf/1/{DEVICE}/up/hello")));
        assert!(!matches("hf/1/dv00000000000000000000000000000002/dn/#", &hello));
    }

    #[test]
    fn the_group_is_the_name_in_a_shared_filter() {
        assert_eq!(
            Filter::parse("$share/logs-log/hf/1/+/up/log").unwrap().group.as_deref(),
            Some("logs-log")
        );
        assert_eq!(Filter::parse("hf/1/+/up/log").unwrap().group, None);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_not_without_a_panic(text in "\\PC*|(\\$share/[a-z-]*/)?hf/1/(\\+|[0-9a-f]{32})/(up|dn)/[a-z#+/]*") {
            let _ = Filter::parse(&text);
        }
    }
}
