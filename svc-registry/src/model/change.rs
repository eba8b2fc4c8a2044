//! What can happen to a device, as the change feed names it.

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Created,
    Reported,
    Labels,
    Rekeyed,
    Revoked,
    Deleted,
    Quarantined,
    Released,
    Replaced,
    /// Debugging of it was forbidden, or allowed again.
    Debugging,
}

impl Change {
    pub(crate) const ALL: [Change; 10] = [
        Self::Created,
        Self::Reported,
        Self::Labels,
        Self::Rekeyed,
        Self::Revoked,
        Self::Deleted,
        Self::Quarantined,
        Self::Released,
        Self::Replaced,
        Self::Debugging,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Reported => "reported",
            Self::Labels => "labels",
            Self::Rekeyed => "rekeyed",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
            Self::Quarantined => "quarantined",
            Self::Released => "released",
            Self::Replaced => "replaced",
            Self::Debugging => "debugging",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_back_by_its_name() {
        for change in Change::ALL {
            assert_eq!(Change::parse(change.as_str()), Some(change));
        }
        assert_eq!(Change::parse("renamed"), None);
    }
}
