//! What brokers ask: whom to trust, and whether a certificate may connect. Unknown means no.

use anyhow::Result;
use dev::Service;
use proto::registry::v1::authority_service_client::AuthorityServiceClient;
use proto::registry::v1::{AuthorizeConnectionRequest, GetTrustRequest, Listener, RevokeClaimRequest};
use rcgen::PublicKeyData;
use scenarios::client;
use tonic::Code;
use wire::Digest;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fleet::{Fleet, keyset, new_claim, publish, refusal, root};

fn parse(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).expect("a certificate").1
}

fn key_digest(der: &[u8]) -> Vec<u8> {
    Digest::of(parse(der).public_key().raw).0.to_vec()
}

fn question(listener: Listener, common_name: &str, leaf: &[u8], issuer: &[u8]) -> AuthorizeConnectionRequest {
    AuthorizeConnectionRequest {
        listener: listener.into(),
        common_name: common_name.into(),
        public_key_digest: key_digest(leaf),
        issuer_key_digest: key_digest(issuer),
        certificate_digest: Digest::of(leaf).0.to_vec(),
    }
}

#[tokio::test]
async fn a_certificate_connects_where_it_belongs_and_nowhere_else() -> Result<()> {
    let fleet = Fleet::start().await?;
    let stack = &fleet.stack;
    let mut authority =
        AuthorityServiceClient::new(client::service_channel(stack, Service::Registry, "svc-broker").await?);
    let trust = authority.get_trust(GetTrustRequest {}).await?.into_inner();
    let (device_root, enroll_root) = (&trust.device_roots[0], &trust.enroll_roots[0]);
    parse(device_root).verify_signature(None)?;
    parse(enroll_root).verify_signature(None)?;
    assert_ne!(key_digest(device_root), key_digest(enroll_root), "two trees that never meet");

    let mine = fleet.enroll("serial-1").await?;
    let other = client::new_tenant(stack, &fleet.admin, "Other").await?;
    publish(stack, &other, &keyset(stack, &other, 1)?, &[&root(1)]).await?;
    let (their_claim, their_key) = new_claim(stack, &other, 1).await?;
    let voucher = crate::board::Voucher { certificate: &their_claim.certificate, key: &their_key };
    let theirs = crate::board::Board::new("serial-1")?.enroll(stack, &voucher).await?;

    let chain = parse(&mine.answer.intermediate);
    chain.verify_signature(Some(parse(device_root).public_key()))?;
    parse(&mine.answer.leaf).verify_signature(Some(chain.public_key()))?;
    parse(&mine.answer.birth).verify_signature(Some(parse(enroll_root).public_key()))?;

    let id = mine.id().to_owned();
    let good = question(Listener::Device, &id, &mine.answer.leaf, &mine.answer.intermediate);
    let claim_id = fleet.claim.name.rsplit('/').next().unwrap().to_owned();
    let claim = question(Listener::Enroll, &claim_id, &fleet.claim.certificate, enroll_root);
    let birth = question(Listener::Enroll, &id, &mine.answer.birth, enroll_root);
    for (asked, tenant) in [(&good, &fleet.admin), (&claim, &fleet.admin), (&birth, &fleet.admin)] {
        let answer = authority.authorize_connection(asked.clone()).await?.into_inner();
        assert!(answer.allowed, "{}", answer.refusal);
        assert_eq!(format!("tenants/{}", answer.tenant_id), tenant.tenant);
    }
    let other_key = rcgen::KeyPair::generate()?.subject_public_key_info();
    let cases = [
        (
            "unknown",
            AuthorizeConnectionRequest { common_name: "dv".to_owned() + &"0".repeat(32), ..good.clone() },
        ),
        ("unknown", AuthorizeConnectionRequest { common_name: "svc-ota".into(), ..good.clone() }),
        ("unknown", AuthorizeConnectionRequest { common_name: claim_id.clone(), ..good.clone() }),
        ("wrong_issuer", question(Listener::Device, &id, &mine.answer.leaf, &theirs.intermediate)),
        ("wrong_issuer", question(Listener::Device, &id, &mine.answer.birth, enroll_root)),
        (
            "wrong_key",
            AuthorizeConnectionRequest {
                public_key_digest: Digest::of(&other_key).0.to_vec(),
                ..good.clone()
            },
        ),
        ("wrong_key", AuthorizeConnectionRequest { public_key_digest: vec![], ..good.clone() }),
        ("wrong_issuer", question(Listener::Enroll, &id, &mine.answer.leaf, &mine.answer.intermediate)),
        ("wrong_key", AuthorizeConnectionRequest { certificate_digest: vec![0; 32], ..birth.clone() }),
        ("wrong_key", AuthorizeConnectionRequest { certificate_digest: vec![0; 32], ..claim.clone() }),
        (
            "unknown",
            AuthorizeConnectionRequest { common_name: "cl".to_owned() + &"0".repeat(32), ..claim.clone() },
        ),
    ];
    for (refusal, asked) in cases {
        let answer = authority.authorize_connection(asked).await?.into_inner();
        assert_eq!(
            (answer.allowed, answer.refusal.as_str(), answer.tenant_id.as_str()),
            (false, refusal, "")
        );
    }
    let nowhere = AuthorizeConnectionRequest { listener: 0, ..good.clone() };
    assert_eq!(
        refusal(authority.authorize_connection(nowhere).await),
        (Code::InvalidArgument, "listener".into())
    );

    fleet
        .claims()
        .await?
        .revoke_claim(RevokeClaimRequest { name: fleet.claim.name.clone(), ..Default::default() })
        .await?;
    let answer = authority.authorize_connection(claim).await?.into_inner();
    assert_eq!((answer.allowed, answer.refusal.as_str()), (false, "revoked"));
    let revoke = proto::registry::v1::RevokeDeviceRequest { name: mine.name(), ..Default::default() };
    fleet.devices().await?.revoke_device(revoke).await?;
    for asked in [good, birth] {
        let answer = authority.authorize_connection(asked).await?.into_inner();
        assert_eq!((answer.allowed, answer.refusal.as_str()), (false, "revoked"));
    }

    let mut as_person = AuthorityServiceClient::new(fleet.admin.client(stack, Service::Registry).await?);
    assert_eq!(refusal(as_person.get_trust(GetTrustRequest {}).await).0, Code::Unauthenticated);
    Ok(())
}
