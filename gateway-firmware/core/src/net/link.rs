//! Where to connect, with what, and when: the life of connections, one at a time.
//!
//! A board without an identity enrols with its claim. One whose certificate is in the last third of its life, has
//! ended, or was refused by the broker renews it with its birth certificate; when that fails it goes on with what it
//! has, and tries again later. The claim is the last resort of a board whose birth certificate is not taken.

use super::backoff::Backoff;
use super::enroll::Voucher;
use super::mqtt::Fault;

/// From a wish to dial until the board says how it went.
pub const DIAL_TIMEOUT_MS: u64 = 30_000;
/// A connection that lasted so long was a good one: the next attempt does not wait longer than the first did.
pub const STABLE_MS: u64 = 10_000;
/// After a renewal, whether it failed or not, the next is not tried before; a certificate that the broker refuses is renewed all the
/// same.
pub const RENEW_RETRY_MS: u64 = 10 * 60 * 1000;

/// MQTT 5 §3.2.2.2: not authorized, banned.
const CREDENTIAL_REASONS: [u8; 2] = [0x87, 0x8a];

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Enroll(Voucher),
    Serve,
}

/// How a connection, or the attempt at one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// No connection could be made.
    Unreachable,
    /// The other side does not take our certificate.
    CertificateRefused,
    /// We do not take the other side's certificate.
    ServerRefused,
    /// The byte stream ended.
    Lost,
    /// The MQTT machine gave up on it.
    Fault(Fault),
    /// We ended it: its purpose is fulfilled, or cannot be.
    Done,
    /// We ended it: nobody needs it now.
    NotNeeded,
}

impl End {
    fn is_credential(self) -> bool {
        match self {
            End::CertificateRefused => true,
            End::Fault(Fault::Refused(reason) | Fault::Disconnected(reason)) => {
                CREDENTIAL_REASONS.contains(&reason)
            }
            _ => false,
        }
    }
}

/// What the choice of a target depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    pub enrolled: bool,
    pub has_birth: bool,
    pub renewal_due: bool,
    /// No connection is to be made.
    pub unwanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting { until_ms: u64 },
    Dialing { target: Target, until_ms: u64 },
    Open { target: Target, since_ms: u64 },
}

/// The connection under way, or the wait for the next.
#[derive(Debug)]
pub struct Link {
    stage: Stage,
    epoch: u32,
    backoff: Backoff,
    /// The broker refused the leaf and nothing was done about it yet.
    refused: bool,
    /// The birth certificate was refused: the claim is next.
    birth_refused: bool,
    renew_from_ms: u64,
    /// As last seen.
    unwanted: bool,
}

impl Link {
    /// The first attempt comes at once.
    pub fn new() -> Self {
        Self {
            stage: Stage::Waiting { until_ms: 0 },
            epoch: 0,
            backoff: Backoff::default(),
            refused: false,
            birth_refused: false,
            renew_from_ms: 0,
            unwanted: false,
        }
    }

    /// What the board should have: its number changes whenever the stream it has is to be dropped.
    pub fn wish(&self) -> (u32, Option<Target>) {
        match self.stage {
            Stage::Waiting { .. } => (self.epoch, None),
            Stage::Dialing { target, .. } | Stage::Open { target, .. } => (self.epoch, Some(target)),
        }
    }

    /// The target of the open connection.
    pub fn open(&self) -> Option<Target> {
        match self.stage {
            Stage::Open { target, .. } => Some(target),
            _ => None,
        }
    }

    /// Starts a connection when its time has come; true when an attempt was given up.
    pub fn poll(&mut self, now_ms: u64, view: View) -> bool {
        self.unwanted = view.unwanted;
        match self.stage {
            Stage::Waiting { until_ms } if now_ms >= until_ms && !view.unwanted => {
                let target = self.choose(now_ms, view);
                self.epoch = self.epoch.wrapping_add(1);
                self.stage = Stage::Dialing { target, until_ms: now_ms + DIAL_TIMEOUT_MS };
                false
            }
            Stage::Dialing { until_ms, .. } => now_ms >= until_ms,
            _ => false,
        }
    }

    /// The board has the stream; false when it is not the one wished for.
    pub fn opened(&mut self, now_ms: u64, epoch: u32) -> Option<Target> {
        match self.stage {
            Stage::Dialing { target, .. } if epoch == self.epoch => {
                self.stage = Stage::Open { target, since_ms: now_ms };
                Some(target)
            }
            _ => None,
        }
    }

    /// The connection is over; the next one waits.
    pub fn ended(&mut self, now_ms: u64, end: End, random: u32) {
        let (target, since_ms) = match self.stage {
            Stage::Waiting { .. } => return,
            Stage::Dialing { target, .. } => (target, now_ms),
            Stage::Open { target, since_ms } => (target, since_ms),
        };
        if now_ms >= since_ms + STABLE_MS {
            self.backoff.reset();
        }
        match target {
            Target::Serve => self.refused |= end.is_credential(),
            Target::Enroll(voucher) => {
                self.refused = false;
                self.birth_refused = voucher == Voucher::Birth && end.is_credential();
                self.renew_from_ms = now_ms + RENEW_RETRY_MS;
            }
        }
        let wait_ms = self.backoff.next_ms(random);
        self.wait_until(now_ms + wait_ms);
    }

    /// Enrolment succeeded: on to the broker, at once. A certificate that is due as soon as it is new is used all the same: who signs
    /// times and who signs certificates may disagree for ever.
    pub fn enrolled(&mut self, now_ms: u64) {
        self.renew_from_ms = now_ms + RENEW_RETRY_MS;
        self.backoff.reset();
        (self.refused, self.birth_refused) = (false, false);
        self.wait_until(now_ms);
    }

    /// The enrolment service named the time of the next attempt.
    pub fn postponed(&mut self, now_ms: u64, wait_ms: u64) {
        self.refused = false;
        self.renew_from_ms = now_ms + wait_ms.max(RENEW_RETRY_MS);
        self.wait_until(now_ms + wait_ms);
    }

    /// Leaves the broker to renew the certificate.
    pub fn renew(&mut self, now_ms: u64) {
        self.renew_from_ms = now_ms;
        self.wait_until(now_ms);
    }

    /// Nobody needs a connection: the next is made at once when somebody does. An attempt that is given up is one that failed: whoever
    /// asks and lets go again does not dial faster.
    pub fn leave(&mut self, now_ms: u64, random: u32) {
        let wait_ms = match self.stage {
            Stage::Open { .. } => {
                self.backoff.reset();
                0
            }
            Stage::Waiting { .. } | Stage::Dialing { .. } => self.backoff.next_ms(random),
        };
        self.wait_until(now_ms + wait_ms);
    }

    /// Whether a due renewal may be tried again.
    pub fn may_renew(&self, now_ms: u64) -> bool {
        now_ms >= self.renew_from_ms
    }

    /// When `poll` has something to do.
    pub fn deadline_ms(&self) -> u64 {
        match self.stage {
            Stage::Waiting { .. } if self.unwanted => u64::MAX,
            Stage::Waiting { until_ms } | Stage::Dialing { until_ms, .. } => until_ms,
            Stage::Open { .. } => u64::MAX,
        }
    }

    fn choose(&self, now_ms: u64, view: View) -> Target {
        let renew = self.refused || view.renewal_due && self.may_renew(now_ms);
        match (view.enrolled, renew) {
            (false, _) => Target::Enroll(Voucher::Claim),
            (true, false) => Target::Serve,
            (true, true) if view.has_birth && !self.birth_refused => Target::Enroll(Voucher::Birth),
            (true, true) => Target::Enroll(Voucher::Claim),
        }
    }

    fn wait_until(&mut self, until_ms: u64) {
        self.epoch = self.epoch.wrapping_add(1);
        self.stage = Stage::Waiting { until_ms };
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENROLLED: View = View { enrolled: true, has_birth: true, renewal_due: false, unwanted: false };

    fn dial(link: &mut Link, now_ms: &mut u64, view: View) -> Target {
        *now_ms = (*now_ms).max(link.deadline_ms());
        link.poll(*now_ms, view);
        let (epoch, target) = link.wish();
        assert_eq!(link.opened(*now_ms, epoch), target);
        target.unwrap()
    }

    #[test]
    fn a_board_without_identity_enrols_with_its_claim_and_then_serves() {
        let (mut link, mut now_ms) = (Link::new(), 0);
        assert_eq!(dial(&mut link, &mut now_ms, View::default()), Target::Enroll(Voucher::Claim));
        link.enrolled(now_ms);
        assert_eq!(dial(&mut link, &mut now_ms, ENROLLED), Target::Serve);
    }

    #[test]
    fn a_refused_certificate_is_renewed_by_birth_then_by_claim_and_serving_goes_on() {
        let (mut link, mut now_ms) = (Link::new(), 0);
        assert_eq!(dial(&mut link, &mut now_ms, ENROLLED), Target::Serve);
        link.ended(now_ms, End::CertificateRefused, 0);
        assert_eq!(dial(&mut link, &mut now_ms, ENROLLED), Target::Enroll(Voucher::Birth));
        link.ended(now_ms, End::CertificateRefused, 0);
        assert_eq!(dial(&mut link, &mut now_ms, ENROLLED), Target::Serve);
        link.ended(now_ms, End::Fault(Fault::Refused(0x87)), 0);
        assert_eq!(dial(&mut link, &mut now_ms, ENROLLED), Target::Enroll(Voucher::Claim));
    }

    #[test]
    fn a_certificate_that_is_due_as_soon_as_it_is_new_is_used_before_it_is_renewed() {
        let due = View { renewal_due: true, ..ENROLLED };
        let mut link = Link::new();
        link.poll(0, due);
        assert_eq!(link.wish().1, Some(Target::Enroll(Voucher::Birth)));
        link.enrolled(5);
        link.poll(5, due);
        assert_eq!(link.wish().1, Some(Target::Serve));
        assert!(!link.may_renew(5 + RENEW_RETRY_MS - 1));
        assert!(link.may_renew(5 + RENEW_RETRY_MS));
    }

    #[test]
    fn a_due_renewal_comes_first_and_a_failed_one_does_not_keep_the_device_offline() {
        let due = View { renewal_due: true, ..ENROLLED };
        let (mut link, mut now_ms) = (Link::new(), 0);
        assert_eq!(dial(&mut link, &mut now_ms, due), Target::Enroll(Voucher::Birth));
        link.ended(now_ms, End::Unreachable, 0);
        assert_eq!(dial(&mut link, &mut now_ms, due), Target::Serve);
        now_ms += RENEW_RETRY_MS;
        link.ended(now_ms, End::Lost, 0);
        assert_eq!(dial(&mut link, &mut now_ms, due), Target::Enroll(Voucher::Birth));
    }

    #[test]
    fn a_lost_connection_is_not_a_refused_certificate() {
        let (mut link, mut now_ms) = (Link::new(), 0);
        for end in [
            End::Lost,
            End::Unreachable,
            End::ServerRefused,
            End::Fault(Fault::Silent),
            End::Fault(Fault::Refused(0x89)),
        ] {
            assert_eq!(dial(&mut link, &mut now_ms, ENROLLED), Target::Serve, "{end:?}");
            link.ended(now_ms, end, u32::MAX);
        }
    }

    #[test]
    fn a_connection_nobody_needs_is_not_made_until_somebody_does() {
        let (mut link, unwanted) = (Link::new(), View { unwanted: true, ..ENROLLED });
        let mut now_ms = 0;
        dial(&mut link, &mut now_ms, ENROLLED);
        link.leave(5, 0);
        link.poll(5, unwanted);
        assert_eq!((link.wish().1, link.deadline_ms()), (None, u64::MAX));
        link.poll(1_000_000, unwanted);
        assert_eq!(link.wish().1, None);
        link.poll(1_000_001, ENROLLED);
        assert_eq!(link.wish().1, Some(Target::Serve));
    }

    #[test]
    fn who_asks_and_lets_go_again_does_not_dial_faster() {
        let mut link = Link::new();
        let mut waits = [0; 3];
        for wait in &mut waits {
            link.poll(link.deadline_ms(), ENROLLED);
            link.leave(0, 0);
            *wait = link.deadline_ms();
        }
        assert!(waits.is_sorted_by(|a, b| a < b), "{waits:?}");
    }

    #[test]
    fn a_dial_without_an_answer_is_given_up_and_a_late_answer_is_ignored() {
        let (mut link, view) = (Link::new(), ENROLLED);
        assert!(!link.poll(0, view));
        let (epoch, _) = link.wish();
        assert!(!link.poll(DIAL_TIMEOUT_MS - 1, view));
        assert!(link.poll(DIAL_TIMEOUT_MS, view));
        link.ended(DIAL_TIMEOUT_MS, End::Unreachable, 0);
        assert_eq!(link.opened(DIAL_TIMEOUT_MS, epoch), None);
    }

    #[test]
    fn waits_grow_while_connections_do_not_last() {
        let (mut link, mut now_ms) = (Link::new(), 0);
        let mut waits = [0; 4];
        for wait in &mut waits {
            dial(&mut link, &mut now_ms, ENROLLED);
            link.ended(now_ms, End::Lost, 0);
            *wait = link.deadline_ms() - now_ms;
        }
        assert!(waits.is_sorted_by(|a, b| a < b), "{waits:?}");
        dial(&mut link, &mut now_ms, ENROLLED);
        now_ms += STABLE_MS;
        link.ended(now_ms, End::Lost, 0);
        assert_eq!(link.deadline_ms() - now_ms, waits[0]);
    }
}
