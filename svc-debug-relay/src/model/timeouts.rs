//! How long a session may be idle, and how long it may last: defaults and bounds.

use std::time::Duration;

pub(crate) const IDLE_DEFAULT: Duration = Duration::from_secs(30 * 60);
pub(crate) const TOTAL_DEFAULT: Duration = Duration::from_secs(8 * 3600);
/// Shortest of either.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);
pub(crate) const TOTAL_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// Which of them is out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeoutError {
    #[error("must be between 1s and 12h")]
    Idle,
    #[error("must be between 1s and 24h")]
    Total,
}

impl Timeouts {
    /// What was asked for, or the default where nothing was.
    pub(crate) fn new(idle: Option<Duration>, total: Option<Duration>) -> Result<Self, TimeoutError> {
        let idle = idle.unwrap_or(IDLE_DEFAULT);
        let total = total.unwrap_or(TOTAL_DEFAULT);
        if !(TIMEOUT_MIN..=IDLE_MAX).contains(&idle) {
            return Err(TimeoutError::Idle);
        }
        if !(TIMEOUT_MIN..=TOTAL_MAX).contains(&total) {
            return Err(TimeoutError::Total);
        }
        Ok(Self { idle, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_defaults_and_hold_at_their_edges() {
        let nanosecond = Duration::from_nanos(1);
        let timeouts = Timeouts::new(None, None).unwrap();
        assert_eq!((timeouts.idle, timeouts.total), (IDLE_DEFAULT, TOTAL_DEFAULT));
        for idle in [TIMEOUT_MIN, IDLE_MAX] {
            assert!(Timeouts::new(Some(idle), None).is_ok());
        }
        for idle in [Duration::ZERO, TIMEOUT_MIN - nanosecond, IDLE_MAX + nanosecond] {
            assert_eq!(Timeouts::new(Some(idle), None), Err(TimeoutError::Idle));
        }
        for total in [TIMEOUT_MIN, TOTAL_MAX] {
            assert!(Timeouts::new(None, Some(total)).is_ok());
        }
        for total in [Duration::ZERO, TIMEOUT_MIN - nanosecond, TOTAL_MAX + nanosecond] {
            assert_eq!(Timeouts::new(None, Some(total)), Err(TimeoutError::Total));
        }
    }
}
