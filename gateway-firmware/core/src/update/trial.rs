//! Whether a version on trial is kept: one pure decision from its policy, its starts, its life and the time.
//!
//! A silent server never reverts an application: nothing here knows whether the link is up.

use wire::manifest::{Confirm, UpdatePolicy};
use wire::msg::UpdateReason;

use crate::ports::Life;
use crate::supervise::Uptime;

/// What to do with the version on trial now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before this time.
    Wait {
        until_ms: u64,
    },
    Keep,
    /// It ended and has starts left.
    Restart,
    TakeBack(UpdateReason),
}

/// `attempts` counts the start whose `uptime` this is.
pub fn judge(policy: &UpdatePolicy, attempts: u8, life: Life, uptime: Uptime, now_ms: u64) -> Verdict {
    let ended = match life {
        Life::Running => return judge_running(policy, uptime, now_ms),
        Life::Hung => UpdateReason::Hung,
        Life::Crashed | Life::Stopped => UpdateReason::Crashed,
    };
    if attempts >= policy.attempts_max { Verdict::TakeBack(ended) } else { Verdict::Restart }
}

fn judge_running(policy: &UpdatePolicy, uptime: Uptime, now_ms: u64) -> Verdict {
    let good_since_ms = match policy.confirm {
        Confirm::Running => Some((uptime.since_ms, 0)),
        Confirm::Healthy => uptime.healthy_ms.map(|since_ms| (since_ms, uptime.held_before_healthy_ms)),
    };
    // While a debugger holds it it proves nothing: that time is added.
    let stable_ms = |(since_ms, held_before_ms): (u64, u64)| {
        let held_ms = uptime.held_until_ms(now_ms).saturating_sub(held_before_ms);
        after(since_ms, policy.stable_s).saturating_add(held_ms)
    };
    match good_since_ms.map(stable_ms) {
        Some(_) if uptime.held_since_ms.is_some() => judge_held(policy, uptime, now_ms),
        Some(stable_ms) if now_ms >= stable_ms => Verdict::Keep,
        Some(stable_ms) => Verdict::Wait { until_ms: stable_ms },
        None if now_ms >= after(uptime.since_ms, policy.trial_s) => {
            Verdict::TakeBack(UpdateReason::NeverHealthy)
        }
        None => Verdict::Wait { until_ms: after(uptime.since_ms, policy.trial_s) },
    }
}

/// Good so far, and held by a debugger. It is not kept while it is; and it is not held for ever either, or a session that was forgotten would
/// be in the way of every update to come.
fn judge_held(policy: &UpdatePolicy, uptime: Uptime, now_ms: u64) -> Verdict {
    let until_ms = after(after(uptime.since_ms, policy.trial_s), policy.stable_s);
    if now_ms < until_ms {
        return Verdict::Wait { until_ms };
    }
    Verdict::TakeBack(UpdateReason::Inconclusive)
}

/// So many seconds after a time in milliseconds.
pub(crate) fn after(since_ms: u64, seconds: u32) -> u64 {
    since_ms.saturating_add(u64::from(seconds) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: UpdatePolicy = UpdatePolicy {
        trial_s: 60,
        stable_s: 10,
        confirm: Confirm::Healthy,
        attempts_max: 3,
        polite_s: 0,
        commit_after_s: None,
    };

    fn up(healthy_ms: Option<u64>) -> Uptime {
        Uptime { since_ms: 1000, healthy_ms, ..Uptime::default() }
    }

    #[test]
    fn healthy_and_then_stable_is_kept_and_not_a_moment_before() {
        let judge = |now_ms| judge(&POLICY, 1, Life::Running, up(Some(5000)), now_ms);
        assert_eq!(judge(14_999), Verdict::Wait { until_ms: 15_000 });
        assert_eq!(judge(15_000), Verdict::Keep);
    }

    #[test]
    fn what_a_debugger_holds_proves_nothing_and_gains_no_time_to_become_healthy() {
        let judge = |uptime, now_ms| judge(&POLICY, 1, Life::Running, uptime, now_ms);
        let held = Uptime { held_ms: 3000, held_before_healthy_ms: 1000, ..up(Some(5000)) };
        assert_eq!(judge(held, 16_999), Verdict::Wait { until_ms: 17_000 });
        assert_eq!(judge(held, 17_000), Verdict::Keep);
        let still = Uptime { held_since_ms: Some(14_000), ..held };
        assert_eq!(judge(still, 70_999), Verdict::Wait { until_ms: 71_000 });
        assert_eq!(judge(still, 71_000), Verdict::TakeBack(UpdateReason::Inconclusive));
        let never = Uptime { held_ms: 50_000, held_since_ms: Some(2000), ..up(None) };
        assert_eq!(judge(never, 61_000), Verdict::TakeBack(UpdateReason::NeverHealthy));
    }

    #[test]
    fn never_healthy_is_taken_back_at_the_deadline() {
        let judge = |now_ms| judge(&POLICY, 1, Life::Running, up(None), now_ms);
        assert_eq!(judge(60_999), Verdict::Wait { until_ms: 61_000 });
        assert_eq!(judge(61_000), Verdict::TakeBack(UpdateReason::NeverHealthy));
    }

    #[test]
    fn merely_running_is_enough_where_the_manifest_says_so() {
        let policy = UpdatePolicy { confirm: Confirm::Running, ..POLICY };
        assert_eq!(judge(&policy, 1, Life::Running, up(None), 10_999), Verdict::Wait { until_ms: 11_000 });
        assert_eq!(judge(&policy, 1, Life::Running, up(None), 11_000), Verdict::Keep);
    }

    #[test]
    fn it_is_started_attempts_max_times_and_then_taken_back_for_what_it_did_last() {
        for (life, reason) in [(Life::Crashed, UpdateReason::Crashed), (Life::Hung, UpdateReason::Hung)] {
            assert_eq!(judge(&POLICY, 2, life, up(Some(1)), 2000), Verdict::Restart);
            assert_eq!(judge(&POLICY, 3, life, up(Some(1)), 2000), Verdict::TakeBack(reason));
        }
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let policy = UpdatePolicy { trial_s: u32::MAX, stable_s: u32::MAX, ..POLICY };
        let uptime = Uptime { since_ms: u64::MAX, healthy_ms: Some(u64::MAX), ..Uptime::default() };
        assert_eq!(judge(&policy, 1, Life::Running, uptime, u64::MAX), Verdict::Keep);
    }
}
