//! Which devices a caller means: `labels.KEY=VALUE`, `board=`, `hardware_id=`, `version=` (running application),
//! `revoked=true|false`, `quarantined=true|false`, joined by `AND`; a value with spaces or quotes is written `"like \"this\""`.
//!
//! Never: a term that is silently ignored. What is refused is refused with its place and what would be right. The store
//! turns a filter into SQL; [`Filter::matches`] says the same of a single device.

use std::fmt;

use super::change::Change;
use super::device::{Device, Labels, check_label_key};

/// Bytes of a filter.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;
/// Terms of a filter.
pub(crate) const FILTER_TERMS_MAX: usize = 16;

const FIELDS: &str = "labels.KEY, board, hardware_id, version, revoked or quarantined";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub labels: Labels,
    pub board: Option<String>,
    pub hardware_id: Option<String>,
    /// Of the running application.
    pub version: Option<String>,
    pub revoked: Option<bool>,
    pub quarantined: Option<bool>,
}

/// Text that is no filter, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongFilter {
    /// Characters before the fault.
    pub position: usize,
    pub reason: String,
    /// What would be right there.
    pub expected: String,
}

impl fmt::Display for WrongFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {}: expected {}", self.reason, self.position + 1, self.expected)
    }
}

impl std::error::Error for WrongFilter {}

impl Filter {
    /// An empty filter means every device.
    pub(crate) fn parse(text: &str) -> Result<Self, WrongFilter> {
        if text.len() > FILTER_BYTES_MAX {
            let end = text.floor_char_boundary(FILTER_BYTES_MAX);
            let expected = format!("at most {FILTER_BYTES_MAX} bytes");
            return Err(Text(text).wrong(&text[end..], "the filter is too long", expected));
        }
        if let Some(at) = text.find(char::is_control) {
            let expected = "text without control characters";
            return Err(Text(text).wrong(&text[at..], "a control character", expected));
        }
        Text(text).filter()
    }

    pub(crate) fn matches(&self, device: &Device) -> bool {
        let is =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|w| Some(w) == value);
        self.labels.iter().all(|(key, value)| device.labels.get(key) == Some(value))
            && is(&self.board, Some(&device.board))
            && is(&self.hardware_id, Some(&device.hardware_id))
            && is(&self.version, device.report.as_ref().and_then(|r| r.report.app_version()))
            && self.revoked.is_none_or(|wanted| wanted == device.revoked_at.is_some())
            && self.quarantined.is_none_or(|wanted| wanted == device.quarantined_at.is_some())
    }

    /// Whether a change of this kind can make a device match, or no longer.
    pub(crate) fn minds(&self, change: Change) -> bool {
        match change {
            Change::Created | Change::Deleted => true,
            // Who takes a place takes its labels.
            Change::Labels | Change::Replaced => !self.labels.is_empty(),
            Change::Reported => self.version.is_some(),
            Change::Revoked => self.revoked.is_some(),
            Change::Quarantined | Change::Released => self.quarantined.is_some(),
            Change::Rekeyed | Change::Debugging => false,
        }
    }

    /// The field that is named twice, if that is what is wrong.
    fn add(&mut self, term: Term) -> bool {
        match term {
            Term::Board(value) => self.board.replace(value).is_some(),
            Term::HardwareId(value) => self.hardware_id.replace(value).is_some(),
            Term::Version(value) => self.version.replace(value).is_some(),
            Term::Revoked(value) => self.revoked.replace(value).is_some(),
            Term::Quarantined(value) => self.quarantined.replace(value).is_some(),
            Term::Label(key, value) => self.labels.insert(key, value).is_some(),
        }
    }
}

enum Term {
    Board(String),
    HardwareId(String),
    Version(String),
    Revoked(bool),
    Quarantined(bool),
    Label(String, String),
}

/// The whole text; what its methods are given is always a tail of it, so that a fault has a place.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn wrong(self, rest: &str, reason: impl Into<String>, expected: impl Into<String>) -> WrongFilter {
        let before = self.0.len().saturating_sub(rest.len());
        let position = self.0.get(..before).map_or(0, |text| text.chars().count());
        WrongFilter { position, reason: reason.into(), expected: expected.into() }
    }

    fn filter(self) -> Result<Filter, WrongFilter> {
        let mut filter = Filter::default();
        let mut rest = self.0.trim_start();
        for count in 1.. {
            if rest.is_empty() {
                break;
            }
            if count > FILTER_TERMS_MAX {
                return Err(self.wrong(rest, "too many terms", format!("at most {FILTER_TERMS_MAX}")));
            }
            let (term, after) = self.term(rest)?;
            if filter.add(term) {
                return Err(self.wrong(rest, "a field is named twice", "each field at most once"));
            }
            rest = self.joined(after)?;
        }
        Ok(filter)
    }

    /// `key=value` at the start of `rest`, and what comes after.
    fn term(self, rest: &'a str) -> Result<(Term, &'a str), WrongFilter> {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, value) = rest.split_at(end);
        let label = self.field(rest, key)?;
        let Some(value) = value.strip_prefix('=') else {
            return Err(self.wrong(value, "a field without a value", "= and a value"));
        };
        let (text, after) = match value.strip_prefix('"') {
            Some(quoted) => self.unquote(value, quoted)?,
            None => self.bare(value)?,
        };
        let term = match (label, key) {
            (Some(label), _) => Term::Label(label.to_owned(), text),
            (None, "board") => Term::Board(text),
            (None, "hardware_id") => Term::HardwareId(text),
            (None, "version") => Term::Version(text),
            (None, _) => match (text.parse(), key) {
                (Ok(revoked), "revoked") => Term::Revoked(revoked),
                (Ok(quarantined), _) => Term::Quarantined(quarantined),
                (Err(_), _) => {
                    return Err(self.wrong(value, format!("{key} is yes or no"), "true or false"));
                }
            },
        };
        Ok((term, after))
    }

    /// The label's key, or none for another field there is.
    fn field(self, rest: &str, key: &'a str) -> Result<Option<&'a str>, WrongFilter> {
        if ["board", "hardware_id", "version", "revoked", "quarantined"].contains(&key) {
            return Ok(None);
        }
        match key.strip_prefix("labels.") {
            Some(label) if check_label_key("filter", label).is_ok() => Ok(Some(label)),
            Some(label) => {
                let at = &rest[key.len() - label.len()..];
                Err(self.wrong(at, "no key of a label", "1 to 63 of [a-z0-9._-]"))
            }
            None => Err(self.wrong(rest, format!("unknown field {key:?}"), FIELDS)),
        }
    }

    fn bare(self, value: &'a str) -> Result<(String, &'a str), WrongFilter> {
        let end = value.find(char::is_whitespace).unwrap_or(value.len());
        let (text, rest) = value.split_at(end);
        if text.is_empty() {
            return Err(self.wrong(value, "no value", "a value; an empty one is written \"\""));
        }
        if let Some(quote) = text.find('"') {
            return Err(self.wrong(&value[quote..], "a quote within a value", "the whole value in quotes"));
        }
        Ok((text.to_owned(), rest))
    }

    /// `quoted` is `value` after its opening quote.
    fn unquote(self, value: &str, quoted: &'a str) -> Result<(String, &'a str), WrongFilter> {
        let mut text = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((text, &quoted[at + 1..])),
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    _ => return Err(self.wrong(&quoted[at..], "a lone \\", "\\\" or \\\\")),
                },
                c => text.push(c),
            }
        }
        Err(self.wrong(value, "a quote that is never closed", "\" at the end of the value"))
    }

    /// What follows `AND`; nothing at the end of the filter.
    fn joined(self, rest: &'a str) -> Result<&'a str, WrongFilter> {
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return Ok(trimmed);
        }
        let spaced = trimmed.len() < rest.len();
        let after =
            trimmed.strip_prefix("AND").filter(|r| r.is_empty() || r.starts_with(char::is_whitespace));
        match after {
            Some(after) if spaced && !after.trim_start().is_empty() => Ok(after.trim_start()),
            Some(after) if spaced => Err(self.wrong(after, "nothing after AND", "another term")),
            _ => Err(self.wrong(
                trimmed,
                "terms that are not joined",
                "a space and AND (OR and NOT are not known)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_term_is_understood() {
        let filter = Filter::parse(
            r#" labels.site="new york" AND board=host  AND hardware_id=a-1 AND version=1.0 AND revoked=false AND quarantined=true "#,
        );
        let filter = filter.unwrap();
        assert_eq!(filter.labels["site"], "new york");
        assert_eq!(filter.board.as_deref(), Some("host"));
        assert_eq!(filter.hardware_id.as_deref(), Some("a-1"));
        assert_eq!(filter.version.as_deref(), Some("1.0"));
        assert_eq!((filter.revoked, filter.quarantined), (Some(false), Some(true)));
        assert_eq!(Filter::parse("").unwrap(), Filter::default());
        assert_eq!(Filter::parse(r#"labels.k="a\"b\\""#).unwrap().labels["k"], "a\"b\\");
        assert_eq!(Filter::parse(r#"labels.k="""#).unwrap().labels["k"], "");
        assert_eq!(Filter::parse("labels.k=a=b").unwrap().labels["k"], "a=b");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (bad, position) in [
            ("board", 5),
            ("board=", 6),
            ("board host", 5),
            ("=x", 0),
            ("colour=red", 0),
            ("labels.=x", 7),
            ("labels.A=x", 7),
            ("revoked=yes", 8),
            ("quarantined=yes", 12),
            ("board=a board=b", 8),
            ("board=a OR board=b", 8),
            ("board=a AND", 11),
            ("board=a ANDversion=b", 8),
            ("AND board=a", 0),
            ("board=\"a", 6),
            ("board=\"a\\n\"", 8),
            ("board=\"a\"AND version=b", 9),
            ("board=a AND board=b", 12),
            ("labels.k=a AND labels.k=b", 15),
            ("board=\0", 6),
            ("labels.k=\"\u{1b}[2J\"", 10),
            ("labels.k=é AND größe=3", 15),
        ] {
            let wrong = Filter::parse(bad).expect_err(bad);
            assert_eq!(wrong.position, position, "{bad}: {wrong}");
            assert!(!wrong.to_string().chars().any(char::is_control), "{wrong}");
        }
        let wrong = Filter::parse("board=a AND colour=red").unwrap_err().to_string();
        assert_eq!(wrong, format!("unknown field \"colour\" at character 13: expected {FIELDS}"));
    }

    #[test]
    fn only_what_can_change_the_answer_matters_to_a_filter() {
        let of = |text: &str| {
            let filter = Filter::parse(text).unwrap();
            Change::ALL.into_iter().filter(|change| filter.minds(*change)).collect::<Vec<_>>()
        };
        assert_eq!(of(""), [Change::Created, Change::Deleted]);
        assert_eq!(of("labels.k=v"), [Change::Created, Change::Labels, Change::Deleted, Change::Replaced]);
        assert_eq!(of("version=1"), [Change::Created, Change::Reported, Change::Deleted]);
        assert_eq!(of("revoked=true"), [Change::Created, Change::Revoked, Change::Deleted]);
        let quarantine = [Change::Created, Change::Deleted, Change::Quarantined, Change::Released];
        assert_eq!(of("quarantined=true"), quarantine);
    }

    #[test]
    fn a_filter_is_bounded() {
        let terms = |n: usize| (0..n).map(|i| format!("labels.k{i}=v")).collect::<Vec<_>>().join(" AND ");
        assert!(Filter::parse(&terms(FILTER_TERMS_MAX)).is_ok());
        assert!(Filter::parse(&terms(FILTER_TERMS_MAX + 1)).is_err());
        let long = |n: usize| format!("board={}", "x".repeat(n - 6));
        assert!(Filter::parse(&long(FILTER_BYTES_MAX)).is_ok());
        assert!(Filter::parse(&long(FILTER_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(labels\\.k|board|revoked| AND |=|\"|\\\\|\\PC){0,20}") {
            let _ = Filter::parse(&text);
        }

        #[test]
        fn a_quoted_value_comes_back_as_it_was(value in "[^\\p{Cc}]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = Filter::parse(&format!("board=\"{quoted}\"")).unwrap();
            prop_assert_eq!(filter.board, Some(value));
        }
    }
}
