//! Use cases: admit a connection, end those of an identity, tell who is here. Knows no packet, topic or RPC message.

mod connections;

pub(crate) use connections::{Connections, Guest, Why};
