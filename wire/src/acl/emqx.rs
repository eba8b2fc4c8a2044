//! EMQX 5: `acl.conf`, rules as Erlang terms, the first that matches decides.
//!
//! `${username}` is the certificate's common name on the device and service listeners and its digest on the enrolment
//! listener, so that a birth certificate is no device there (docs/brokers.md has the listeners). EMQX rules on a
//! shared subscription by its filter without `$share/{group}/`.

use crate::rule::{End, TABLE};
use crate::service::Service;
use crate::topic::Direction;
use alloc::format;
use alloc::string::String;

const PUBLISH: &str = "{publish, [{qos, [0, 1]}, {retain, false}]}";
/// `\z`, not `$`, which a line feed may follow.
const DEVICE: &str = r#"{username, {re, "^dv[0-9a-f]{32}\\z"}}"#;
const CLAIMANT: &str = r#"{clientid, {re, "^[0-9a-f]{32}\\z"}}"#;

/// The whole file, ending with a rule that denies the rest.
pub fn acl() -> String {
    let up = |end| {
        let id = if end == End::Device { "${username}" } else { "${clientid}" };
        topics(TABLE.iter().filter(|row| row.end == end).map(|row| super::topic(row, Direction::Up, id)))
    };
    let mut text = String::from("%% Holdfast, EMQX 5. The first rule that matches decides.\n\n%% Devices.\n");
    text += &rule(DEVICE, PUBLISH, &up(End::Device));
    // Ruled by the filter, not by the message: `dn/#` is a filter of its own. Only services write below `dn`.
    text += &rule(DEVICE, "subscribe", &topics(["hf/1/${username}/dn/#".into()]));
    text += "\n%% Services.\n";
    for service in Service::ALL {
        let who = format!("{{username, \"{}\"}}", service.common_name());
        let read = TABLE.iter().filter(|row| row.up.contains(&service));
        let write = TABLE.iter().filter(|row| row.down.contains(&service));
        text += &rule(&who, "subscribe", &topics(read.map(|row| super::topic(row, Direction::Up, "+"))));
        text += &rule(&who, PUBLISH, &topics(write.map(|row| super::topic(row, Direction::Down, "+"))));
    }
    text += "\n%% Enrolment.\n";
    text += &rule(CLAIMANT, PUBLISH, &up(End::Claimant));
    let down = TABLE.iter().filter(|row| row.end == End::Claimant);
    text += &rule(
        CLAIMANT,
        "subscribe",
        &topics(down.map(|row| super::topic(row, Direction::Down, "${clientid}"))),
    );
    text + "\n{deny, all}.\n"
}

fn rule(who: &str, action: &str, topics: &str) -> String {
    format!("{{allow, {who}, {action},\n    [{topics}]}}.\n")
}

fn topics(topics: impl IntoIterator<Item = String>) -> String {
    topics.into_iter().enumerate().fold(String::new(), |text, (at, topic)| {
        text + if at == 0 { "\"" } else { ",\n     \"" } + &topic + "\""
    })
}
