//! A debug session's calls on an application that is real as far as its instructions go.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod breakpoints;
mod calls;
mod chain;
mod fault;
mod fuzz;
mod garbage;
mod hardware;
mod limits;
mod mutations;
mod restart;
mod sim;
mod step;
mod step_random;
mod watch;
