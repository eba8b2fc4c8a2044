//! A debug session's end on the device: what carries it, what keeps it secret, and what it does to the application.
//!
//! Always holds: nothing is done to the application before a frame of somebody verified whose key is in the running version's
//! manifest; a relay can delay, drop or end a session, and nothing else; when a session is over, however it ended, the application goes on
//! as if there had been none.

mod agent;
mod bucket;
mod pipe;
mod session;

pub use agent::{Access, Agent, Scene};
pub use bucket::{HANDSHAKE_EVERY_MS, HANDSHAKES_MAX};
pub use pipe::{FRAMES_MAX, Frames, RESEND_MS, SILENCE_MS};
pub use session::{Memory, Said, Stub};
