//! What a device reports of itself, and which report counts.
//!
//! Reports are ordered by (boot counter, sequence), never by arrival, and where counters went back by which boot is proved to be the current
//! one (`lives`): an older one changes nothing. One that says
//! nothing new changes nothing either. Presence goes by the pair (boot, connection): a will ends only the
//! connection it was left for.

use super::device::Slot;
use super::field::Invalid;
use super::lives::{Boot, Challenge, Place};

/// Slots in one hello: two for each of two components, and room to grow.
pub(crate) const SLOTS_MAX: usize = 8;

/// Why a boot happened; the order is the wire's numbering.
pub(crate) const BOOT_REASONS: [&str; 6] =
    ["unspecified", "power_on", "watchdog", "software", "fault", "update"];

/// Where a hello stands among a device's hellos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub boot_count: u32,
    pub boot_random: u64,
    pub connection: u32,
    pub sequence: u32,
}

impl Order {
    pub(crate) fn boot(&self) -> Boot {
        Boot { count: self.boot_count, random: self.boot_random }
    }

    /// Later in the device's life; `place` is that of this boot.
    pub(crate) fn newer_than(&self, other: &Order, place: Place) -> bool {
        let counted = (self.boot_count, self.sequence) > (other.boot_count, other.sequence);
        match place {
            _ if self.boot() == other.boot() => self.sequence > other.sequence,
            Place::Counted => counted,
            Place::Newest => true,
            Place::Over | Place::Unproven => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub order: Order,
    /// One of [`BOOT_REASONS`].
    pub boot_reason: &'static str,
    pub board: String,
    pub microvisor_version: String,
    pub slots: Vec<Slot>,
    pub app_floor: i64,
    pub keyset_version: i32,
}

/// A message on `up/hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// With the challenge it answers.
    Hello(Report, Option<Challenge>),
    /// The broker speaks for a connection that broke.
    Will(Order),
}

impl Report {
    /// Nothing new, place in the order aside; a new boot is something new.
    pub(crate) fn says_the_same_as(&self, other: &Report) -> bool {
        let order =
            Order { connection: other.order.connection, sequence: other.order.sequence, ..self.order };
        order == other.order
            && self.boot_reason == other.boot_reason
            && self.board == other.board
            && self.microvisor_version == other.microvisor_version
            && self.slots == other.slots
            && self.app_floor == other.app_floor
            && self.keyset_version == other.keyset_version
    }

    /// Version of the running application.
    pub(crate) fn app_version(&self) -> Option<&str> {
        self.slots.iter().find(|s| s.running && s.component == "app").map(|s| s.version.as_str())
    }
}

/// A number from outside that Postgres keeps in 64 signed bits.
pub(crate) fn number(field: &'static str, value: u64) -> Result<i64, Invalid> {
    i64::try_from(value).map_err(|_| Invalid::new(field, "must be below 2^63"))
}

/// The latest in the device's life of what one batch brought, by what is proved of its boots.
pub(crate) fn newest(reports: Vec<Report>, place: impl Fn(&Report) -> Place) -> Option<Report> {
    let later = |next: &Report, best: &Report| match (place(next), place(best)) {
        (Place::Over, _) => false,
        (_, Place::Over) => true,
        (place, _) => next.order.newer_than(&best.order, place),
    };
    reports.into_iter().reduce(|best, next| if later(&next, &best) { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(boot_count: u32, sequence: u32) -> Report {
        Report {
            order: Order { boot_count, boot_random: 7, connection: 1, sequence },
            boot_reason: "power_on",
            board: "host".into(),
            microvisor_version: "0.1.0".into(),
            slots: vec![],
            app_floor: 0,
            keyset_version: 1,
        }
    }

    #[test]
    fn hellos_are_ordered_by_boot_then_sequence() {
        let newer = |a: (u32, u32), b: (u32, u32)| {
            report(a.0, a.1).order.newer_than(&report(b.0, b.1).order, Place::Counted)
        };
        assert!(newer((1, 2), (1, 1)));
        assert!(newer((2, 1), (1, 9)));
        assert!(!newer((1, 1), (1, 1)));
        assert!(!newer((1, 9), (2, 1)));
    }

    #[test]
    fn where_counters_went_back_the_proved_boot_is_the_later_one() {
        let newer = |a: (u32, u32), b: (u32, u32), place| {
            report(a.0, a.1).order.newer_than(&report(b.0, b.1).order, place)
        };
        assert!(newer((1, 2), (9, 7), Place::Newest));
        assert!(!newer((1, 2), (1, 2), Place::Newest), "of one boot the sequence counts");
        for place in [Place::Over, Place::Unproven] {
            assert!(!newer((9, 7), (1, 2), place), "{place:?}");
        }
    }

    #[test]
    fn of_a_batch_the_latest_by_what_is_proved_counts_in_whatever_order_it_came() {
        let place = |report: &Report| match report.order.boot_count {
            3 => Place::Newest,
            40 => Place::Over,
            _ => Place::Unproven,
        };
        let of = |reports: &[(u32, u32)]| {
            let reports = reports.iter().map(|(count, sequence)| report(*count, *sequence)).collect();
            newest(reports, place).map(|report| (report.order.boot_count, report.order.sequence))
        };
        assert_eq!(of(&[(40, 99), (3, 4)]), Some((3, 4)));
        assert_eq!(of(&[(3, 4), (40, 99), (9, 1), (3, 3)]), Some((3, 4)));
        assert_eq!(of(&[(40, 1), (40, 2)]), Some((40, 1)), "none of them counts");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn only_news_is_news() {
        let old = report(1, 1);
        assert!(report(1, 2).says_the_same_as(&old));
        let mut reconnected = report(1, 3);
        reconnected.order.connection = 2;
        assert!(reconnected.says_the_same_as(&old));
        assert!(!report(2, 1).says_the_same_as(&old));
        assert!(!Report { keyset_version: 2, ..report(1, 2) }.says_the_same_as(&old));
    }
}
