//! What a board that asks to enrol gets.
//!
//! Always: a key names one device of a tenant; a hardware id is held by one identity at a time; nobody takes over a
//! hardware id with a claim alone. Never: a refusal that changes anything.

use wire::id::DeviceId;

use super::claim::Standing;

/// An identity as far as enrolment compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub id: DeviceId,
    pub hardware_id: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: [u8; 32],
    pub revoked: bool,
    /// Two boards use it.
    pub quarantined: bool,
}

/// What stands behind the request: its certificate's chain and its signature are verified already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Voucher {
    Claim(Standing),
    /// The device this birth certificate is the newest of, if there is one still.
    Birth(Option<Known>),
}

/// A request, and what is known of the ids in it.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub hardware_id: &'a str,
    /// SHA-256 of the CSR's SubjectPublicKeyInfo.
    pub key: [u8; 32],
    /// Who holds the hardware id.
    pub holder: Option<Known>,
    /// Who has the key.
    pub owner: Option<Known>,
    /// The request carries a valid signature by the holder's key.
    pub old_key_agrees: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A new device; counts against the claim.
    Create,
    /// The same device as before: certificates again.
    Reissue(DeviceId),
    /// The same device under a new key, by its old key's word.
    Rekey(DeviceId),
    /// An operator decides.
    Pend,
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadCsr,
    ClaimExhausted,
    ClaimExpired,
    ClaimRevoked,
    DeviceQuarantined,
    DeviceRevoked,
    Malformed,
    NotVouched,
    TryLater,
}

pub(crate) fn decide(voucher: &Voucher, request: &Request<'_>) -> Decision {
    match voucher {
        Voucher::Birth(device) => renew(device.as_ref(), request),
        Voucher::Claim(Standing::Revoked) => Decision::Refuse(Refusal::ClaimRevoked),
        Voucher::Claim(Standing::Expired) => Decision::Refuse(Refusal::ClaimExpired),
        Voucher::Claim(standing) => claim(*standing, request),
    }
}

fn renew(device: Option<&Known>, request: &Request<'_>) -> Decision {
    match device {
        None => Decision::Refuse(Refusal::NotVouched),
        Some(device) if device.revoked => Decision::Refuse(Refusal::DeviceRevoked),
        Some(device) if device.quarantined => Decision::Refuse(Refusal::DeviceQuarantined),
        Some(device) if device.key == request.key && device.hardware_id == request.hardware_id => {
            Decision::Reissue(device.id)
        }
        Some(_) => Decision::Refuse(Refusal::NotVouched),
    }
}

fn claim(standing: Standing, request: &Request<'_>) -> Decision {
    match (&request.owner, &request.holder) {
        (Some(owner), _) if owner.revoked => Decision::Refuse(Refusal::DeviceRevoked),
        (Some(owner), _) if owner.quarantined => Decision::Refuse(Refusal::DeviceQuarantined),
        (Some(owner), _) if owner.hardware_id == request.hardware_id => Decision::Reissue(owner.id),
        // Two boards with one key: a flash image was copied. Neither proves who it is.
        (Some(_), _) => Decision::Refuse(Refusal::BadCsr),
        // Of a key that two boards have either may agree.
        (None, Some(holder)) if !holder.revoked && !holder.quarantined && request.old_key_agrees => {
            Decision::Rekey(holder.id)
        }
        (None, Some(_)) => Decision::Pend,
        (None, None) if standing == Standing::Exhausted => Decision::Refuse(Refusal::ClaimExhausted),
        (None, None) => Decision::Create,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn known(key: [u8; 32], hardware_id: &str, revoked: bool) -> Known {
        let quarantined = false;
        Known { id: DeviceId::new([7; 16]), hardware_id: hardware_id.into(), key, revoked, quarantined }
    }

    #[test]
    fn an_identity_that_two_boards_use_is_given_to_neither() {
        let twice = Known { quarantined: true, ..known(KEY, "hw", false) };
        let refused = Decision::Refuse(Refusal::DeviceQuarantined);
        let asked = request(Some(twice.clone()), Some(twice.clone()));
        assert_eq!(decide(&Voucher::Birth(Some(twice.clone())), &asked), refused);
        assert_eq!(decide(&Voucher::Claim(Standing::Good), &asked), refused);
        let new_key = Request { key: OTHER, old_key_agrees: true, ..request(Some(twice), None) };
        assert_eq!(decide(&Voucher::Claim(Standing::Good), &new_key), Decision::Pend);
    }

    fn request(holder: Option<Known>, owner: Option<Known>) -> Request<'static> {
        Request { hardware_id: "hw", key: KEY, holder, owner, old_key_agrees: false }
    }

    #[test]
    fn a_new_board_is_created_and_a_lost_reply_answered_again() {
        let good = Voucher::Claim(Standing::Good);
        assert_eq!(decide(&good, &request(None, None)), Decision::Create);
        let me = known(KEY, "hw", false);
        let again = request(Some(me.clone()), Some(me.clone()));
        assert_eq!(decide(&good, &again), Decision::Reissue(me.id));
        assert_eq!(decide(&Voucher::Claim(Standing::Exhausted), &again), Decision::Reissue(me.id));
    }

    #[test]
    fn a_victims_hardware_id_waits_for_an_operator_or_the_old_key() {
        let good = Voucher::Claim(Standing::Good);
        let victim = known(OTHER, "hw", false);
        let mut asked = request(Some(victim.clone()), None);
        assert_eq!(decide(&good, &asked), Decision::Pend);
        asked.old_key_agrees = true;
        assert_eq!(decide(&good, &asked), Decision::Rekey(victim.id));
        asked.holder = Some(known(OTHER, "hw", true));
        assert_eq!(decide(&good, &asked), Decision::Pend, "a revoked key agrees to nothing");
    }

    #[test]
    fn a_revoked_key_never_comes_back() {
        let gone = known(KEY, "hw", true);
        for hardware_id in ["hw", "another"] {
            let asked = Request { hardware_id, ..request(None, Some(gone.clone())) };
            assert_eq!(
                decide(&Voucher::Claim(Standing::Good), &asked),
                Decision::Refuse(Refusal::DeviceRevoked)
            );
        }
        let birth = Voucher::Birth(Some(gone.clone()));
        assert_eq!(
            decide(&birth, &request(Some(gone.clone()), Some(gone))),
            Decision::Refuse(Refusal::DeviceRevoked)
        );
    }

    #[test]
    fn one_key_under_two_hardware_ids_is_refused() {
        let asked = request(None, Some(known(KEY, "another", false)));
        assert_eq!(decide(&Voucher::Claim(Standing::Good), &asked), Decision::Refuse(Refusal::BadCsr));
    }

    #[test]
    fn an_ended_claim_lets_nobody_in() {
        for (standing, refusal) in [
            (Standing::Revoked, Refusal::ClaimRevoked),
            (Standing::Expired, Refusal::ClaimExpired),
            (Standing::Exhausted, Refusal::ClaimExhausted),
        ] {
            assert_eq!(decide(&Voucher::Claim(standing), &request(None, None)), Decision::Refuse(refusal));
        }
    }

    #[test]
    fn a_birth_certificate_renews_its_own_device_and_nothing_else() {
        let me = known(KEY, "hw", false);
        let birth = Voucher::Birth(Some(me.clone()));
        assert_eq!(decide(&birth, &request(None, None)), Decision::Reissue(me.id));
        let other_key = Request { key: OTHER, ..request(None, None) };
        assert_eq!(decide(&birth, &other_key), Decision::Refuse(Refusal::NotVouched));
        let other_board = Request { hardware_id: "victim", ..request(None, None) };
        assert_eq!(decide(&birth, &other_board), Decision::Refuse(Refusal::NotVouched));
        assert_eq!(
            decide(&Voucher::Birth(None), &request(None, None)),
            Decision::Refuse(Refusal::NotVouched)
        );
    }
}
