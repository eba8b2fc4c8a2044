//! gRPC both ways: what services ask of this broker, what it asks svc-registry. The only place that sees tonic.

mod authority;
mod control;

pub(crate) use authority::{Authority, AuthorityError};
pub(crate) use control::Control;
