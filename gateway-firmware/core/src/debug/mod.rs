//! Debugging the application from afar: what carries a session, what keeps it secret, and what its calls do to the application.
//!
//! Always holds: nothing is done to the application before a frame of somebody verified whose key is in the running version's
//! manifest; who watches changes nothing; a relay can delay, drop or end a session, and nothing else; the agent alone touches the application, through
//! [`Probe`](crate::ports::Probe), and only within its memory. A session is never in the way of an update or a restart; when it is
//! over, however it ended, it leaves nothing behind but what it wrote.

mod agent;
mod answer;
mod breakpoints;
mod bucket;
mod memory;
mod own;
mod pipe;
mod session;
mod step;

pub use agent::{
    Access, Agent, DEEDS_MAX, Deed, STEP_LOOK_MS, Scene, WATCH_READ_BYTES_MAX, WATCH_STACK_BYTES, Watcher,
};
pub use answer::REGIONS_MAX;
pub use breakpoints::{BREAKPOINT, STEP_TARGETS_MAX};
pub use bucket::{HANDSHAKE_EVERY_MS, HANDSHAKES_MAX};
pub use memory::{FRAMES_MAX, Frames, Memory, WATCH_FRAME_BYTES_MAX, WATCH_FRAMES_MAX, WATCHERS_MAX};
pub use pipe::{RESEND_MS, SILENCE_MS};
pub use session::{Said, Stub, UNATTACHED_MS, VERIFIED_SILENCE_MS};
pub use step::EXCLUSIVE_MAX;
