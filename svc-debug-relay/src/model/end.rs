//! Why a session, or one attachment to it, ended.

/// Every reason there is. The first ones end a session for everybody, the others one attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndReason {
    /// Its creator said so.
    Closed,
    /// Somebody else did.
    ClosedByOperator,
    /// No frame either way for long.
    Idle,
    /// Its time is over.
    Expired,
    /// The device did not answer for long.
    DeviceUnreachable,
    DeviceRefused,
    DeviceBusy,
    DeviceRestarted,
    /// The device ended it.
    DeviceClosed,
    DeviceRevoked,
    /// Debugging it was forbidden.
    Forbidden,
    /// The device said what cannot be, or says that we did.
    ProtocolError,
    /// The caller is gone.
    Left,
    /// Its creator attached anew.
    Replaced,
    /// This process stops.
    Draining,
    /// Another process took the session.
    Moved,
    /// The caller said what cannot be.
    CallerError,
    TokenExpired,
    /// The process that served it died.
    RelayLost,
    /// What comes after the caller's position is held nowhere any more.
    NotResumable,
}

impl EndReason {
    pub(crate) const ALL: [EndReason; 20] = [
        EndReason::Closed,
        EndReason::ClosedByOperator,
        EndReason::Idle,
        EndReason::Expired,
        EndReason::DeviceUnreachable,
        EndReason::DeviceRefused,
        EndReason::DeviceBusy,
        EndReason::DeviceRestarted,
        EndReason::DeviceClosed,
        EndReason::DeviceRevoked,
        EndReason::Forbidden,
        EndReason::ProtocolError,
        EndReason::Left,
        EndReason::Replaced,
        EndReason::Draining,
        EndReason::Moved,
        EndReason::CallerError,
        EndReason::TokenExpired,
        EndReason::RelayLost,
        EndReason::NotResumable,
    ];

    /// As it is stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            EndReason::Closed => "closed",
            EndReason::ClosedByOperator => "closed_by_operator",
            EndReason::Idle => "idle",
            EndReason::Expired => "expired",
            EndReason::DeviceUnreachable => "device_unreachable",
            EndReason::DeviceRefused => "device_refused",
            EndReason::DeviceBusy => "device_busy",
            EndReason::DeviceRestarted => "device_restarted",
            EndReason::DeviceClosed => "device_closed",
            EndReason::DeviceRevoked => "device_revoked",
            EndReason::Forbidden => "forbidden",
            EndReason::ProtocolError => "protocol_error",
            EndReason::Left => "left",
            EndReason::Replaced => "replaced",
            EndReason::Draining => "draining",
            EndReason::Moved => "moved",
            EndReason::CallerError => "caller_error",
            EndReason::TokenExpired => "token_expired",
            EndReason::RelayLost => "relay_lost",
            EndReason::NotResumable => "not_resumable",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether the session is over for everybody.
    pub(crate) fn ends_session(self) -> bool {
        self <= EndReason::ProtocolError
    }

    /// Why a session is over that somebody closed.
    pub(crate) fn of_closing(creator: &str, subject: &str) -> Self {
        if subject == creator { EndReason::Closed } else { EndReason::ClosedByOperator }
    }

    /// Whether attaching again may succeed.
    pub(crate) fn is_resumable(self) -> bool {
        !self.ends_session()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_reads_back() {
        for (index, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(EndReason::from_name(reason.name()), Some(reason));
            assert!(EndReason::ALL[..index].iter().all(|other| other.name() != reason.name()));
        }
        assert_eq!(EndReason::from_name("unknown"), None);
    }

    #[test]
    fn a_session_is_closed_by_its_creator_or_by_an_operator() {
        assert_eq!(EndReason::of_closing("a", "a"), EndReason::Closed);
        assert_eq!(EndReason::of_closing("a", "b"), EndReason::ClosedByOperator);
    }

    #[test]
    fn a_session_ends_by_twelve_reasons_and_an_attachment_by_the_others() {
        let (session, attachment): (Vec<_>, Vec<_>) =
            EndReason::ALL.into_iter().partition(|reason| reason.ends_session());
        assert_eq!((session.len(), attachment.len()), (12, 8));
        assert!(session.iter().all(|reason| !reason.is_resumable()));
        assert!(attachment.contains(&EndReason::Left) && attachment.contains(&EndReason::RelayLost));
    }
}
