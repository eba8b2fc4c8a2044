//! Debugging the application from afar: what a session's calls do to it.
//!
//! The agent alone touches the application, through [`Probe`](crate::ports::Probe), and only within its memory. A session is never in the
//! way of an update or a restart, and leaves nothing behind but what it wrote.

mod agent;
mod answer;
mod breakpoints;
mod step;

pub use agent::{Access, Agent, STEP_LOOK_MS, Scene};
pub use answer::REGIONS_MAX;
pub use breakpoints::{BREAKPOINT, STEP_TARGETS_MAX};
pub use step::EXCLUSIVE_MAX;
