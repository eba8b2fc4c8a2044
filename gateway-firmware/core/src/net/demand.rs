//! Whether to be connected, and why: one pure decision from what the device has to do and what its application wants.
//!
//! Always holds: the device is connected, or tries to be, while there is a reason to; while its manifest says nothing else
//! that is always. It leaves only when there was no reason for the whole grace, so that connections are never made and left
//! faster than that, whatever the application does; and it comes back when it was away for as long as its manifest allows.

use wire::manifest::ConnectivityPolicy;

use crate::ports::NetworkDemand;

/// Shortest grace, whatever the manifest says.
pub const GRACE_MIN_S: u32 = 5;
/// Log records and telemetry prolong a check-in by so much at most: an application that never stops talking does not hold it.
pub const CHECK_IN_MORE_MS: u64 = 60_000;

/// How the network is, in the numbers applications know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum NetworkStatus {
    /// Nobody needs a connection now.
    DeliberatelyOffline = 0,
    /// The services are there.
    Connected = 1,
    /// A connection is being made.
    #[default]
    Connecting = 2,
    /// The next attempt waits for its time.
    DisconnectedWithLinkUp = 3,
}

/// Why the device is connected or wants to be: bits, in the numbers applications know.
pub mod reason {
    /// The application holds a request.
    pub const USING_NETWORK: u32 = 0x1;
    /// The application never said what it wants.
    pub const NEVER_USED_NETWORK_API: u32 = 0x2;
    /// The device must be heard of again.
    pub const MINIMUM_CHECK_IN_EXPIRED: u32 = 0x4;
    /// No signed time was heard in this boot.
    pub const RTC_NOT_SET: u32 = 0x8;
    /// A crash report or a result waits to be acknowledged.
    pub const APPLICATION_ERROR: u32 = 0x20;
    /// No hello was answered in this boot.
    pub const COLD_BOOT_CONNECTION: u32 = 0x40;
    /// An update is fetched or tried.
    pub const FETCHING_UPDATE: u32 = 0x80;
    /// A debug session is open.
    pub const DEBUGGER_ATTACHED: u32 = 0x100;
    /// There is no application.
    pub const NO_APPLICATION_CODE: u32 = 0x200;
    /// The next attempt waits: those before it failed.
    pub const ENHANCE_CALM: u32 = 0x800;
}

/// What an application may know of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Network {
    pub status: NetworkStatus,
    /// Bits of [`reason`].
    pub reasons: u32,
    /// Requests the application holds.
    pub requests: u32,
}

impl Network {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self { status: NetworkStatus::Connecting, reasons: 0, requests: 0 }
    }
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Of the running version.
    pub policy: ConnectivityPolicy,
    /// None: there is no application.
    pub app: Option<NetworkDemand>,
    /// A signed time was heard in this boot.
    pub time_known: bool,
    /// A crash report or a result waits to be acknowledged.
    pub owes: bool,
    /// An update is fetched, waits for its `go`, or is tried.
    pub updating: bool,
    /// A debug session is open.
    pub debugging: bool,
    /// The session is up.
    pub online: bool,
    /// And its hello was answered.
    pub settled: bool,
    /// Log records, telemetry or memory of a crash wait.
    pub busy: bool,
}

/// The decision, as far as it has a memory.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    wanted: bool,
    reasons: u32,
    /// No hello was answered in this boot.
    cold: bool,
    /// Since when nothing speaks for a connection.
    idle_since_ms: Option<u64>,
    /// When the session was last up.
    online_ms: u64,
    checking_in: bool,
    /// Since when the check-in under way has its answer.
    settled_ms: Option<u64>,
    next_ms: u64,
}

impl Demand {
    /// A boot wants to be heard of.
    pub const fn new() -> Self {
        Self {
            wanted: true,
            reasons: reason::COLD_BOOT_CONNECTION,
            cold: true,
            idle_since_ms: None,
            online_ms: 0,
            checking_in: false,
            settled_ms: None,
            next_ms: u64::MAX,
        }
    }

    /// Looks at everything; whether to be connected now.
    pub fn look(&mut self, now_ms: u64, needs: &Needs) -> bool {
        if needs.online {
            self.online_ms = now_ms;
            self.cold &= !needs.settled;
        }
        self.check_in(now_ms, needs);
        self.reasons = self.reasons_now(needs);
        if self.reasons != 0 {
            (self.wanted, self.idle_since_ms) = (true, None);
        } else if self.wanted {
            let since_ms = *self.idle_since_ms.get_or_insert(now_ms);
            self.wanted = now_ms < since_ms + grace_ms(&needs.policy);
        }
        self.next_ms = self.next_after(needs);
        self.wanted
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Bits of [`reason`].
    pub fn reasons(&self) -> u32 {
        self.reasons
    }

    /// When `look` may change its answer without an event.
    pub fn deadline_ms(&self) -> u64 {
        self.next_ms
    }

    /// Begins when the device was away too long, and ends when it was heard and has told what there was to tell.
    fn check_in(&mut self, now_ms: u64, needs: &Needs) {
        if self.checking_in && needs.online && needs.settled {
            let since_ms = *self.settled_ms.get_or_insert(now_ms);
            self.checking_in = needs.busy && now_ms < since_ms + CHECK_IN_MORE_MS;
        } else if !self.checking_in && !needs.online && now_ms >= self.check_in_ms(&needs.policy) {
            (self.checking_in, self.settled_ms) = (true, None);
        }
    }

    fn check_in_ms(&self, policy: &ConnectivityPolicy) -> u64 {
        self.online_ms.saturating_add(u64::from(policy.check_in_s) * 1000)
    }

    fn reasons_now(&self, needs: &Needs) -> u32 {
        let always = needs.policy.check_in_s == 0;
        let app = match needs.app {
            None => reason::NO_APPLICATION_CODE,
            Some(NetworkDemand::NeverAsked) => reason::NEVER_USED_NETWORK_API,
            Some(NetworkDemand::Requests(0)) => 0,
            Some(NetworkDemand::Requests(_)) => reason::USING_NETWORK,
        };
        let when = |holds: bool, bit: u32| if holds { bit } else { 0 };
        app | when(always || self.checking_in, reason::MINIMUM_CHECK_IN_EXPIRED)
            | when(!needs.time_known, reason::RTC_NOT_SET)
            | when(needs.owes, reason::APPLICATION_ERROR)
            | when(self.cold, reason::COLD_BOOT_CONNECTION)
            | when(needs.updating, reason::FETCHING_UPDATE)
            | when(needs.debugging, reason::DEBUGGER_ATTACHED)
    }

    fn next_after(&self, needs: &Needs) -> u64 {
        let grace_ms = self.idle_since_ms.filter(|_| self.wanted).map(|ms| ms + grace_ms(&needs.policy));
        let told = self.checking_in && needs.online && needs.settled;
        let more_ms = self.settled_ms.filter(|_| told).map(|ms| ms + CHECK_IN_MORE_MS);
        let check_in_ms = (!self.wanted).then(|| self.check_in_ms(&needs.policy));
        [grace_ms, more_ms, check_in_ms].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

impl Default for Demand {
    fn default() -> Self {
        Self::new()
    }
}

fn grace_ms(policy: &ConnectivityPolicy) -> u64 {
    u64::from(policy.grace_s.max(GRACE_MIN_S)) * 1000
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const POLICY: ConnectivityPolicy = ConnectivityPolicy { check_in_s: 600, grace_s: 10 };
    /// An application that needs nothing, on a device that has nothing to do.
    const QUIET: Needs = Needs {
        policy: POLICY,
        app: Some(NetworkDemand::Requests(0)),
        time_known: true,
        owes: false,
        updating: false,
        debugging: false,
        online: true,
        settled: true,
        busy: false,
    };

    /// A device that has left at this time.
    fn away() -> (Demand, u64) {
        let mut demand = Demand::new();
        assert!(demand.look(0, &QUIET));
        assert_eq!(demand.deadline_ms(), 10_000);
        assert!(demand.look(9_999, &QUIET));
        assert!(!demand.look(10_000, &QUIET));
        (demand, 10_000)
    }

    #[test]
    fn every_reason_connects_at_once_and_has_its_bit() {
        type Case = (fn(&mut Needs), u32);
        let cases: [Case; 8] = [
            (|needs| needs.debugging = true, reason::DEBUGGER_ATTACHED),
            (|needs| needs.app = Some(NetworkDemand::NeverAsked), reason::NEVER_USED_NETWORK_API),
            (|needs| needs.app = Some(NetworkDemand::Requests(2)), reason::USING_NETWORK),
            (|needs| needs.app = None, reason::NO_APPLICATION_CODE),
            (|needs| needs.time_known = false, reason::RTC_NOT_SET),
            (|needs| needs.owes = true, reason::APPLICATION_ERROR),
            (|needs| needs.updating = true, reason::FETCHING_UPDATE),
            (|needs| needs.policy.check_in_s = 0, reason::MINIMUM_CHECK_IN_EXPIRED),
        ];
        for (change, bit) in cases {
            let (mut demand, now_ms) = away();
            let mut needs = Needs { online: false, settled: false, ..QUIET };
            assert!(!demand.look(now_ms + 1, &needs), "{bit:#x}");
            change(&mut needs);
            assert!(demand.look(now_ms + 2, &needs), "{bit:#x}");
            assert_eq!(demand.reasons() & bit, bit);
        }
    }

    #[test]
    fn a_boot_stays_until_its_hello_was_answered() {
        let mut demand = Demand::new();
        let unheard = Needs { settled: false, ..QUIET };
        assert!(demand.look(3_600_000, &unheard));
        assert_eq!(demand.reasons(), reason::COLD_BOOT_CONNECTION);
        assert!(demand.look(3_600_001, &QUIET));
        assert!(!demand.look(3_610_001, &QUIET));
    }

    #[test]
    fn a_check_in_comes_in_time_and_lasts_until_it_was_heard_and_told_all() {
        let (mut demand, left_ms) = away();
        let mut needs = Needs { online: false, settled: false, busy: true, ..QUIET };
        demand.look(left_ms, &needs);
        let due_ms = demand.deadline_ms();
        assert_eq!(due_ms, left_ms + 600_000);
        assert!(!demand.look(due_ms - 1, &needs));
        assert!(demand.look(due_ms, &needs));
        assert!(demand.look(due_ms + 3_600_000, &needs), "as long as it takes");
        needs.online = true;
        let mut now_ms = due_ms + 3_600_001;
        assert!(demand.look(now_ms, &needs));
        needs.settled = true;
        demand.look(now_ms, &needs);
        assert_eq!(demand.reasons(), reason::MINIMUM_CHECK_IN_EXPIRED);
        assert_eq!(demand.deadline_ms(), now_ms + CHECK_IN_MORE_MS);
        now_ms += CHECK_IN_MORE_MS;
        assert!(demand.look(now_ms, &needs), "the grace");
        assert_eq!(demand.reasons(), 0);
        assert!(!demand.look(now_ms + 10_000, &needs));
    }

    #[test]
    fn a_release_starts_the_grace_anew() {
        let mut demand = Demand::new();
        let holding = Needs { app: Some(NetworkDemand::Requests(1)), ..QUIET };
        for now_ms in (0..100_000).step_by(9_000) {
            assert!(demand.look(now_ms, &QUIET));
            assert!(demand.look(now_ms + 1_000, &holding));
        }
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let policy = ConnectivityPolicy { check_in_s: u32::MAX, grace_s: u32::MAX };
        let mut demand = Demand::new();
        demand.look(1 << 60, &Needs { policy, ..QUIET });
        demand.look(1 << 61, &Needs { policy, online: false, ..QUIET });
    }

    prop_compose! {
        fn step()(
            wait_ms in 0_u64..20_000,
            app in prop_oneof![
                Just(None),
                Just(Some(NetworkDemand::NeverAsked)),
                (0_u32..2).prop_map(|count| Some(NetworkDemand::Requests(count))),
            ],
            flags in any::<[bool; 7]>(),
        ) -> (u64, Option<NetworkDemand>, [bool; 7]) {
            (wait_ms, app, flags)
        }
    }

    proptest! {
        /// Whatever happens: never faster than the grace, never away while something must be said or for too long.
        #[test]
        fn connections_are_not_made_and_left_faster_than_the_grace(
            steps in proptest::collection::vec(step(), 1..200),
            check_in_s in 1_u32..120,
            grace_s in 0_u32..30,
        ) {
            let policy = ConnectivityPolicy { check_in_s, grace_s };
            let (mut demand, mut now_ms, mut was) = (Demand::new(), 0, true);
            let (mut edges, mut away_since_ms) = (Vec::new(), None);
            for (wait_ms, app, [time_known, owes, updating, debugging, up, settled, busy]) in steps {
                now_ms += wait_ms.min(demand.deadline_ms().saturating_sub(now_ms));
                let online = up && was;
                let needs =
                    Needs { policy, app, time_known, owes, updating, debugging, online, settled, busy };
                let wanted = demand.look(now_ms, &needs);
                if wanted != was {
                    edges.push((now_ms, wanted));
                    was = wanted;
                }
                prop_assert!(wanted || !(owes || updating || debugging || !time_known || app.is_none()));
                prop_assert!(wanted || demand.reasons() == 0);
                if wanted {
                    away_since_ms = None;
                } else {
                    let since_ms: u64 = *away_since_ms.get_or_insert(now_ms);
                    prop_assert!(now_ms < since_ms + u64::from(check_in_s) * 1000);
                }
            }
            for pair in edges.windows(2) {
                if let [(made_ms, true), (left_ms, false)] = pair {
                    prop_assert!(left_ms - made_ms >= grace_ms(&policy));
                }
            }
        }

        #[test]
        fn a_manifest_that_says_nothing_keeps_the_device_connected(
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let (mut demand, mut now_ms) = (Demand::new(), 0);
            for (wait_ms, app, [time_known, owes, updating, debugging, online, settled, busy]) in steps {
                now_ms += wait_ms;
                let policy = ConnectivityPolicy::default();
                let needs =
                    Needs { policy, app, time_known, owes, updating, debugging, online, settled, busy };
                prop_assert!(demand.look(now_ms, &needs));
            }
        }
    }
}
