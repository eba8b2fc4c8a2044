//! svc-registry over its sockets, against real Postgres, Redis and broker. Boards are played by the test, so that they
//! can lie.

mod batch;
mod broker;
mod claims;
mod devices;
mod enroll;
mod hello;
mod keysets;
mod limits;
mod once;
mod sign_in;

use scenarios::{board, fleet};
