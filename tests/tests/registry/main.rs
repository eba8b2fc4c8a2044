//! svc-registry over its sockets, against real Postgres, Redis and broker. Boards are played by the test, so that they
//! can lie.

mod board;
mod broker;
mod claims;
mod devices;
mod enroll;
mod fleet;
mod hello;
mod keysets;
mod limits;
mod lists;
mod sign_in;
mod watch;
