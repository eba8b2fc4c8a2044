//! What forbids to debug a device, as the registry publishes it.

use std::fmt;

/// Characters of a label's value that a message shows; the rest is in the registry.
const SHOWN_MAX: usize = 64;

/// One thing that forbids it; what stands first holds for more devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ban {
    Tenant,
    Label { key: String, value: String },
    Device,
}

impl Ban {
    /// The one to name, of all that forbid it: who lifts a narrower one only has not helped.
    pub(crate) fn widest(bans: impl IntoIterator<Item = Ban>) -> Option<Ban> {
        bans.into_iter().min()
    }

    /// As it is published; a word that is not known forbids too.
    pub(crate) fn from_parts(by: &str, key: Option<&str>, value: Option<&str>) -> Ban {
        match (by, key, value) {
            ("tenant", _, _) => Ban::Tenant,
            ("label", Some(key), Some(value)) => Ban::Label { key: key.to_owned(), value: value.to_owned() },
            _ => Ban::Device,
        }
    }
}

impl fmt::Display for Ban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ban::Tenant => f.write_str("tenant"),
            Ban::Label { key, value } => {
                write!(f, "label {key}=")?;
                value.chars().take(SHOWN_MAX).try_for_each(|c| write!(f, "{c}"))?;
                if value.chars().nth(SHOWN_MAX).is_some() { f.write_str("…") } else { Ok(()) }
            }
            Ban::Device => f.write_str("device"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str) -> Ban {
        Ban::from_parts("label", Some(key), Some(value))
    }

    #[test]
    fn one_ban_is_enough_and_the_widest_is_named() {
        assert_eq!(Ban::widest([]), None, "allowed unless something forbids it");
        assert_eq!(Ban::widest([Ban::Device]), Some(Ban::Device));
        assert_eq!(Ban::widest([Ban::Device, label("b", "1"), label("a", "2")]), Some(label("a", "2")));
        assert_eq!(Ban::widest([label("a", "2"), Ban::Device, Ban::Tenant]), Some(Ban::Tenant));
    }

    #[test]
    fn a_ban_of_a_kind_to_come_forbids() {
        for unknown in ["", "fleet", "label"] {
            assert_eq!(Ban::from_parts(unknown, None, None), Ban::Device, "{unknown:?}");
        }
    }

    #[test]
    fn a_ban_is_named_in_few_words() {
        assert_eq!(Ban::Tenant.to_string(), "tenant");
        assert_eq!(label("site", "a b").to_string(), "label site=a b");
        let longest = "é".repeat(SHOWN_MAX);
        assert_eq!(label("k", &longest).to_string(), format!("label k={longest}"));
        assert_eq!(label("k", &format!("{longest}x")).to_string(), format!("label k={longest}…"));
    }
}
