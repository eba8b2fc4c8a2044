//! MQTT: listeners, frames, connections, and the way of a message from one to another. The only place that sees topics.

mod certificate;
mod connection;
mod hub;
mod input;
mod listener;
mod mailbox;
mod metered;
mod metrics;
mod output;
mod reader;
mod watchdog;
mod writer;

pub(crate) use connection::Front;
pub(crate) use hub::Hub;
pub(crate) use listener::{Bound, Trust, TrustError, bind};
pub(crate) use metrics::Metrics;
pub(crate) use watchdog::watch;
