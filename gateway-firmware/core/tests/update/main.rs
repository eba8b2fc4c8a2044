//! The storage and update half of the core, as a board sees it: over a simulated flash whose power can be cut at every
//! operation, with a director that behaves like svc-ota.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]
#![expect(clippy::print_stdout, reason = "cut points, wear and found faults are printed as evidence")]

mod bad_input;
mod boot;
mod commission;
mod crash;
mod crash_memory;
mod debug;
mod exchange;
mod exchange_cut;
mod first;
mod flash_fault;
mod flow;
mod journal;
mod log_share;
mod mutations;
mod power_cut;
mod restart;
mod roots;
mod sectors;
mod sim;
mod wear;
