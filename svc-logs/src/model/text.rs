//! Text of a device, made such that the database can hold it.

/// Cuts at a character boundary and replaces NUL, which Postgres cannot store.
pub(crate) fn clean(text: &mut String, bytes_max: usize) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}
