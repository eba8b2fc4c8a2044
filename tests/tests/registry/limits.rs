//! Every limit at its edge: the last that fits, and the first that does not. What is needed to stand near the edge is
//! put into the tables directly.

use anyhow::Result;
use dev::{Options, Part, Service, Stack};
use proto::device::v1::{EnrollReason, EnrollStatus};
use proto::registry::v1::claim_service_client::ClaimServiceClient;
use proto::registry::v1::tenant_service_client::TenantServiceClient;
use proto::registry::v1::token_service_client::TokenServiceClient;
use proto::registry::v1::{CreateKeyRequest, ExchangeTokenRequest, Key, Role};
use rcgen::{KeyPair, PublicKeyData};
use scenarios::client::{self, Person, unique};
use tonic::Code;

use crate::board::{Board, Session};
use crate::fleet::{Fleet, claim_request, refusal};

/// As the service has them (docs and `svc-registry/src/model`).
const KEYS_PER_TENANT_MAX: usize = 1000;
const ASSERTIONS_PER_KEY_MAX: usize = 1000;
const CLAIMS_PER_TENANT_MAX: usize = 100_000;
const PENDING_PER_TENANT_MAX: usize = 1000;

fn tenant(person: &Person) -> &str {
    person.tenant.trim_start_matches("tenants/")
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_keys_and_a_key_of_sign_ins() -> Result<()> {
    let stack = Stack::start(Options::only([Service::Registry])).await?;
    let admin = client::bootstrap(&stack).await?;
    let mut tenants = TenantServiceClient::new(admin.client(&stack, Service::Registry).await?);
    stack.sql(&format!(
        "INSERT INTO registry.keys (key_id, tenant_id, display_name, role, public_key)
         SELECT 'ky' || lpad(to_hex(n), 32, '0'), '{}', 'k', 'viewer', int8send(n) FROM generate_series(1, {}) n",
        tenant(&admin),
        KEYS_PER_TENANT_MAX - 2,
    ))?;
    let mut create = async || {
        let public_key = KeyPair::generate()?.subject_public_key_info();
        let key = Key { display_name: "k".into(), role: Role::Viewer.into(), public_key, ..Key::default() };
        let request = CreateKeyRequest { parent: admin.tenant.clone(), key: Some(key), ..Default::default() };
        anyhow::Ok(tenants.create_key(request).await)
    };
    create().await??;
    assert_eq!(refusal(create().await?), (Code::ResourceExhausted, "KEYS_PER_TENANT".into()));

    let used: usize = stack.sql("SELECT count(*) FROM registry.assertions")?.trim().parse()?;
    stack.sql(&format!(
        "INSERT INTO registry.assertions (key_id, tenant_id, jti, expires_at)
         SELECT '{}', '{}', n::text, now() + interval '5 minutes' FROM generate_series(1, {}) n",
        admin.key.rsplit('/').next().unwrap_or_default(),
        tenant(&admin),
        ASSERTIONS_PER_KEY_MAX - used - 1,
    ))?;
    let mut tokens = TokenServiceClient::new(client::channel(&stack, Service::Registry).await?);
    tokens.exchange_token(ExchangeTokenRequest { assertion: admin.assertion()? }).await?;
    let beyond = tokens.exchange_token(ExchangeTokenRequest { assertion: admin.assertion()? }).await;
    assert_eq!(refusal(beyond), (Code::ResourceExhausted, "ASSERTIONS_PER_KEY".into()));
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_claims() -> Result<()> {
    let stack = Stack::start(Options::only([Service::Registry])).await?;
    let admin = client::bootstrap(&stack).await?;
    let mut claims = ClaimServiceClient::new(admin.client(&stack, Service::Registry).await?);
    stack.sql(&format!(
        "INSERT INTO registry.claims (claim_id, tenant_id, display_name, devices_max, certificate, certificate_digest,
             key_digest, created_at, expires_at)
         SELECT 'cl' || lpad(to_hex(n), 32, '0'), '{}', 'c', 1, '', sha256(int8send(n)), sha256(''), now(), now()
         FROM generate_series(1, {}) n",
        tenant(&admin),
        CLAIMS_PER_TENANT_MAX - 1,
    ))?;
    let key = KeyPair::generate()?;
    claims.create_claim(claim_request(&admin, &key, 1)).await?;
    let beyond = claims.create_claim(claim_request(&admin, &key, 1)).await;
    assert_eq!(refusal(beyond), (Code::ResourceExhausted, "CLAIMS_PER_TENANT".into()));
    Ok(())
}

#[tokio::test]
async fn a_bounded_number_of_boards_waits_for_an_operator() -> Result<()> {
    let fleet = Fleet::start().await?;
    fleet.enroll("serial-1").await?;
    fleet.stack.sql(&format!(
        "INSERT INTO registry.pending_enrollments
             (pending_id, tenant_id, hardware_id, board, key_digest, public_key, claim_id, created_at, asked_at)
         SELECT 'pn' || lpad(to_hex(n), 32, '0'), '{}', 'h' || n, 'b', sha256(int8send(n)), '', '{}', now(), now()
         FROM generate_series(1, {}) n",
        tenant(&fleet.admin),
        fleet.claim.name.rsplit('/').next().unwrap_or_default(),
        PENDING_PER_TENANT_MAX - 1,
    ))?;
    let last = Board::new("serial-1")?;
    assert_eq!(last.enroll(&fleet.stack, &fleet.voucher()).await?.status(), EnrollStatus::Pending);
    let beyond = Board::new("serial-1")?.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!((beyond.status(), beyond.reason()), (EnrollStatus::Refused, EnrollReason::TryLater));
    let again = last.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!(again.status(), EnrollStatus::Pending, "who waits already goes on waiting");
    Ok(())
}

#[tokio::test]
async fn an_expired_claim_enrols_nobody_and_an_absent_database_says_try_later() -> Result<()> {
    let fleet = Fleet::start().await?;
    let board = Board::new("serial-1")?;
    let client_id = unique();
    let mut session = Session::enrolling(&fleet.stack, &fleet.voucher(), &client_id).await?;
    session.subscribe_to(&format!("hf/1/{client_id}/dn/enroll")).await?;
    fleet.stack.stop(Part::Postgres).await?;
    let answer = session.ask(&client_id, &board.request(&fleet.voucher(), &client_id)?).await?;
    assert_eq!((answer.status(), answer.reason()), (EnrollStatus::Refused, EnrollReason::TryLater));
    assert!(answer.retry_after_s > 0);
    fleet.stack.start_service(Part::Postgres).await?;

    fleet.stack.sql("UPDATE registry.claims SET expires_at = now() - interval '1 second'")?;
    let answer = session.ask(&client_id, &board.request(&fleet.voucher(), &client_id)?).await?;
    assert_eq!((answer.status(), answer.reason()), (EnrollStatus::Refused, EnrollReason::ClaimExpired));
    assert!(Session::enrolling(&fleet.stack, &fleet.voucher(), &unique()).await.is_err());
    fleet.stack.sql("UPDATE registry.claims SET expires_at = now() + interval '1 hour'")?;
    let answer = session.ask(&client_id, &board.request(&fleet.voucher(), &client_id)?).await?;
    assert_eq!(answer.status(), EnrollStatus::Issued);
    Ok(())
}
