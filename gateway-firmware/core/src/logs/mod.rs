//! Log records of this boot: kept in a bounded ring until svc-logs says they are stored.
//!
//! Always holds: sequences are dense from 1; what a full ring dropped is counted and named (`lost_up_to`), so a gap is
//! reported and never silent; nothing is forgotten because it was sent, only because it was stored or had no room.

mod ring;
mod ship;

pub use ring::{Batch, NOTE_BYTES_MAX, Ring};
pub use ship::{LOG_BATCH_BYTES_MAX, LOG_LINGER_MS, LOG_RETRY_MAX_MS, LOG_RETRY_MIN_MS, Ship};
