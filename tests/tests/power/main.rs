//! Power cuts on the emulated Cortex-M33, at the operations of real updates (`scenarios::an505::power`).
//!
//! Here every operation on a header, on the journal, on the boot record, on a counter and on an envelope is cut once, and 32 on bodies
//! of data. `cargo dev test soak-power` cuts every operation in every mode.

mod cuts;
