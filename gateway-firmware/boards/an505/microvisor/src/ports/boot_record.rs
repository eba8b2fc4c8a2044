//! The first stage's record, from the microvisor's side.

use chip::flash::Window;
use gateway_core::boot::first::{Misfit, Record};
use gateway_core::ports::FlashError;

/// Why the record is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordError {
    Flash(FlashError),
    Misfit,
}

/// Changes the record by one step, `Record::confirm` for instance; it was read back when this returns.
pub(crate) fn change(step: impl FnOnce(Record) -> Result<Record, Misfit>) -> Result<Record, RecordError> {
    let mut flash = Window::boot_record();
    let (record, _) = Record::read(&mut flash);
    let changed = step(record).map_err(|_| RecordError::Misfit)?;
    if changed != record {
        changed.write(&mut flash).map_err(RecordError::Flash)?;
    }
    Ok(changed)
}
