//! Checks of single fields that came from outside: each names the field it refuses and says why.

use std::fmt;

/// Characters of a display name.
pub(crate) const DISPLAY_NAME_MAX: usize = 64;
/// Bytes of a hardware id.
pub(crate) const HARDWARE_ID_MAX: usize = 64;
/// Bytes of a board name.
pub(crate) const BOARD_MAX: usize = 32;
/// Bytes of a version.
pub(crate) const VERSION_MAX: usize = 32;

/// A field from outside that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub field: &'static str,
    pub reason: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Invalid {}

/// 1 to 64 characters, none of them a control character.
pub(crate) fn display_name(field: &'static str, text: &str) -> Result<(), Invalid> {
    let count = text.chars().count();
    if count == 0 || count > DISPLAY_NAME_MAX {
        return Err(Invalid::new(field, format!("must have 1 to {DISPLAY_NAME_MAX} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "must not have control characters"));
    }
    Ok(())
}

/// 1 to 64 of `[A-Za-z0-9._-]`.
pub(crate) fn hardware_id(field: &'static str, text: &str) -> Result<(), Invalid> {
    let fits = (1..=HARDWARE_ID_MAX).contains(&text.len());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits && plain {
        Ok(())
    } else {
        Err(Invalid::new(field, format!("must be 1 to {HARDWARE_ID_MAX} of [A-Za-z0-9._-]")))
    }
}

/// Printable ASCII without spaces, 1 to `max` bytes: boards and versions.
pub(crate) fn word(field: &'static str, text: &str, max: usize) -> Result<(), Invalid> {
    if (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Invalid::new(field, format!("must be 1 to {max} printable ASCII characters")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_id_is_refused_outside_its_alphabet_and_length() {
        for good in ["a", "A-1_b.c", &"x".repeat(HARDWARE_ID_MAX)] {
            assert_eq!(hardware_id("hardware_id", good), Ok(()));
        }
        for bad in ["", "a b", "a/b", "é", "a\0", "+", &"x".repeat(HARDWARE_ID_MAX + 1)] {
            assert_eq!(hardware_id("hardware_id", bad).expect_err(bad).field, "hardware_id");
        }
    }

    #[test]
    fn a_display_name_counts_characters_not_bytes() {
        assert!(display_name("n", &"é".repeat(DISPLAY_NAME_MAX)).is_ok());
        assert!(display_name("n", &"é".repeat(DISPLAY_NAME_MAX + 1)).is_err());
        assert!(display_name("n", "").is_err());
        assert!(display_name("n", "a\nb").is_err());
    }
}
