//! Hardware ids of a run of boards: one a line, each once, each good as a file's name.

use std::collections::HashSet;

use wire::limits::HARDWARE_ID_BYTES_MAX;

use crate::{Error, Result};

/// Boards made at once, at most: an image takes 3 MiB of a disk.
pub const BOARDS_MAX: usize = 1_000;

/// The ids of a list; blank lines are none.
pub fn read(text: &str) -> Result<Vec<String>> {
    let ids: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if !(1..=BOARDS_MAX).contains(&ids.len()) {
        return Err(Error::Count { what: "the number of hardware ids", count: ids.len(), max: BOARDS_MAX });
    }
    let mut seen = HashSet::new();
    for id in &ids {
        check(id)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.starts_with('.') || !id.bytes().all(plain) {
            return Err(Error::FileName { id: (*id).to_owned() });
        }
        if !seen.insert(*id) {
            return Err(Error::Twice { id: (*id).to_owned() });
        }
    }
    Ok(ids.into_iter().map(str::to_owned).collect())
}

/// What a board would take for its id.
pub fn check(id: &str) -> Result<()> {
    match (1..=HARDWARE_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Error::HardwareId { id: id.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_one_a_line() {
        assert_eq!(read("lamp-1\n\n  lamp-2  \r\n").unwrap(), ["lamp-1", "lamp-2"]);
        let many = |count: usize| (0..count).map(|number| format!("{number}\n")).collect::<String>();
        assert_eq!(read(&many(BOARDS_MAX)).unwrap().len(), BOARDS_MAX);
        assert!(matches!(read(&many(BOARDS_MAX + 1)), Err(Error::Count { .. })));
        assert!(matches!(read("\n"), Err(Error::Count { count: 0, .. })));
    }

    #[test]
    fn an_id_that_is_no_file_or_there_twice_is_refused() {
        assert!(matches!(read("a\nb\na\n"), Err(Error::Twice { id }) if id == "a"));
        for id in ["../etc", "a/b", ".hidden", "a*b"] {
            assert!(matches!(read(id), Err(Error::FileName { .. })), "{id}");
        }
        for id in ["a b", "caf\u{e9}", &"x".repeat(65)] {
            assert!(matches!(read(id), Err(Error::HardwareId { .. })), "{id}");
        }
        assert!(check(&"x".repeat(64)).is_ok() && check("").is_err());
    }
}
