//! How many records a second one device may store, per replica: a token bucket each.
//!
//! What is refused is not acknowledged, so an honest device sends it later. Memory is bounded: buckets that are full
//! again are forgotten, and if every bucket is in use, all start anew.

use std::collections::HashMap;
#[cfg(test)]
use std::time::Duration;
use std::time::Instant;

use wire::DeviceId;

/// Records a second one device may store for long.
pub(crate) const RECORDS_PER_S_MAX: u32 = 500;
/// Records it may store at once: a ring sent after hours without a connection.
pub(crate) const BURST_RECORDS_MAX: u32 = 8192;
/// Devices whose rate is remembered.
pub(crate) const DEVICES_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    buckets: HashMap<DeviceId, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refilled(self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(RECORDS_PER_S_MAX);
        (self.left + gained).min(f64::from(BURST_RECORDS_MAX))
    }
}

impl RateLimit {
    /// Takes `records` from the device's bucket if they are in it.
    pub(crate) fn take(&mut self, device: DeviceId, records: usize, now: Instant) -> bool {
        self.make_room(device, now);
        let full = Bucket { left: f64::from(BURST_RECORDS_MAX), at: now };
        let bucket = self.buckets.entry(device).or_insert(full);
        let left = bucket.refilled(now);
        let wanted = u32::try_from(records.max(1)).unwrap_or(u32::MAX);
        let fits = left >= f64::from(wanted);
        *bucket = Bucket { left: if fits { left - f64::from(wanted) } else { left }, at: now };
        fits
    }

    fn make_room(&mut self, device: DeviceId, now: Instant) {
        if self.buckets.len() < DEVICES_MAX || self.buckets.contains_key(&device) {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.refilled(now) < f64::from(BURST_RECORDS_MAX));
        if self.buckets.len() >= DEVICES_MAX {
            self.buckets.clear();
        }
    }
}

/// How long an empty bucket takes to be full again.
#[cfg(test)]
const REFILL: Duration = Duration::from_secs((BURST_RECORDS_MAX / RECORDS_PER_S_MAX) as u64 + 1);

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
        let (mut limit, start) = (RateLimit::default(), Instant::now());
        let burst = (0..).take_while(|_| limit.take(device(1), 64, start)).count();
        assert_eq!(burst, BURST_RECORDS_MAX as usize / 64);
        assert!(limit.take(device(2), 64, start), "another device is not slowed");
        let later = start + Duration::from_secs(1);
        let after = (0..).take_while(|_| limit.take(device(1), 1, later)).count();
        assert_eq!(after, RECORDS_PER_S_MAX as usize);
    }

    #[test]
    fn an_empty_message_costs_as_much_as_a_record() {
        let (mut limit, now) = (RateLimit::default(), Instant::now());
        let taken = (0..).take_while(|_| limit.take(device(1), 0, now)).count();
        assert_eq!(taken, BURST_RECORDS_MAX as usize);
    }

    #[test]
    fn memory_is_bounded_by_devices_that_are_busy() {
        let (mut limit, start) = (RateLimit::default(), Instant::now());
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
