//! Where debugging is forbidden, and what nobody but an administrator may undo by other means.
//!
//! Holds: a device may be debugged unless something forbids it, and one ban is enough. A ban of a label goes with the label: who
//! may label devices and not administer them keeps it where it is, and a board that takes another's place takes its bans too.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use wire::DeviceId;

use super::device::{LABEL_VALUE_MAX, Labels, check_label_key};
use super::field::Invalid;

/// Labels for which a tenant forbids debugging.
pub(crate) const LABEL_BANS_MAX: i64 = 64;

/// Which devices are meant; in the order they are listed in. As text it is what a cursor and the audit trail hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// All of the tenant's.
    Tenant,
    /// Those that carry it.
    Label {
        key: String,
        value: String,
    },
    Device(DeviceId),
}

/// One thing that forbids it.
#[derive(Debug, Clone)]
pub(crate) struct Ban {
    pub scope: Scope,
    /// A key's resource name.
    pub creator: String,
    pub since: SystemTime,
}

impl Scope {
    pub(crate) fn label(key: &str, value: &str) -> Self {
        Self::Label { key: key.to_owned(), value: value.to_owned() }
    }

    /// Whether a device could carry its label.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        const FIELD: &str = "scope.label";
        let Self::Label { key, value } = self else { return Ok(()) };
        check_label_key(FIELD, key)?;
        if value.chars().count() > LABEL_VALUE_MAX || value.chars().any(char::is_control) {
            let reason =
                format!("value must have at most {LABEL_VALUE_MAX} characters, no control characters");
            return Err(Invalid::new(FIELD, reason));
        }
        Ok(())
    }
}

/// The first label that forbids debugging, was there before, and is not any more.
pub(crate) fn lifted<'b>(
    bans: &'b [(String, String)],
    before: &Labels,
    after: &Labels,
) -> Option<&'b (String, String)> {
    bans.iter().find(|(key, value)| before.get(key) == Some(value) && after.get(key) != Some(value))
}

/// The labels of a board that takes another's place: its own stay, but for those whose keys forbid debugging by the other's value.
pub(crate) fn succeed(bans: &[(String, String)], old: &Labels, new: &Labels) -> Labels {
    let mut labels = old.clone();
    labels.extend(new.clone());
    labels.extend(bans.iter().filter(|(key, value)| old.get(key) == Some(value)).cloned());
    labels
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::Label { key, value } => write!(f, "label {key}={value}"),
            Self::Device(id) => write!(f, "device {id}"),
        }
    }
}

/// The text is no scope.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoScope;

impl FromStr for Scope {
    type Err = NoScope;

    fn from_str(text: &str) -> Result<Self, NoScope> {
        match text.split_once(' ') {
            None if text == "tenant" => Ok(Self::Tenant),
            Some(("label", label)) => {
                let (key, value) = label.split_once('=').ok_or(NoScope)?;
                let scope = Self::label(key, value);
                scope.check().map(|()| scope).map_err(|_| NoScope)
            }
            Some(("device", id)) => id.parse().map(Self::Device).map_err(|_| NoScope),
            _ => Err(NoScope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        bans(text).into_iter().collect()
    }

    fn bans(text: &str) -> Vec<(String, String)> {
        let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        text.split_whitespace().filter_map(pair).collect()
    }

    #[test]
    fn a_scope_reads_back_and_nothing_else_is_one() {
        let device = DeviceId::new([7; 16]);
        let scopes =
            [Scope::Tenant, Scope::label("site", "a=b c"), Scope::label("z", ""), Scope::Device(device)];
        assert!(scopes.is_sorted(), "as they are listed");
        for scope in scopes {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for bad in ["", "tenant ", "label", "label x", "label X=1", "label k=\0", "device", "device x", "dv"]
        {
            assert_eq!(bad.parse::<Scope>(), Err(NoScope), "{bad:?}");
        }
    }

    #[test]
    fn a_label_that_no_device_could_carry_is_refused() {
        let longest = "é".repeat(LABEL_VALUE_MAX);
        assert_eq!(Scope::label("k", &longest).check(), Ok(()));
        for (key, value) in [("", "v"), ("K", "v"), ("k", "\u{1b}[2J"), ("k", &format!("{longest}x"))] {
            assert_eq!(Scope::label(key, value).check().map_err(|invalid| invalid.field), Err("scope.label"));
        }
    }

    #[test]
    fn a_ban_is_lifted_by_taking_its_label_away_or_changing_it_and_by_nothing_else() {
        let forbidden = bans("site=berlin ring=stable");
        let lifts = |before: &str, after: &str| {
            lifted(&forbidden, &labels(before), &labels(after)).map(|(key, _)| key.as_str().to_owned())
        };
        assert_eq!(lifts("site=berlin a=1", "a=1").as_deref(), Some("site"));
        assert_eq!(lifts("site=berlin ring=stable", "site=berlin ring=canary").as_deref(), Some("ring"));
        assert_eq!(lifts("site=berlin a=1", "site=berlin"), None);
        assert_eq!(lifts("site=paris", ""), None, "another value is another group");
        assert_eq!(lifts("", "site=berlin"), None, "whoever labels may forbid");
    }

    #[test]
    fn a_successor_keeps_its_own_labels_but_not_instead_of_a_ban() {
        let forbidden = bans("site=berlin");
        let after = succeed(&forbidden, &labels("site=berlin rack=1 a=1"), &labels("site=paris rack=2"));
        assert_eq!(after, labels("site=berlin rack=2 a=1"));
        let after = succeed(&forbidden, &labels("site=rome"), &labels("site=paris"));
        assert_eq!(after, labels("site=paris"));
    }
}
