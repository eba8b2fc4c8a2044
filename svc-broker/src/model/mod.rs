//! What the broker decides, apart from how it reads and writes: who sits where, which share member gets a message,
//! what a CONNECT is answered, how large anything may grow. No async, no IO, no clock; sees only `wire`.

pub(crate) mod connect;
pub(crate) mod filter;
pub(crate) mod limits;
pub(crate) mod pace;
pub(crate) mod peer;
pub(crate) mod queue;
pub(crate) mod seats;
pub(crate) mod share;
pub(crate) mod window;
