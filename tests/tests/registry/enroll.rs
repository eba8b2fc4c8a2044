//! Enrolment over the broker: what proves itself gets in, what does not does not.

use anyhow::Result;
use dev::Service;
use proto::device::v1::{EnrollReason, EnrollStatus, EnrollUp};
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, DeleteDeviceRequest, GetClaimRequest, ListPendingEnrollmentsRequest,
    RevokeDeviceRequest,
};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SigningKey};
use scenarios::client;
use tonic::Code;
use wire::Digest;

use crate::board::{Board, Enrolled, PATIENCE, Session, Voucher, vouch};
use crate::claims::x509;
use crate::fleet::{Fleet, both, keyset, new_claim, publish, refusal, root};

#[tokio::test]
async fn a_board_becomes_a_device_and_a_lost_reply_is_answered_with_the_same() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let answer = &device.answer;
    assert_eq!(x509(&answer.leaf), (device.id().to_owned(), device.board.key.public_key_raw().to_vec()));
    assert_eq!(x509(&answer.birth), x509(&answer.leaf));
    assert_eq!(answer.broker, fleet.stack.device_address());
    assert_eq!(answer.keyset, keyset(&fleet.stack, &fleet.admin, 1)?.sign(&[&root(1)])?);
    assert_eq!(format!("tenants/{}", answer.tenant_id), fleet.admin.tenant);

    let again = device.board.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!(again, *answer, "the same device, the same certificates");
    let claim = GetClaimRequest { name: fleet.claim.name.clone() };
    assert_eq!(fleet.claims().await?.get_claim(claim).await?.into_inner().devices_enrolled, 1);
    device.connect(&fleet.stack).await?;
    let shown = fleet.device_becomes(&device.name(), |_| true).await?;
    assert_eq!((shown.hardware_id.as_str(), shown.board.as_str()), ("serial-1", "bench"));
    Ok(())
}

#[tokio::test]
async fn a_request_that_does_not_prove_itself_is_refused_and_changes_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (stack, voucher) = (&fleet.stack, fleet.voucher());
    let board = Board::new("serial-1")?;
    let other = Board::new("serial-2")?;
    let other_csr = other.csr()?;
    let thief = KeyPair::generate()?;
    let csr = board.csr()?;
    type Change<'a> = Box<dyn FnOnce(EnrollUp) -> EnrollUp + 'a>;
    let cases: Vec<(&str, EnrollReason, Change<'_>)> = vec![
        (
            "no signature",
            EnrollReason::NotVouched,
            Box::new(|r| EnrollUp { vouching_signature: vec![], ..r }),
        ),
        (
            "a signature by another key",
            EnrollReason::NotVouched,
            Box::new(|r| {
                let vouching_signature =
                    vouch(&thief, &r.csr, "0".repeat(32).as_str(), &r.hardware_id).unwrap();
                EnrollUp { vouching_signature, ..r }
            }),
        ),
        (
            "a request recorded on another connection",
            EnrollReason::NotVouched,
            Box::new(|_| board.request(&fleet.voucher(), &"a".repeat(32)).unwrap()),
        ),
        ("a swapped CSR", EnrollReason::NotVouched, Box::new(|r| EnrollUp { csr: other_csr.clone(), ..r })),
        (
            "a swapped hardware id",
            EnrollReason::NotVouched,
            Box::new(|r| EnrollUp { hardware_id: "x".into(), ..r }),
        ),
        (
            "no certificate",
            EnrollReason::NotVouched,
            Box::new(|r| EnrollUp { vouching_certificate: vec![], ..r }),
        ),
        (
            "a certificate of nobody's",
            EnrollReason::NotVouched,
            Box::new(|r| {
                let own = CertificateParams::default().self_signed(&thief).unwrap();
                EnrollUp { vouching_certificate: own.der().to_vec(), ..r }
            }),
        ),
        ("no CSR", EnrollReason::BadCsr, Box::new(|r| EnrollUp { csr: vec![], ..r })),
        (
            "a truncated CSR",
            EnrollReason::BadCsr,
            Box::new(|r| EnrollUp { csr: r.csr[..r.csr.len() - 1].to_vec(), ..r }),
        ),
        ("an oversize CSR", EnrollReason::Malformed, Box::new(|r| EnrollUp { csr: vec![0x30; 1025], ..r })),
        (
            "no hardware id",
            EnrollReason::Malformed,
            Box::new(|r| EnrollUp { hardware_id: String::new(), ..r }),
        ),
        (
            "a path for a hardware id",
            EnrollReason::Malformed,
            Box::new(|r| EnrollUp { hardware_id: "../x".into(), ..r }),
        ),
        ("no board", EnrollReason::Malformed, Box::new(|r| EnrollUp { board: String::new(), ..r })),
    ];
    for (what, reason, change) in cases {
        let answer = board.enroll_with(stack, &voucher, change).await?;
        assert_eq!((answer.status(), answer.reason()), (EnrollStatus::Refused, reason), "{what}");
    }
    let garbage =
        board.enroll_with(stack, &voucher, |r| EnrollUp { csr: csr.iter().rev().copied().collect(), ..r });
    assert_eq!(garbage.await?.reason(), EnrollReason::BadCsr);
    assert_eq!(stack.sql("SELECT count(*) FROM registry.devices")?.trim(), "0");
    let claim = GetClaimRequest { name: fleet.claim.name.clone() };
    assert_eq!(fleet.claims().await?.get_claim(claim).await?.into_inner().devices_enrolled, 0);
    Ok(())
}

#[tokio::test]
async fn a_csr_that_names_a_victim_gets_a_certificate_of_its_own() -> Result<()> {
    let fleet = Fleet::start().await?;
    let victim = fleet.enroll("victim").await?;
    let board = Board::new("attacker")?;
    let mut params = CertificateParams::new(vec!["registry.example".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, victim.id());
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&board.key)?.der().to_vec();

    let client_id = client::unique();
    let mut request = board.request(&fleet.voucher(), &client_id)?;
    request.vouching_signature = vouch(&fleet.claim_key, &csr, &client_id, &board.hardware_id)?;
    request.csr = csr;
    let mut session = Session::enrolling(&fleet.stack, &fleet.voucher(), &client_id).await?;
    session.subscribe_to(&format!("hf/1/{client_id}/dn/enroll")).await?;
    let answer = session.ask(&client_id, &request).await?;
    assert_eq!(answer.status(), EnrollStatus::Issued);
    assert_ne!(answer.device_id, victim.id());
    assert_eq!(x509(&answer.leaf).0, answer.device_id);
    assert!(answer.leaf.windows(8).all(|w| w != b"registry"), "nothing of its extensions");

    // Neither can the attacker connect as the victim with what it got.
    let chain = [answer.leaf.as_slice(), answer.intermediate.as_slice()];
    let as_victim =
        Session::connect(&fleet.stack, &fleet.stack.device_address(), victim.id(), &chain, &board.key, None)
            .await;
    assert!(as_victim.is_err());
    Ok(())
}

#[tokio::test]
async fn a_csr_with_a_victims_hardware_id_waits_for_an_operator() -> Result<()> {
    let fleet = Fleet::start().await?;
    let victim = fleet.enroll("serial-1").await?;
    let online = victim.connect(&fleet.stack).await?;
    let newcomer = Board::new("serial-1")?;
    for _ in 0..2 {
        let answer = newcomer.enroll(&fleet.stack, &fleet.voucher()).await?;
        assert_eq!(
            (answer.status(), answer.reason()),
            (EnrollStatus::Pending, EnrollReason::HardwareIdKnown)
        );
        assert!(answer.leaf.is_empty() && answer.retry_after_s > 0);
    }
    let mut devices = fleet.devices().await?;
    let list = ListPendingEnrollmentsRequest { parent: fleet.admin.tenant.clone(), ..Default::default() };
    let pending = devices.list_pending_enrollments(list.clone()).await?.into_inner().pending_enrollments;
    assert_eq!(pending.len(), 1, "asking twice waits once");
    assert_eq!(
        (pending[0].hardware_id.as_str(), pending[0].device.as_str()),
        ("serial-1", victim.name().as_str())
    );
    let shown = fleet.device_becomes(&victim.name(), |_| true).await?;
    assert!(shown.revoke_time.is_none(), "the victim is undisturbed");

    let accept = AcceptPendingEnrollmentRequest { name: pending[0].name.clone(), ..Default::default() };
    let device = devices.accept_pending_enrollment(accept.clone()).await?.into_inner();
    assert_ne!(device.name, victim.name());
    online.closed().await?;
    assert!(victim.connect(&fleet.stack).await.is_err(), "the old identity is revoked");
    assert_eq!(refusal(devices.accept_pending_enrollment(accept).await).0, Code::NotFound, "once");
    assert!(devices.list_pending_enrollments(list).await?.into_inner().pending_enrollments.is_empty());

    let answer = newcomer.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!(answer.status(), EnrollStatus::Issued);
    assert!(device.name.ends_with(&answer.device_id));
    Enrolled { board: newcomer, answer }.connect(&fleet.stack).await?;
    // The revoked key stays out, on the claim too.
    let back = victim.board.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!((back.status(), back.reason()), (EnrollStatus::Refused, EnrollReason::DeviceRevoked));
    Ok(())
}

#[tokio::test]
async fn a_device_moves_to_a_new_key_by_its_old_keys_signature() -> Result<()> {
    let fleet = Fleet::start().await?;
    let old = fleet.enroll("serial-1").await?;
    let session = old.connect(&fleet.stack).await?;
    let new = Board::new("serial-1")?;
    let sign = |key: &KeyPair, csr: &[u8]| {
        key.sign(&[b"holdfast re-enroll\0".as_slice(), &Digest::of(csr).0].concat()).unwrap()
    };
    let stranger = KeyPair::generate()?;
    let forged = new
        .enroll_with(&fleet.stack, &fleet.voucher(), |r| EnrollUp {
            old_key_signature: sign(&stranger, &r.csr),
            ..r
        })
        .await?;
    assert_eq!(forged.status(), EnrollStatus::Pending);
    let answer = new
        .enroll_with(&fleet.stack, &fleet.voucher(), |r| EnrollUp {
            old_key_signature: sign(&old.board.key, &r.csr),
            ..r
        })
        .await?;
    assert_eq!(
        (answer.status(), answer.device_id.as_str()),
        (EnrollStatus::Issued, old.id()),
        "the same device"
    );
    session.closed().await?;
    assert!(old.connect(&fleet.stack).await.is_err(), "the old key is done");
    let old_birth = Session::enrolling(&fleet.stack, &old.birth(), &client::unique()).await;
    assert!(old_birth.is_err(), "and so is its birth certificate");
    Enrolled { board: new, answer }.connect(&fleet.stack).await?;
    Ok(())
}

#[tokio::test]
async fn a_board_five_years_in_a_warehouse_renews_with_its_birth_certificate() -> Result<()> {
    let options = both().env(Service::Registry, "HOLDFAST_DEVICE_CERTIFICATE_S", "3");
    let fleet = Fleet::start_with(options).await?;
    let device = fleet.enroll("serial-1").await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while device.connect(&fleet.stack).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "a certificate that never ends");
    }
    let claim =
        proto::registry::v1::RevokeClaimRequest { name: fleet.claim.name.clone(), ..Default::default() };
    fleet.claims().await?.revoke_claim(claim).await?;

    let renewed = device.board.enroll(&fleet.stack, &device.birth()).await?;
    assert_eq!((renewed.status(), renewed.device_id.as_str()), (EnrollStatus::Issued, device.id()));
    assert_ne!(renewed.leaf, device.answer.leaf);
    assert_eq!(renewed.birth, device.answer.birth);
    Ok(())
}

#[tokio::test]
async fn a_birth_certificate_opens_only_the_enrolment_listener_and_only_for_its_own_board() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (device, victim) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let key = &device.board.key;
    let address = fleet.stack.device_address();
    let direct =
        Session::connect(&fleet.stack, &address, device.id(), &[&device.answer.birth], key, None).await;
    assert!(direct.is_err(), "not on the device listener");
    let leaf = Voucher { certificate: &device.answer.leaf, key };
    assert!(
        Session::enrolling(&fleet.stack, &leaf, &client::unique()).await.is_err(),
        "nor a leaf on the other"
    );

    let as_victim =
        Board { key: KeyPair::try_from(key.serialize_der().as_slice())?, hardware_id: "serial-2".into() };
    let answer = as_victim.enroll(&fleet.stack, &device.birth()).await?;
    assert_eq!((answer.status(), answer.reason()), (EnrollStatus::Refused, EnrollReason::NotVouched));
    let with_new_key = Board::new("serial-1")?.enroll(&fleet.stack, &device.birth()).await?;
    assert_eq!(
        (with_new_key.status(), with_new_key.reason()),
        (EnrollStatus::Refused, EnrollReason::NotVouched)
    );
    victim.connect(&fleet.stack).await?;

    let mut devices = fleet.devices().await?;
    devices.revoke_device(RevokeDeviceRequest { name: device.name(), ..Default::default() }).await?;
    assert!(
        Session::enrolling(&fleet.stack, &device.birth(), &client::unique()).await.is_err(),
        "a revoked board's birth certificate ends too"
    );
    // Deleted, the hardware id is free again.
    devices.delete_device(DeleteDeviceRequest { name: device.name(), ..Default::default() }).await?;
    let anew = fleet.enroll("serial-1").await?;
    assert_ne!(anew.id(), device.id());
    Ok(())
}

#[tokio::test]
async fn one_key_is_one_board_and_hardware_ids_are_each_tenants_own() -> Result<()> {
    let fleet = Fleet::start().await?;
    let first = fleet.enroll("serial-1").await?;
    let copy = Board {
        key: KeyPair::try_from(first.board.key.serialize_der().as_slice())?,
        hardware_id: "serial-2".into(),
    };
    let answer = copy.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!((answer.status(), answer.reason()), (EnrollStatus::Refused, EnrollReason::BadCsr));

    let other = client::new_tenant(&fleet.stack, &fleet.admin, "Other").await?;
    let (claim, key) = new_claim(&fleet.stack, &other, 5).await?;
    let voucher = Voucher { certificate: &claim.certificate, key: &key };
    let board = Board::new("serial-1")?;
    let early = board.enroll(&fleet.stack, &voucher).await?;
    assert_eq!(
        (early.status(), early.reason()),
        (EnrollStatus::Refused, EnrollReason::TryLater),
        "no keyset yet"
    );
    publish(&fleet.stack, &other, &keyset(&fleet.stack, &other, 1)?, &[&root(1)]).await?;
    let answer = board.enroll(&fleet.stack, &voucher).await?;
    assert_eq!(answer.status(), EnrollStatus::Issued);
    assert_eq!(format!("tenants/{}", answer.tenant_id), other.tenant);

    // Two tenants' CAs: a leaf of one under the other's intermediate opens nothing, whatever the names say.
    let mixed = [answer.leaf.as_slice(), first.answer.intermediate.as_slice()];
    let address = fleet.stack.device_address();
    let crossed = Session::connect(&fleet.stack, &address, &answer.device_id, &mixed, &board.key, None).await;
    assert!(crossed.is_err());
    Enrolled { board, answer }.connect(&fleet.stack).await?;
    Ok(())
}
