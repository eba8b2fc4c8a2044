//! Claims: limited in count and time, by the tenant, whatever happens at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use proto::device::v1::{EnrollReason, EnrollStatus};
use proto::registry::v1::{CreateClaimRequest, GetClaimRequest, ListClaimsRequest, RevokeClaimRequest};
use rcgen::KeyPair;
use scenarios::client::unique;
use tokio::task::JoinSet;
use tonic::Code;

use crate::board::{Board, Session, Voucher};
use crate::fleet::{Fleet, claim_request, new_claim, refusal};

const BOARDS: usize = 50;
const PLACES: i64 = 40;

#[tokio::test]
async fn fifty_boards_on_one_claim_at_once_get_its_places_and_each_its_own_reply() -> Result<()> {
    let fleet = Arc::new(Fleet::start().await?);
    let (claim, key) = new_claim(&fleet.stack, &fleet.admin, PLACES).await?;
    let (claim, key) = (Arc::new(claim), Arc::new(key));
    let mut boards = JoinSet::new();
    for number in 0..BOARDS {
        let (fleet, claim, key) = (fleet.clone(), claim.clone(), key.clone());
        boards.spawn(async move {
            let board = Board::new(&format!("board-{number}"))?;
            let voucher = Voucher { certificate: &claim.certificate, key: &key };
            // `enroll` fails on a reply that is not on its own topic.
            let answer = board.enroll(&fleet.stack, &voucher).await?;
            anyhow::Ok((board, answer))
        });
    }
    let (mut devices, mut refused) = (BTreeSet::new(), 0);
    while let Some(done) = boards.join_next().await {
        let (board, answer) = done??;
        match answer.status() {
            EnrollStatus::Issued => {
                let (_, leaf) = x509(&answer.leaf);
                assert_eq!(leaf, board.key.public_key_raw(), "its own reply");
                devices.insert(answer.device_id);
            }
            EnrollStatus::Refused => {
                assert_eq!(answer.reason(), EnrollReason::ClaimExhausted);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((devices.len() as i64, refused), (PLACES, BOARDS - PLACES as usize));
    let mut claims = fleet.claims().await?;
    let after = claims.get_claim(GetClaimRequest { name: claim.name.clone() }).await?.into_inner();
    assert_eq!(after.devices_enrolled, PLACES);
    Ok(())
}

/// Common name and public point of a certificate.
pub(crate) fn x509(der: &[u8]) -> (String, Vec<u8>) {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
    let name =
        certificate.subject().iter_common_name().next().expect("a name").as_str().expect("text").to_owned();
    (name, certificate.public_key().subject_public_key.data.to_vec())
}

#[tokio::test]
async fn claims_are_checked_listed_and_revoked() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut claims = fleet.claims().await?;
    let key = KeyPair::generate()?;
    let good = claim_request(&fleet.admin, &key, 1);
    for (field, request) in [
        ("parent", CreateClaimRequest { parent: "tenants/x".into(), ..good.clone() }),
        ("display_name", CreateClaimRequest { display_name: String::new(), ..good.clone() }),
        ("devices_max", CreateClaimRequest { devices_max: 0, ..good.clone() }),
        ("devices_max", CreateClaimRequest { devices_max: 1_000_001, ..good.clone() }),
        ("ttl", CreateClaimRequest { ttl: None, ..good.clone() }),
        (
            "ttl",
            CreateClaimRequest { ttl: Some(std::time::Duration::from_secs(59).try_into()?), ..good.clone() },
        ),
        ("public_key", CreateClaimRequest { public_key: vec![0; 91], ..good.clone() }),
    ] {
        assert_eq!(refusal(claims.create_claim(request).await), (Code::InvalidArgument, field.into()));
    }
    for _ in 0..4 {
        claims.create_claim(good.clone()).await?;
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListClaimsRequest { parent: fleet.admin.tenant.clone(), page_size: 2, page_token };
        let page = claims.list_claims(request).await?.into_inner();
        names.extend(page.claims.into_iter().map(|claim| claim.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 5, "the fleet's own and four");

    // Revoking ends the connections made with it, and no board gets in again.
    let session = Session::enrolling(&fleet.stack, &fleet.voucher(), &unique()).await?;
    let revoked = claims
        .revoke_claim(RevokeClaimRequest { name: fleet.claim.name.clone(), ..Default::default() })
        .await?
        .into_inner();
    assert!(revoked.revoke_time.is_some());
    session.closed().await?;
    assert!(Session::enrolling(&fleet.stack, &fleet.voucher(), &unique()).await.is_err());
    let again = claims
        .revoke_claim(RevokeClaimRequest { name: fleet.claim.name.clone(), ..Default::default() })
        .await?
        .into_inner();
    assert_eq!(again.revoke_time, revoked.revoke_time, "the first time stays");
    Ok(())
}
