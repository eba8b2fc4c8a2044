//! The application's life: whether it is up, since when, and when it is started again after it ended.
//!
//! A crash delays the next start, doubling from the manifest's shortest delay to its longest; once the application stayed
//! up for `hold_s` the delay is the shortest again. Whatever happens here, the link does not notice.

use wire::manifest::CrashPolicy;

use crate::mutation::mutated;
use crate::ports::{AppStatus, Life};
use crate::update::trial::after;

/// Delay before the next start of an application that did not hold, at least, whatever its manifest says: every start
/// costs the supervisor a copy of the image.
pub const DELAY_MIN_MS: u32 = 50;

/// How long the application has been up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uptime {
    /// When it was started.
    pub since_ms: u64,
    /// When it was first seen healthy.
    pub healthy_ms: Option<u64>,
    /// How long a debugger has held it, the present hold left out.
    pub held_ms: u64,
    /// The same when it was first seen healthy.
    pub held_before_healthy_ms: u64,
    /// A debugger holds it since.
    pub held_since_ms: Option<u64>,
}

impl Uptime {
    /// How long a debugger has held it until now.
    pub fn held_until_ms(&self, now_ms: u64) -> u64 {
        let present_ms = self.held_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        self.held_ms.saturating_add(present_ms)
    }
}

/// The application is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// There is nothing to start.
    #[default]
    Off,
    Up(Uptime),
    /// To be started at this time.
    Waits {
        until_ms: u64,
    },
}

/// The application's life.
#[derive(Debug, Clone, Copy, Default)]
pub struct Supervisor {
    phase: Phase,
    delay_ms: u32,
}

impl Supervisor {
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// There is nothing to start any more.
    pub fn off(&mut self) {
        *self = Supervisor::default();
    }

    /// It was started.
    pub fn started(&mut self, now_ms: u64) {
        self.phase = Phase::Up(Uptime { since_ms: now_ms, ..Uptime::default() });
    }

    /// It is to be started at this time.
    pub fn wait(&mut self, until_ms: u64) {
        self.phase = Phase::Waits { until_ms };
    }

    /// Looks at the running application; nothing when it is not up.
    pub fn observe(&mut self, status: AppStatus, now_ms: u64) -> Option<Uptime> {
        let Phase::Up(uptime) = &mut self.phase else { return None };
        if status.healthy && status.life == Life::Running {
            if uptime.healthy_ms.is_none() {
                uptime.held_before_healthy_ms = uptime.held_until_ms(now_ms);
            }
            uptime.healthy_ms.get_or_insert(now_ms);
        }
        Some(*uptime)
    }

    /// A debugger holds it, or does no more: what it does not run is not counted in its favour.
    pub fn hold(&mut self, held: bool, now_ms: u64) {
        let Phase::Up(uptime) = &mut self.phase else { return };
        if held {
            uptime.held_since_ms.get_or_insert(now_ms);
        } else {
            uptime.held_ms = uptime.held_until_ms(now_ms);
            uptime.held_since_ms = None;
        }
    }

    /// It ended by itself: waits for the delay its policy sets.
    pub fn ended(&mut self, policy: &CrashPolicy, now_ms: u64) {
        let doubled = if self.stayed(policy, now_ms) { 0 } else { self.delay_ms.saturating_mul(2) };
        self.delay_ms = doubled.min(policy.backoff_max_ms).max(policy.backoff_min_ms).max(DELAY_MIN_MS);
        self.wait(now_ms.saturating_add(self.delay_ms.into()));
    }

    /// It asked to be started anew: at once after a good while, and otherwise with the same delay as after a crash, so that
    /// an application which asks for ever costs no more than one that crashes for ever.
    pub fn asked(&mut self, policy: &CrashPolicy, now_ms: u64) {
        if self.stayed(policy, now_ms) || mutated!(RestartFlood) {
            self.delay_ms = 0;
            self.wait(now_ms);
        } else {
            self.ended(policy, now_ms);
        }
    }

    /// It stayed up for as long as its policy wants.
    fn stayed(&self, policy: &CrashPolicy, now_ms: u64) -> bool {
        matches!(self.phase, Phase::Up(uptime) if now_ms >= after(uptime.since_ms, policy.hold_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::NetworkDemand;

    const POLICY: CrashPolicy = CrashPolicy {
        backoff_min_ms: 100,
        backoff_max_ms: 350,
        hold_s: 10,
        debug_hold_s: 0,
        memory_bytes: 0,
    };

    /// Starts at `now_ms`, ends after `up_ms`; the delay before the next start.
    fn crash(supervisor: &mut Supervisor, now_ms: u64, up_ms: u64) -> u64 {
        supervisor.started(now_ms);
        supervisor.ended(&POLICY, now_ms + up_ms);
        match supervisor.phase() {
            Phase::Waits { until_ms } => until_ms - now_ms - up_ms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_delay_doubles_up_to_its_bound_and_is_short_again_after_a_good_while() {
        let mut supervisor = Supervisor::default();
        let delays = [1, 1, 1, 9_999, 10_000, 1].map(|up_ms| crash(&mut supervisor, 50, up_ms));
        assert_eq!(delays, [100, 200, 350, 350, 100, 200]);
    }

    #[test]
    fn a_restart_asked_for_comes_at_once_after_a_good_while_and_waits_like_a_crash_before() {
        let mut supervisor = Supervisor::default();
        let mut delay = |up_ms| {
            supervisor.started(0);
            supervisor.asked(&POLICY, up_ms);
            match supervisor.phase() {
                Phase::Waits { until_ms } => until_ms - up_ms,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([1, 1, 1, 10_000, 1].map(&mut delay), [100, 200, 350, 0, 100]);
    }

    #[test]
    fn a_policy_without_a_delay_gets_the_shortest() {
        let mut supervisor = Supervisor::default();
        supervisor.started(5);
        supervisor.ended(
            &CrashPolicy {
                backoff_min_ms: 0,
                backoff_max_ms: 0,
                hold_s: 0,
                debug_hold_s: 0,
                memory_bytes: 0,
            },
            5,
        );
        assert_eq!(supervisor.phase(), Phase::Waits { until_ms: 5 + u64::from(DELAY_MIN_MS) });
    }

    #[test]
    fn the_time_a_debugger_holds_it_is_counted() {
        let mut supervisor = Supervisor::default();
        let network = NetworkDemand::NeverAsked;
        let status = AppStatus { life: Life::Running, healthy: true, apply: false, network };
        supervisor.hold(true, 1);
        supervisor.started(5);
        for (held, now_ms) in [(true, 10), (true, 15), (false, 20), (false, 25)] {
            supervisor.hold(held, now_ms);
        }
        let uptime = supervisor.observe(status, 30).unwrap();
        assert_eq!((uptime.held_until_ms(30), uptime.held_before_healthy_ms), (10, 10));
        supervisor.hold(true, 40);
        let uptime = supervisor.observe(status, 45).unwrap();
        assert_eq!((uptime.held_until_ms(47), uptime.held_before_healthy_ms), (17, 10));
    }

    #[test]
    fn healthy_is_noted_once_and_only_of_a_running_application() {
        let mut supervisor = Supervisor::default();
        let network = NetworkDemand::NeverAsked;
        let status = |life| AppStatus { life, healthy: true, apply: false, network };
        assert_eq!(supervisor.observe(status(Life::Running), 1), None);
        supervisor.started(5);
        assert_eq!(supervisor.observe(status(Life::Crashed), 6).unwrap().healthy_ms, None);
        assert_eq!(supervisor.observe(status(Life::Running), 7).unwrap().healthy_ms, Some(7));
        assert_eq!(supervisor.observe(status(Life::Running), 8).unwrap().healthy_ms, Some(7));
    }
}
