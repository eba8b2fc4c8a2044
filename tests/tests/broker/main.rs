//! svc-broker over its sockets: the rig is `scenarios::broker`.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod control;
mod differential;
mod fuzz;
mod identity;
mod life;
mod limits;
mod messages;
mod mosquitto;
mod published;
