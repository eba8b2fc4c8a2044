//! svc-registry over its sockets, against real Postgres, Redis and broker. Boards are played by the test, so that they
//! can lie.

mod batch;
mod broker;
mod claims;
mod debugging;
mod devices;
mod enroll;
mod hello;
mod keysets;
mod limits;
mod lists;
mod once;
mod sign_in;
mod watch;

use scenarios::{board, fleet};
