//! How fast something may go on: so many a second on average, a second's worth at once. Who is faster waits; nothing is
//! lost.
//!
//! The virtual scheduling form of the generic cell rate algorithm (ITU-T I.371 annex A): one moment is all that is kept.

use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// What one unit takes when going on evenly.
    unit: Duration,
    /// When all that was taken is paid for.
    paid: Option<Instant>,
}

/// What may be taken ahead of its time.
const BURST: Duration = Duration::from_secs(1);

impl Pace {
    pub(crate) fn new(per_s: usize) -> Self {
        let per_s = u64::try_from(per_s).unwrap_or(u64::MAX).max(1);
        Self { unit: Duration::from_nanos((1_000_000_000 / per_s).max(1)), paid: None }
    }

    /// Takes `units` and says how long to wait before taking more; zero: not at all.
    pub(crate) fn take(&mut self, units: usize, now: Instant) -> Duration {
        let cost = self.unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
        let paid = self.paid.map_or(now, |paid| paid.max(now)) + cost;
        self.paid = Some(paid);
        paid.saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_goes_at_once_and_the_next_waits_its_turn() {
        let (mut pace, now) = (Pace::new(10), Instant::now());
        for _ in 0..10 {
            assert_eq!(pace.take(1, now), Duration::ZERO);
        }
        assert_eq!(pace.take(1, now), Duration::from_millis(100));
        assert_eq!(pace.take(1, now + Duration::from_millis(200)), Duration::ZERO);
        assert_eq!(
            pace.take(10, now + Duration::from_secs(60)),
            Duration::ZERO,
            "silence earns no more than a second"
        );
        assert_eq!(pace.take(1, now + Duration::from_secs(60)), Duration::from_millis(100));
    }

    #[test]
    fn over_a_long_time_the_rate_holds_whatever_the_sizes() {
        let (mut pace, start) = (Pace::new(1_000_000), Instant::now());
        let (mut now, mut sent) = (start, 0usize);
        for size in [1, 50, 4_000, 16_384, 32_768].into_iter().cycle().take(5_000) {
            sent += size;
            now += pace.take(size, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((sent as f64 / 1e6 - 1.0 - seconds).abs() < 0.1, "{sent} bytes in {seconds} s");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let (mut pace, now) = (Pace::new(0), Instant::now());
        assert!(pace.take(usize::MAX, now) > Duration::from_secs(60));
        assert_eq!(Pace::new(usize::MAX).take(1, now), Duration::ZERO);
    }
}
