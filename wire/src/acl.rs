//! [`crate::rule::TABLE`] as the rule files of other brokers: mosquitto 2.0 and EMQX 5.
//!
//! Holds: deny is the default; a line allows what a row of the table allows and names the client by its certificate,
//! or, to enrol, by its client id. Where a broker's patterns cannot say what [`crate::rule::verdict`] says, the file
//! allows a text that is no topic of this protocol, never another client's topic (docs/brokers.md lists both).

pub mod emqx;
pub mod mosquitto;

use crate::rule::Row;
use crate::topic::{ChannelKind, Direction, ROOT};
use alloc::format;
use alloc::string::String;

/// A row's topics of one direction, with `id` in place of the id and any relay.
fn topic(row: &Row, direction: Direction, id: &str) -> String {
    let relay = if row.channel == ChannelKind::Debug { "/+" } else { "" };
    format!("{ROOT}{id}/{}/{}{relay}", direction.name(), row.channel.name())
}
