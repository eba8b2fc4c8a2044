//! An application that is not seen to live: hung, or flooded with interrupts.
//!
//! The board says what it saw whenever it took the core from the application. One that was long seen only in handlers is put to
//! the proof: it runs on for a while without interrupts. One that then comes out of its handlers was flooded with them; one that
//! does not, hangs in one. Either ends: what it was interrupted with did not let its threads run.

use wire::msg::CrashKind;

/// An application that in all this time was seen only inside its handlers, or with interrupts off, and made no call, is ended.
pub const SILENT_US: u64 = 10_000_000;
/// How long it is then left without interrupts, to come out of its handlers.
pub const PROOF_US: u64 = 100_000;

/// What the application was seen to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Calls us, waits for an interrupt, or runs a thread with interrupts on.
    Lives,
    /// Runs a thread with interrupts off.
    Masked,
    Handles,
}

/// What it was seen to do until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    lived_us: u64,
    proof_since_us: Option<u64>,
    ended: Option<CrashKind>,
}

impl Silence {
    /// It starts.
    pub const fn new(now_us: u64) -> Self {
        Self { lived_us: now_us, proof_since_us: None, ended: None }
    }

    /// It was seen. By what it has ended, if it has.
    pub fn seen(&mut self, sight: Sight, now_us: u64) -> Option<CrashKind> {
        if self.ended.is_none() {
            self.ended = match self.proof_since_us {
                Some(since_us) => proven(sight, now_us.saturating_sub(since_us)),
                None => self.judged(sight, now_us),
            };
        }
        self.ended
    }

    /// By what it has ended, if it has.
    pub fn ended(&self) -> Option<CrashKind> {
        self.ended
    }

    /// It runs without interrupts.
    pub fn is_on_proof(&self) -> bool {
        self.proof_since_us.is_some()
    }

    fn judged(&mut self, sight: Sight, now_us: u64) -> Option<CrashKind> {
        let silent = now_us.saturating_sub(self.lived_us) > SILENT_US;
        match sight {
            Sight::Lives => self.lived_us = now_us,
            Sight::Masked if silent => return Some(CrashKind::Hung),
            Sight::Handles if silent => self.proof_since_us = Some(now_us),
            Sight::Masked | Sight::Handles => {}
        }
        None
    }
}

fn proven(sight: Sight, on_proof_us: u64) -> Option<CrashKind> {
    match sight {
        Sight::Lives => Some(CrashKind::InterruptFlood),
        Sight::Masked => Some(CrashKind::Hung),
        Sight::Handles => (on_proof_us >= PROOF_US).then_some(CrashKind::Hung),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE_US: u64 = SILENT_US + 1;

    #[test]
    fn an_application_that_lives_now_and_then_is_never_ended() {
        let mut silence = Silence::new(0);
        for turn in 0..10 {
            let at_us = turn * SILENT_US;
            assert_eq!(silence.seen(Sight::Masked, at_us + SILENT_US / 3), None);
            assert_eq!(silence.seen(Sight::Handles, at_us + SILENT_US / 2), None);
            assert_eq!(silence.seen(Sight::Lives, at_us + SILENT_US), None);
            assert!(!silence.is_on_proof());
        }
    }

    #[test]
    fn interrupts_off_for_long_is_a_hang() {
        let mut silence = Silence::new(5);
        assert_eq!(silence.seen(Sight::Masked, 5 + SILENT_US), None);
        assert_eq!(silence.seen(Sight::Masked, 5 + LATE_US), Some(CrashKind::Hung));
        assert_eq!(silence.seen(Sight::Lives, 5 + LATE_US + 1), Some(CrashKind::Hung), "it has ended");
    }

    #[test]
    fn a_handler_that_does_not_end_without_interrupts_either_hangs() {
        let mut silence = Silence::new(0);
        assert_eq!(silence.seen(Sight::Handles, LATE_US), None);
        assert!(silence.is_on_proof());
        assert_eq!(silence.seen(Sight::Handles, LATE_US + PROOF_US - 1), None);
        assert_eq!(silence.seen(Sight::Handles, LATE_US + PROOF_US), Some(CrashKind::Hung));
    }

    #[test]
    fn handlers_that_end_when_no_other_begins_are_a_flood() {
        let mut silence = Silence::new(0);
        assert_eq!(silence.seen(Sight::Handles, LATE_US), None);
        assert_eq!(silence.seen(Sight::Lives, LATE_US + 1), Some(CrashKind::InterruptFlood));
        assert_eq!(silence.ended(), Some(CrashKind::InterruptFlood));
    }

    #[test]
    fn a_thread_that_had_interrupts_off_under_the_flood_hangs() {
        let mut silence = Silence::new(0);
        silence.seen(Sight::Handles, LATE_US);
        assert_eq!(silence.seen(Sight::Masked, LATE_US + 1), Some(CrashKind::Hung));
    }
}
