//! Enrolment and renewal, from the first question to the identity that is kept.

use gateway_core::device::Notice;
use gateway_core::gateway::Happening;
use gateway_core::net::link::RENEW_RETRY_MS;
use p256::ecdsa::signature::Verifier as _;
use wire::Digest;
use wire::msg::{EnrollDown, EnrollReason, EnrollStatus, EnrollUp, EnumValue, HelloDown, Message as _};

use crate::sim::*;
use crate::world::*;

#[test]
fn a_board_enrols_with_its_claim_and_proves_it_from_end_to_end() {
    let mut world = World::new();
    let mut question = None;
    world.until("question", |world| {
        question = world.take_enroll();
        question.is_some()
    });
    let (topic, bytes) = question.unwrap();
    let opened = world.opened.last().unwrap().clone();
    assert_eq!((opened.credential, opened.address.as_str(), &opened.will), ("claim", "enroll:8884", &None));
    assert_eq!(topic, format!("hf/1/{}/dn/enroll", opened.client_id));
    assert_eq!(opened.filter, topic);
    assert_eq!(opened.client_id.len(), 32);

    let question = EnrollUp::decode(&bytes).unwrap();
    assert_eq!((question.hardware_id, question.board, question.vouching_certificate), ("hw-1", "sim", CLAIM));
    assert!(question.old_key_signature.is_empty());
    let digest = Digest::of_parts(&[question.csr, opened.client_id.as_bytes(), b"hw-1"]);
    let message = [&b"holdfast enroll\0"[..], &digest.0].concat();
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(claim_key().as_bytes()).unwrap();
    let signature = p256::ecdsa::Signature::from_der(question.vouching_signature).unwrap();
    key.verify(&message, &signature).unwrap();

    let issued = world.issue(&bytes, (2020, 2040));
    world.tell(&topic, &encode(&issued.message()));
    world.until("hello", |world| world.take("hello").is_some());
    let opened = world.opened.last().unwrap().clone();
    let id = world.maker.device.to_string();
    assert_eq!((opened.credential, opened.address.as_str()), ("chain", "broker:8883"));
    assert_eq!((opened.client_id, opened.filter), (id.clone(), format!("hf/1/{id}/dn/#")));
    assert!(world.happened.contains(&Happening::Enrolled(world.maker.device)));
    assert!(world.happened.contains(&Happening::Device(Notice::KeysetAccepted(1))));
}

#[test]
fn an_identity_outlives_a_power_cut() {
    let mut world = World::serving();
    world.reboot();
    world.until("hello", |world| world.take("hello").is_some());
    assert_eq!(world.opened.last().unwrap().credential, "chain");
}

#[test]
fn a_lost_answer_is_asked_for_again_and_then_under_another_client_id() {
    let mut world = World::new();
    let mut asked = Vec::new();
    world.until("four questions", |world| {
        asked.extend(world.take_enroll().map(|(topic, _)| topic));
        asked.len() == 4
    });
    assert_eq!((&asked[0], &asked[0]), (&asked[1], &asked[2]));
    assert_ne!(asked[0], asked[3]);
}

#[test]
fn an_answer_to_another_board_is_not_heard() {
    let mut world = World::new();
    let mut question = None;
    world.until("question", |world| {
        question = world.take_enroll();
        question.is_some()
    });
    let issued = world.issue(&question.unwrap().1, (2020, 2040));
    world.tell(&format!("hf/1/{}/dn/enroll", "0".repeat(32)), &encode(&issued.message()));
    world.pass_ms(1000);
    assert_eq!(world.gateway.device().device_id(), None);
}

#[test]
fn pending_and_refused_boards_wait_as_long_as_they_are_told() {
    let answers = [
        (EnrollStatus::Pending, Happening::EnrollPending { retry_after_s: 100 }),
        (EnrollStatus::Refused, Happening::EnrollRefused(EnrollReason::ClaimExhausted)),
    ];
    for (status, happening) in answers {
        let mut world = World::new();
        world.until("question", |world| {
            let Some((topic, _)) = world.take_enroll() else { return false };
            let reason = EnumValue::Known(EnrollReason::ClaimExhausted);
            let status = EnumValue::Known(status);
            world.tell(
                &topic,
                &encode(&EnrollDown { status, reason, retry_after_s: 100, ..Default::default() }),
            );
            true
        });
        world.turn();
        assert!(world.happened.contains(&happening), "{:?}", world.happened);
        world.pass_ms(99_000);
        assert_eq!(world.opened.len(), 1);
        world.pass_ms(2_000);
        assert_eq!(world.opened.len(), 2);
        assert_ne!(world.opened[0].client_id, world.opened[1].client_id);
    }
}

#[test]
fn what_was_not_issued_for_this_board_is_not_taken() {
    type Spoil = fn(&mut Issued, &World);
    let spoils: [(&str, Spoil); 8] = [
        ("another key's leaf", |issued, world| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            let csr = params.serialize_request(&key).unwrap();
            issued.leaf = world.ca.leaf(csr.der(), &issued.device, (2020, 2040));
        }),
        ("another name", |issued, _| issued.device = Maker::new().tenant.to_string().replace("tn", "dv")),
        ("a malformed id", |issued, _| issued.device.push('0')),
        ("a malformed tenant", |issued, _| issued.tenant.clear()),
        ("no leaf", |issued, _| issued.leaf.clear()),
        ("a torn intermediate", |issued, _| issued.intermediate.truncate(100)),
        ("no keyset", |issued, _| issued.keyset.clear()),
        ("a keyset by a stranger", |issued, world| {
            issued.keyset = world.maker.keyset_spec(1).sign(&[&world.maker.root]).unwrap();
            let last = issued.keyset.len() - 1;
            issued.keyset[last] ^= 1;
        }),
    ];
    for (what, spoil) in spoils {
        let mut world = World::new();
        world.until("question", |world| {
            let Some((topic, question)) = world.take_enroll() else { return false };
            let mut issued = world.issue(&question, (2020, 2040));
            spoil(&mut issued, world);
            world.tell(&topic, &encode(&issued.message()));
            true
        });
        world.turn();
        assert_eq!(world.gateway.device().device_id(), None, "{what}");
        // The next attempt may succeed: nothing of the wrong answer was kept.
        world.enrol((2020, 2040));
        world.until("hello", |world| world.take("hello").is_some());
    }
}

#[test]
fn a_leaf_in_the_last_third_of_its_life_is_renewed_with_the_birth_certificate() {
    let mut world = World::new();
    // The bound is 2023-11-14: the leaf ends in 2025 and began in 2015.
    world.enrol((2015, 2025));
    world.until("renewal", |world| world.opened.last().is_some_and(|opened| opened.credential == "birth"));
    let mut signed = false;
    world.until("question", |world| {
        let Some((topic, question)) = world.take_enroll() else { return false };
        let asked = EnrollUp::decode(&question).unwrap();
        signed = asked.vouching_certificate == world.gateway.identity().unwrap().birth();
        let issued = world.issue(&question, (2023, 2040));
        world.tell(&topic, &encode(&issued.message()));
        true
    });
    assert!(signed, "the birth certificate vouches");
    world.until("hello", |world| world.take("hello").is_some());
    world.pass_ms(60_000);
    assert_eq!(world.opened.last().unwrap().credential, "chain");
}

#[test]
fn a_leaf_is_renewed_before_its_time_when_the_service_asks_and_not_more_often_than_may_be() {
    let mut world = World::serving();
    world.tell_channel("hello", &HelloDown { renew: true, ..Default::default() });
    world.until("renewal", |world| world.opened.last().is_some_and(|opened| opened.credential == "birth"));
    world.until("question", |world| {
        let Some((topic, question)) = world.take_enroll() else { return false };
        let issued = world.issue(&question, (2020, 2040));
        world.tell(&topic, &encode(&issued.message()));
        true
    });
    world.until("hello", |world| world.take("hello").is_some());
    // A service that asks without end gets no more than that.
    world.tell_channel("hello", &HelloDown { renew: true, ..Default::default() });
    world.pass_ms(RENEW_RETRY_MS / 2);
    assert_eq!(world.opened.last().unwrap().credential, "chain");
}

#[test]
fn a_renewal_under_another_device_id_is_not_taken() {
    let mut world = World::new();
    world.enrol((2015, 2025));
    world.until("question", |world| {
        let Some((topic, question)) = world.take_enroll() else { return false };
        let mut issued = world.issue(&question, (2020, 2040));
        let csr = EnrollUp::decode(&question).unwrap().csr;
        issued.device = format!("dv{}", "ab".repeat(16));
        issued.leaf = world.ca.leaf(csr, &issued.device, (2020, 2040));
        world.tell(&topic, &encode(&issued.message()));
        true
    });
    // It goes on with what it has.
    world.until("hello", |world| world.take("hello").is_some());
    assert_eq!(world.gateway.device().device_id(), Some(world.maker.device));
}

#[test]
fn a_board_whose_identity_is_forgotten_takes_the_one_its_claim_gives_it() {
    let mut world = World::serving();
    world.reboot();
    let other = format!("dv{}", "ab".repeat(16));
    // Neither the leaf nor the birth certificate is known any more; the claim is good still.
    world.until("another identity", |world| {
        if let Some((topic, question)) = world.take_enroll() {
            let mut issued = world.issue(&question, (2020, 2040));
            let csr = EnrollUp::decode(&question).unwrap().csr;
            issued.device.clone_from(&other);
            issued.leaf = world.ca.leaf(csr, &other, (2020, 2040));
            world.tell(&topic, &encode(&issued.message()));
        } else if world.connected && world.opened.last().is_some_and(|opened| opened.credential != "claim") {
            world.refuse_certificate();
        }
        world.gateway.device().device_id() == Some(other.parse().unwrap())
    });
    let greets = |world: &mut World| {
        let own = format!("hf/1/{other}/up/hello");
        world.said.iter().any(|(topic, _)| *topic == own)
    };
    world.until("hello", greets);
    world.reboot();
    world.until("hello after a boot", greets);
    assert_eq!(world.opened.last().unwrap().client_id, other, "it is kept");
}

#[test]
fn a_board_that_lost_its_key_asks_at_once_for_an_identity_of_its_new_one() {
    let mut world = World::serving();
    world.identity_key = 79;
    world.reboot();
    world.enrol((2020, 2040));
    world.until("hello", |world| world.take("hello").is_some());
    let credentials: Vec<_> = world.opened.iter().map(|opened| opened.credential).collect();
    assert_eq!(credentials, ["claim", "chain", "claim", "chain"]);
    world.reboot();
    world.until("hello after a boot", |world| world.take("hello").is_some());
    assert_eq!(world.opened.last().unwrap().credential, "chain");
}

#[test]
fn a_board_five_years_in_a_warehouse_comes_back_by_its_birth_certificate() {
    let mut world = World::serving();
    // Its leaf is refused by a broker that knows the time; the board does not.
    world.reboot();
    world.until("dial", |world| world.connected);
    world.refuse_certificate();
    world.until("renewal", |world| world.opened.last().is_some_and(|opened| opened.credential == "birth"));
    world.enrol((2020, 2040));
    world.until("hello", |world| world.take("hello").is_some());
    assert_eq!(world.opened.last().unwrap().credential, "chain");
    let hello = world.gateway.device().device_id();
    assert_eq!(hello, Some(world.maker.device));
}
