//! How much a second one device may store, per replica: a token bucket each.
//!
//! What is refused is not acknowledged, so an honest device sends records and crash reports later. Memory is bounded: buckets that are full
//! again are forgotten, and if every bucket is in use, all start anew.

use std::collections::HashMap;
#[cfg(test)]
use std::time::Duration;
use std::time::Instant;

use wire::DeviceId;

/// Log records: a burst is a ring sent after hours without a connection.
pub(crate) const RECORDS: Rate = Rate { per_s_max: 500, burst_max: 8192 };
/// Crash reports, each [`CRASH_WEIGHT`], and chunks of their memory, each 1: a device has few reports at a time, and is slowed by its own
/// back-off.
pub(crate) const CRASHES: Rate = Rate { per_s_max: CRASH_WEIGHT as u32, burst_max: 64 * CRASH_WEIGHT as u32 };
/// What a report costs.
pub(crate) const CRASH_WEIGHT: usize = 16;
/// Telemetry messages.
pub(crate) const TELEMETRY: Rate = Rate { per_s_max: 50, burst_max: 1024 };
/// Devices whose rate is remembered.
pub(crate) const DEVICES_MAX: usize = 65_536;

/// What one device may store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// For long.
    pub(crate) per_s_max: u32,
    /// At once.
    pub(crate) burst_max: u32,
}

#[derive(Debug)]
pub(crate) struct RateLimit {
    rate: Rate,
    buckets: HashMap<DeviceId, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refilled(self, rate: Rate, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(rate.per_s_max);
        (self.left + gained).min(f64::from(rate.burst_max))
    }
}

impl RateLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Takes `wanted` from the device's bucket if so much is in it.
    pub(crate) fn take(&mut self, device: DeviceId, wanted: usize, now: Instant) -> bool {
        self.make_room(device, now);
        let full = Bucket { left: f64::from(self.rate.burst_max), at: now };
        let bucket = self.buckets.entry(device).or_insert(full);
        let left = bucket.refilled(self.rate, now);
        let wanted = u32::try_from(wanted.max(1)).unwrap_or(u32::MAX);
        let fits = left >= f64::from(wanted);
        *bucket = Bucket { left: if fits { left - f64::from(wanted) } else { left }, at: now };
        fits
    }

    fn make_room(&mut self, device: DeviceId, now: Instant) {
        if self.buckets.len() < DEVICES_MAX || self.buckets.contains_key(&device) {
            return;
        }
        let rate = self.rate;
        self.buckets.retain(|_, bucket| bucket.refilled(rate, now) < f64::from(rate.burst_max));
        if self.buckets.len() >= DEVICES_MAX {
            self.buckets.clear();
        }
    }
}

/// How long an empty bucket of records takes to be full again.
#[cfg(test)]
const REFILL: Duration = Duration::from_secs((RECORDS.burst_max / RECORDS.per_s_max) as u64 + 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u64) -> DeviceId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        DeviceId::new(bytes)
    }

    #[test]
    fn a_device_stores_its_burst_then_its_rate() {
        let (mut limit, start) = (RateLimit::new(RECORDS), Instant::now());
        let burst = (0..).take_while(|_| limit.take(device(1), 64, start)).count();
        assert_eq!(burst, RECORDS.burst_max as usize / 64);
        assert!(limit.take(device(2), 64, start), "another device is not slowed");
        let later = start + Duration::from_secs(1);
        let after = (0..).take_while(|_| limit.take(device(1), 1, later)).count();
        assert_eq!(after, RECORDS.per_s_max as usize);
    }

    #[test]
    fn crash_reports_and_telemetry_have_rates_of_their_own() {
        for rate in [CRASHES, TELEMETRY] {
            let (mut limit, start) = (RateLimit::new(rate), Instant::now());
            assert!(rate.burst_max as usize >= 64 * CRASH_WEIGHT && rate.per_s_max as usize >= CRASH_WEIGHT);
            assert_eq!(
                (0..).take_while(|_| limit.take(device(1), 1, start)).count(),
                rate.burst_max as usize
            );
            let later = start + Duration::from_secs(1);
            assert_eq!(
                (0..).take_while(|_| limit.take(device(1), 1, later)).count(),
                rate.per_s_max as usize
            );
        }
    }

    #[test]
    fn an_empty_message_costs_as_much_as_a_record() {
        let (mut limit, now) = (RateLimit::new(RECORDS), Instant::now());
        let taken = (0..).take_while(|_| limit.take(device(1), 0, now)).count();
        assert_eq!(taken, RECORDS.burst_max as usize);
    }

    #[test]
    fn memory_is_bounded_by_devices_that_are_busy() {
        let (mut limit, start) = (RateLimit::new(RECORDS), Instant::now());
        for n in 0..DEVICES_MAX as u64 {
            limit.take(device(n), 1, start);
        }
        assert_eq!(limit.buckets.len(), DEVICES_MAX);
        limit.take(device(u64::MAX), 1, start + REFILL);
        assert_eq!(limit.buckets.len(), 1);
        for n in 0..=DEVICES_MAX as u64 {
            limit.take(device(n), 1, start + REFILL);
        }
        assert!(limit.buckets.len() <= DEVICES_MAX);
    }
}
