//! Which devices a caller means: `labels.KEY=VALUE`, `board=`, `hardware_id=`, `version=` (running application),
//! `revoked=true|false`, joined by `AND`; a value with spaces or quotes is written `"like \"this\""`.
//!
//! Never: a term that is silently ignored. The store turns a filter into SQL; [`Filter::matches`] says the same of a
//! single device.

use super::device::{Device, Labels, check_label_key};
use super::field::Invalid;

/// Bytes of a filter.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;
/// Terms of a filter.
pub(crate) const FILTER_TERMS_MAX: usize = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub labels: Labels,
    pub board: Option<String>,
    pub hardware_id: Option<String>,
    /// Of the running application.
    pub version: Option<String>,
    pub revoked: Option<bool>,
}

impl Filter {
    /// An empty filter means every device.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > FILTER_BYTES_MAX || text.contains('\0') {
            return Err(invalid(format!("must have at most {FILTER_BYTES_MAX} bytes, none of them zero")));
        }
        let mut filter = Self::default();
        let mut rest = text.trim_start();
        for count in 1.. {
            if rest.is_empty() {
                break;
            }
            if count > FILTER_TERMS_MAX {
                return Err(invalid(format!("at most {FILTER_TERMS_MAX} terms")));
            }
            let (key, value, after) = term(rest)?;
            filter.add(key, value)?;
            rest = joined(after)?;
        }
        Ok(filter)
    }

    pub(crate) fn matches(&self, device: &Device) -> bool {
        let is =
            |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|w| Some(w) == value);
        self.labels.iter().all(|(key, value)| device.labels.get(key) == Some(value))
            && is(&self.board, Some(&device.board))
            && is(&self.hardware_id, Some(&device.hardware_id))
            && is(&self.version, device.report.as_ref().and_then(|r| r.report.app_version()))
            && self.revoked.is_none_or(|wanted| wanted == device.revoked_at.is_some())
    }

    fn add(&mut self, key: &str, value: String) -> Result<(), Invalid> {
        let twice = match key {
            "board" => self.board.replace(value).is_some(),
            "hardware_id" => self.hardware_id.replace(value).is_some(),
            "version" => self.version.replace(value).is_some(),
            "revoked" => self.revoked.replace(boolean(&value)?).is_some(),
            _ => {
                let Some(label) = key.strip_prefix("labels.") else {
                    return Err(invalid(format!("unknown field {key:?}")));
                };
                check_label_key("filter", label)?;
                self.labels.insert(label.to_owned(), value).is_some()
            }
        };
        if twice { Err(invalid(format!("{key} is named twice"))) } else { Ok(()) }
    }
}

fn invalid(reason: impl Into<String>) -> Invalid {
    Invalid::new("filter", reason)
}

fn boolean(value: &str) -> Result<bool, Invalid> {
    value.parse().map_err(|_| invalid("revoked must be true or false"))
}

/// `key=value` at the start of `text`: key, value, and what comes after.
fn term(text: &str) -> Result<(&str, String, &str), Invalid> {
    let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let rest = rest.strip_prefix('=').ok_or_else(|| invalid(format!("expected = after {key:?}")))?;
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => bare(rest)?,
    };
    Ok((key, value, rest))
}

fn bare(text: &str) -> Result<(String, &str), Invalid> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    if value.is_empty() || value.contains('"') {
        return Err(invalid("a value that is empty or has quotes must be quoted"));
    }
    Ok((value.to_owned(), rest))
}

fn unquote(text: &str) -> Result<(String, &str), Invalid> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                _ => return Err(invalid("\\ stands only before \" or \\")),
            },
            c => value.push(c),
        }
    }
    Err(invalid("quote is never closed"))
}

/// What follows `AND`; nothing at the end of the filter.
fn joined(text: &str) -> Result<&str, Invalid> {
    let trimmed = text.trim_start();
    if trimmed.is_empty() {
        return Ok(trimmed);
    }
    let rest = trimmed
        .strip_prefix("AND")
        .filter(|r| r.starts_with(char::is_whitespace) && trimmed.len() < text.len());
    match rest.map(str::trim_start) {
        Some(rest) if !rest.is_empty() => Ok(rest),
        _ => Err(invalid("terms are joined by AND")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_term_is_understood() {
        let filter = Filter::parse(
            r#" labels.site="new york" AND board=host  AND hardware_id=a-1 AND version=1.0 AND revoked=false "#,
        );
        let filter = filter.unwrap();
        assert_eq!(filter.labels["site"], "new york");
        assert_eq!(filter.board.as_deref(), Some("host"));
        assert_eq!(filter.hardware_id.as_deref(), Some("a-1"));
        assert_eq!(filter.version.as_deref(), Some("1.0"));
        assert_eq!(filter.revoked, Some(false));
        assert_eq!(Filter::parse("").unwrap(), Filter::default());
        assert_eq!(Filter::parse(r#"labels.k="a\"b\\""#).unwrap().labels["k"], "a\"b\\");
        assert_eq!(Filter::parse(r#"labels.k="""#).unwrap().labels["k"], "");
        assert_eq!(Filter::parse("labels.k=a=b").unwrap().labels["k"], "a=b");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for bad in [
            "board",
            "board=",
            "board host",
            "=x",
            "colour=red",
            "labels.=x",
            "labels.A=x",
            "revoked=yes",
            "board=a board=b",
            "board=a OR board=b",
            "board=a AND",
            "board=a ANDversion=b",
            "AND board=a",
            "board=\"a",
            "board=\"a\\n\"",
            "board=\"a\"AND version=b",
            "board=a AND board=b",
            "labels.k=a AND labels.k=b",
            "board=\0",
        ] {
            assert_eq!(Filter::parse(bad).expect_err(bad).field, "filter");
        }
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
        fn a_quoted_value_comes_back_as_it_was(value in "[^\0]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = Filter::parse(&format!("board=\"{quoted}\"")).unwrap();
            prop_assert_eq!(filter.board, Some(value));
        }
    }
}
