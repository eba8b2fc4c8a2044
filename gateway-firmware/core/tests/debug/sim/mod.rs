//! A processor, and a debugger's hand on it.

mod machine;
mod probe;
mod world;

pub(crate) use machine::{CODE, GATEWAY, Machine, Outcome, RAM, SIZE};
pub(crate) use probe::{COMPARATORS, SECRET, SimProbe};
pub(crate) use world::{Call, Target, World};
