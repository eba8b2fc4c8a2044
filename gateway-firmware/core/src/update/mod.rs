//! The update engine: from a directive to a confirmed version, or back to the one before.
//!
//! `machine` says which moves exist, `ledger` what survives power loss, `check` what may be installed, `fetch` how a slot
//! is filled, `trial` when a version is kept, `microvisor` what is different when the microvisor itself is exchanged. `hear` and `advance` drive them for a [`crate::Device`].

mod advance;
pub(crate) mod check;
pub(crate) mod codec;
pub(crate) mod fetch;
mod hear;
pub(crate) mod held;
pub(crate) mod layers;
pub mod ledger;
pub mod machine;
pub mod microvisor;
mod microvisor_floor;
pub mod result;
pub(crate) mod roots;
pub mod slots;
pub mod trial;

pub use machine::{Event, IllegalMove, State};
pub use result::{Outcome, UpdateResult};
