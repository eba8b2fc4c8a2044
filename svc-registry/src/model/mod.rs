//! What svc-registry knows and decides, pure: no async, no IO, no clock (times come in as parameters).
//!
//! `enroll` decides what a board that asks gets; `debugging` who may not be debugged, and what keeps it so; `hello` which report counts; `lives` whether two boards are one device; `filter` which devices a caller
//! meant; `feed` and `position` how to read changes that commit out of order, and to go on reading them. Validation lives with the type it protects.

pub(crate) mod change;
pub(crate) mod claim;
pub(crate) mod debugging;
pub(crate) mod device;
pub(crate) mod enroll;
pub(crate) mod feed;
pub(crate) mod field;
pub(crate) mod filter;
pub(crate) mod hello;
pub(crate) mod key;
pub(crate) mod keyset;
pub(crate) mod lives;
pub(crate) mod position;
pub(crate) mod roots;

pub(crate) use change::Change;
pub(crate) use claim::{Claim, Standing};
pub(crate) use device::{Device, Labels, Pending, Presence, Slot};
pub(crate) use field::Invalid;
pub(crate) use filter::Filter;
pub(crate) use key::{Key, Role, Tenant};
pub(crate) use keyset::SignedKeyset;
pub(crate) use position::{Position, PresencePosition, Progress};
