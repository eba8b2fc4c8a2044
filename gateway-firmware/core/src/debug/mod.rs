//! Debugging the application from afar: what carries a session, what keeps it secret, and what its calls do to the application.
//!
//! Always holds: nothing is done to the application before a frame of somebody verified whose key is in the running version's
//! manifest; a relay can delay, drop or end a session, and nothing else; the agent alone touches the application, through
//! [`Probe`](crate::ports::Probe), and only within its memory. A session is never in the way of an update or a restart; when it is
//! over, however it ended, it leaves nothing behind but what it wrote.

mod agent;
mod answer;
mod breakpoints;
mod bucket;
mod pipe;
mod session;
mod step;

pub use agent::{Access, Agent, STEP_LOOK_MS, Scene};
pub use answer::REGIONS_MAX;
pub use breakpoints::{BREAKPOINT, STEP_TARGETS_MAX};
pub use bucket::{HANDSHAKE_EVERY_MS, HANDSHAKES_MAX};
pub use pipe::{FRAMES_MAX, Frames, RESEND_MS, SILENCE_MS};
pub use session::{Memory, Said, Stub};
pub use step::EXCLUSIVE_MAX;
