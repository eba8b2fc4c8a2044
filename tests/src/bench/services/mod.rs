//! What `bench_services` needs: a load of calls that costs little itself, an empty service to hold ours against, and one module a part.
//!
//! A part measures against a running [`crate::world::World`] and prints its figures. Another part is another module
//! here, with a value in the program's list of parts.

pub mod auth;
pub mod calls;
pub mod empty;
pub mod listing;
pub mod load;
pub mod relay;

use super::figure::Figures;

pub(crate) const FIGURES: Figures = Figures("services");
