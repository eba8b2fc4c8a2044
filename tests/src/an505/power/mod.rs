//! Power cuts on the emulated board, with the images that ship: what changes the flash is stopped at, and what the flash would be had
//! the power failed there is given to another machine.
//!
//! Two functions of the chip's flash change cells, and both stages have them by name. A probe stops the processor at each of their
//! calls and reads what is asked of them, so one run gives every operation with its arguments ([`record`]). The flash at any cut
//! follows from the flash before the run and the operations up to there, the last one done in part ([`operation`]): nothing is run
//! again to get there. That nothing else changes the flash is not believed: at every stop the file is compared with what follows
//! from the operations. A cut is judged by a start of its own ([`judge`]), on a machine that knows nothing of all this.
//!
//! What is stopped does not notice: the machine's clock stands while its processor does.

pub mod class;
pub mod judge;
pub mod live;
pub mod operation;
pub mod record;
pub mod story;
pub mod suite;

use factory::map;

/// Bytes of the flash file that anything uses; the rest is a hole.
pub const USED_BYTES: usize = (map::STORE + map::STORE_BYTES) as usize;
