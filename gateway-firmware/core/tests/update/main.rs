//! The storage and update half of the core, as a board sees it: over a simulated flash whose power can be cut at every
//! operation, with a director that behaves like svc-ota.

mod bad_input;
mod boot;
mod flow;
mod journal;
mod mutations;
mod power_cut;
mod sim;
mod wear;
