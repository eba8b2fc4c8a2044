//! The first administrator, tokens, keys, tenants.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use dev::{Options, Service, Stack};
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::tenant_service_client::TenantServiceClient;
use proto::registry::v1::token_service_client::TokenServiceClient;
use proto::registry::v1::watch_devices_response::Kind;
use proto::registry::v1::{
    BootstrapRequest, CreateKeyRequest, CreateTenantRequest, DeleteKeyRequest, ExchangeTokenRequest,
    GetTenantRequest, Key, ListKeysRequest, ListTenantsRequest, Role, WatchDevicesRequest,
};
use rcgen::{KeyPair, PublicKeyData};
use scenarios::client::{self, Person, unique, with_token};
use serde_json::json;
use tonic::Code;

use crate::fleet::refusal;

async fn registry() -> Result<Stack> {
    Stack::start(Options::only([Service::Registry])).await
}

fn bootstrap(code: &str, public_key: &[u8]) -> BootstrapRequest {
    BootstrapRequest {
        code: code.into(),
        tenant_display_name: "First".into(),
        public_key: public_key.to_vec(),
    }
}

#[tokio::test]
async fn the_newest_bootstrap_code_works_once_and_then_never_again() -> Result<()> {
    let stack = registry().await?;
    let mut tokens = TokenServiceClient::new(client::channel(&stack, Service::Registry).await?);
    let key = KeyPair::generate()?;
    let public = key.subject_public_key_info();
    let refused = |result| refusal::<tonic::Response<_>>(result);
    let no = (Code::Unauthenticated, "BOOTSTRAP_CODE".to_owned());
    assert_eq!(refused(tokens.bootstrap(bootstrap("", &public)).await), no, "no code was ever printed");

    let old = stack.bootstrap_code().await?;
    let code = stack.bootstrap_code().await?;
    assert_ne!(old, code);
    assert_eq!(stack.sql("SELECT count(*) FROM registry.keys")?.trim(), "0");
    for wrong in [old.as_str(), "", &code[1..], &code.to_uppercase()] {
        if wrong != code {
            assert_eq!(refused(tokens.bootstrap(bootstrap(wrong, &public)).await), no, "{wrong}");
        }
    }
    let bad = tokens.bootstrap(bootstrap(&code, b"not a key")).await;
    assert_eq!(refused(bad), (Code::InvalidArgument, "public_key".into()));
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?;
    let bad = tokens.bootstrap(bootstrap(&code, &p384.subject_public_key_info())).await;
    assert_eq!(refused(bad), (Code::InvalidArgument, "public_key".into()));

    let made = tokens.bootstrap(bootstrap(&code, &public)).await?.into_inner();
    assert_eq!(refused(tokens.bootstrap(bootstrap(&code, &public)).await), no, "used up");
    assert!(stack.bootstrap_code().await.is_err(), "no new code once there is an administrator");
    let kept = stack.sql("SELECT count(*) FROM registry.installation WHERE bootstrap_hash IS NOT NULL")?;
    assert_eq!(kept.trim(), "0");

    let admin = Person { tenant: made.tenant.clone(), key: made.key, private: key };
    let mut tenants = TenantServiceClient::new(admin.client(&stack, Service::Registry).await?);
    let tenant = tenants.get_tenant(GetTenantRequest { name: made.tenant }).await?.into_inner();
    assert_eq!(tenant.display_name, "First");
    Ok(())
}

#[tokio::test]
async fn an_assertion_is_exchanged_once_and_only_if_all_of_it_is_right() -> Result<()> {
    let stack = registry().await?;
    let admin = client::bootstrap(&stack).await?;
    let mut tokens = TokenServiceClient::new(client::channel(&stack, Service::Registry).await?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = || json!({ "iss": admin.key, "sub": admin.key, "aud": "holdfast/token", "exp": now + 60, "jti": unique() });
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let stranger =
        Person { tenant: admin.tenant.clone(), key: admin.key.clone(), private: KeyPair::generate()? };
    let nobody = format!("{}/keys/ky{}", admin.tenant, "0".repeat(32));
    let mut bad = vec![
        ("nothing", String::new()),
        ("no JWT", "a.b.c".into()),
        ("too long", "x".repeat(5000)),
        ("another key", stranger.assertion()?),
        ("a clock at 1970", admin.assertion_of(&with("exp", json!(60)))?),
        ("a clock twenty years ahead", admin.assertion_of(&with("exp", json!(now + 20 * 365 * 86_400)))?),
        ("the end of time", admin.assertion_of(&with("exp", json!(u64::MAX)))?),
        ("the end of signed time", admin.assertion_of(&with("exp", json!(i64::MAX)))?),
        ("six minutes", admin.assertion_of(&with("exp", json!(now + 360)))?),
        ("another audience", admin.assertion_of(&with("aud", json!("holdfast")))?),
        ("another issuer", admin.assertion_of(&with("iss", json!("somebody")))?),
        (
            "no jti",
            admin.assertion_of(
                &json!({ "iss": admin.key, "sub": admin.key, "aud": "holdfast/token", "exp": now + 60 }),
            )?,
        ),
        ("an empty jti", admin.assertion_of(&with("jti", json!("")))?),
        ("a long jti", admin.assertion_of(&with("jti", json!("j".repeat(129))))?),
        ("a subject that is no key", admin.assertion_of(&with("sub", json!("tenants/x")))?),
    ];
    let mut missing = claims();
    missing["sub"] = json!(nobody);
    missing["iss"] = json!(nobody);
    bad.push(("a key that does not exist", admin.assertion_of(&missing)?));
    let good = admin.assertion()?;
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    bad.push(("a flipped bit", format!("{head}.{flipped}{}", &signature[1..])));
    let (_, claims_part) = head.split_once('.').unwrap();
    bad.push(("alg none", format!("eyJhbGciOiJub25lIn0.{claims_part}.")));
    for (what, assertion) in bad {
        let answer = tokens.exchange_token(ExchangeTokenRequest { assertion }).await;
        assert_eq!(refusal(answer), (Code::Unauthenticated, "ASSERTION_REFUSED".into()), "{what}");
    }

    let token = tokens.exchange_token(ExchangeTokenRequest { assertion: good.clone() }).await?.into_inner();
    let expires = u64::try_from(token.expire_time.unwrap().seconds)?;
    assert!(expires <= now + 15 * 60 + 5, "at most 15 minutes");
    let again = tokens.exchange_token(ExchangeTokenRequest { assertion: good }).await;
    assert_eq!(refusal(again), (Code::Unauthenticated, "ASSERTION_REFUSED".into()), "a replay");

    let jwks = tokens.get_jwks(proto::registry::v1::GetJwksRequest {}).await?.into_inner().jwks_json;
    let jwks: serde_json::Value = serde_json::from_str(&jwks)?;
    let header = jsonwebtoken_header(&token.access_token)?;
    assert_eq!(jwks["keys"][0]["kid"], header["kid"]);
    assert!(jwks["keys"][0].get("d").is_none(), "no private half");
    Ok(())
}

fn jsonwebtoken_header(token: &str) -> Result<serde_json::Value> {
    Ok(serde_json::to_value(jsonwebtoken::decode_header(token)?)?)
}

#[tokio::test]
async fn a_deleted_key_gets_no_new_token_and_the_last_administrator_stays() -> Result<()> {
    let stack = registry().await?;
    let admin = client::bootstrap(&stack).await?;
    let viewer = admin.colleague(&stack, Role::Viewer).await?;
    viewer.token(&stack).await?;
    let mut tenants = TenantServiceClient::new(admin.client(&stack, Service::Registry).await?);
    tenants.delete_key(DeleteKeyRequest { name: viewer.key.clone(), ..Default::default() }).await?;
    assert!(viewer.token(&stack).await.is_err());
    let again = tenants.delete_key(DeleteKeyRequest { name: viewer.key.clone(), ..Default::default() }).await;
    assert_eq!(refusal(again).0, Code::NotFound);
    let last = tenants.delete_key(DeleteKeyRequest { name: admin.key.clone(), ..Default::default() }).await;
    assert_eq!(refusal(last), (Code::FailedPrecondition, "LAST_ADMIN_KEY".into()));

    // A second administrator of the tenant is not one of the installation: the last of those stays too.
    let second = admin.colleague(&stack, Role::Admin).await?;
    let last = tenants.delete_key(DeleteKeyRequest { name: admin.key.clone(), ..Default::default() }).await;
    assert_eq!(refusal(last), (Code::FailedPrecondition, "LAST_ADMIN_KEY".into()));
    let mut theirs = TenantServiceClient::new(second.client(&stack, Service::Registry).await?);
    let forbidden =
        theirs.delete_key(DeleteKeyRequest { name: admin.key.clone(), ..Default::default() }).await;
    assert_eq!(refusal(forbidden), (Code::PermissionDenied, "FORBIDDEN".into()));
    let audit = stack.sql("SELECT action FROM registry.audit ORDER BY seq")?;
    assert_eq!(
        audit.split_whitespace().collect::<Vec<_>>(),
        ["bootstrap", "create_key", "delete_key", "create_key"]
    );
    Ok(())
}

#[tokio::test]
async fn keys_are_made_listed_and_refused_by_field() -> Result<()> {
    let stack = registry().await?;
    let admin = client::bootstrap(&stack).await?;
    let mut tenants = TenantServiceClient::new(admin.client(&stack, Service::Registry).await?);
    let good = Key {
        display_name: "ci".into(),
        role: Role::Operator.into(),
        public_key: KeyPair::generate()?.subject_public_key_info(),
        ..Key::default()
    };
    let create =
        |key: Option<Key>| CreateKeyRequest { parent: admin.tenant.clone(), key, ..Default::default() };
    for (field, key) in [
        ("key", None),
        ("key.role", Some(Key { role: 0, ..good.clone() })),
        ("key.role", Some(Key { role: 99, ..good.clone() })),
        ("key.display_name", Some(Key { display_name: String::new(), ..good.clone() })),
        ("key.display_name", Some(Key { display_name: "x".repeat(65), ..good.clone() })),
        ("key.public_key", Some(Key { public_key: vec![1; 91], ..good.clone() })),
        ("key.installation", Some(Key { installation: true, ..good.clone() })),
    ] {
        assert_eq!(refusal(tenants.create_key(create(key)).await), (Code::InvalidArgument, field.into()));
    }
    let made = tenants.create_key(create(Some(good.clone()))).await?.into_inner();
    assert_eq!((made.role, made.display_name.as_str()), (good.role, "ci"));
    let twice = tenants.create_key(create(Some(good))).await;
    assert_eq!(refusal(twice).0, Code::AlreadyExists);

    let installer = Key {
        display_name: "spare".into(),
        role: Role::Admin.into(),
        installation: true,
        public_key: KeyPair::generate()?.subject_public_key_info(),
        ..Key::default()
    };
    assert!(tenants.create_key(create(Some(installer.clone()))).await?.into_inner().installation);
    let plain = admin.colleague(&stack, Role::Admin).await?;
    let mut theirs = TenantServiceClient::new(plain.client(&stack, Service::Registry).await?);
    let another = Key { public_key: KeyPair::generate()?.subject_public_key_info(), ..installer };
    assert_eq!(refusal(theirs.create_key(create(Some(another))).await).0, Code::PermissionDenied);

    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListKeysRequest { parent: admin.tenant.clone(), page_size: 2, page_token };
        let page = tenants.list_keys(request).await?.into_inner();
        names.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 4);
    let request = ListKeysRequest { parent: admin.tenant.clone(), page_size: -1, page_token: String::new() };
    assert_eq!(refusal(tenants.list_keys(request).await), (Code::InvalidArgument, "page_size".into()));
    let request =
        ListKeysRequest { parent: admin.tenant.clone(), page_size: 2, page_token: "nonsense".into() };
    assert_eq!(refusal(tenants.list_keys(request).await), (Code::InvalidArgument, "page_token".into()));
    Ok(())
}

#[tokio::test]
async fn the_installer_makes_and_lists_tenants_and_nobody_else_does() -> Result<()> {
    let stack = registry().await?;
    let installer = client::bootstrap(&stack).await?;
    let other = client::new_tenant(&stack, &installer, "Zweite").await?;
    let mut tenants = TenantServiceClient::new(installer.client(&stack, Service::Registry).await?);
    let listed = tenants.list_tenants(ListTenantsRequest { page_size: 0, page_token: String::new() }).await?;
    let listed: Vec<_> = listed.into_inner().tenants.into_iter().map(|t| t.display_name).collect();
    assert_eq!(listed, ["First", "Zweite"]);
    let bad = CreateTenantRequest { display_name: "\u{7}".into(), ..Default::default() };
    assert_eq!(refusal(tenants.create_tenant(bad).await), (Code::InvalidArgument, "display_name".into()));
    let bad = CreateTenantRequest { display_name: "x".into(), ..Default::default() };
    assert_eq!(refusal(tenants.create_tenant(bad).await), (Code::InvalidArgument, "admin_public_key".into()));

    let mut theirs = TenantServiceClient::new(other.client(&stack, Service::Registry).await?);
    assert_eq!(refusal(theirs.list_tenants(ListTenantsRequest::default()).await).0, Code::PermissionDenied);
    assert_eq!(refusal(theirs.create_tenant(CreateTenantRequest::default()).await).0, Code::PermissionDenied);
    let name = installer.tenant.clone();
    assert_eq!(refusal(theirs.get_tenant(GetTenantRequest { name }).await).0, Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn authority_keys_are_sealed_and_only_their_master_key_opens_them() -> Result<()> {
    let stack = registry().await?;
    let admin = client::bootstrap(&stack).await?;
    let token = admin.token(&stack).await?;
    // PKCS#8 of a P-256 key holds this object identifier; sealed bytes do not.
    let plain = "encode('\\x2a8648ce3d030107'::bytea, 'hex')";
    for table in ["roots", "intermediates", "signing_keys"] {
        let sql = format!(
            "SELECT count(*) FROM registry.{table} WHERE encode(sealed_key, 'hex') LIKE '%' || {plain} || '%'"
        );
        assert_eq!(stack.sql(&sql)?.trim(), "0", "{table}");
        assert_ne!(stack.sql(&format!("SELECT count(*) FROM registry.{table}"))?.trim(), "0", "{table}");
    }
    stack.restart(Service::Registry).await?;
    let channel = client::channel(&stack, Service::Registry).await?;
    let mut tenants = TenantServiceClient::new(with_token(channel, &token)?);
    tenants.get_tenant(GetTenantRequest { name: admin.tenant.clone() }).await?;

    stack.stop(Service::Registry).await?;
    let environment = stack.environment(Service::Registry);
    let file =
        environment.iter().find(|(key, _)| key == "HOLDFAST_MASTER_KEY_FILE").map(|(_, path)| path).unwrap();
    let kept = std::fs::read_to_string(file)?;
    std::fs::write(file, "00".repeat(32))?;
    assert!(stack.start_service(Service::Registry).await.is_err(), "another master key opens nothing");
    std::fs::write(file, kept)?;
    stack.start_service(Service::Registry).await
}

#[tokio::test]
async fn the_registry_goes_on_when_its_database_comes_back() -> Result<()> {
    let stack = registry().await?;
    let admin = client::bootstrap(&stack).await?;
    let mut tenants = TenantServiceClient::new(admin.client(&stack, Service::Registry).await?);
    let request = || GetTenantRequest { name: admin.tenant.clone() };
    stack.stop(dev::Part::Postgres).await?;
    assert_eq!(refusal(tenants.get_tenant(request()).await), (Code::Unavailable, "UNAVAILABLE".into()));
    stack.start_service(dev::Part::Postgres).await?;
    let deadline = tokio::time::Instant::now() + crate::board::PATIENCE;
    while let Err(error) = tenants.get_tenant(request()).await {
        assert_eq!(error.code(), Code::Unavailable);
        assert!(tokio::time::Instant::now() < deadline);
    }
    Ok(())
}

#[tokio::test]
async fn who_lost_their_key_hears_nothing_more_once_the_token_has_expired() -> Result<()> {
    let short = Options::only([Service::Registry]).env(Service::Registry, "HOLDFAST_TOKEN_S", "5");
    let stack = Stack::start(short).await?;
    let admin = client::bootstrap(&stack).await?;
    let leaver = admin.colleague(&stack, Role::Viewer).await?;
    let mut devices = DeviceServiceClient::new(leaver.client(&stack, Service::Registry).await?);
    let request = WatchDevicesRequest { parent: leaver.tenant.clone(), ..Default::default() };
    let mut watch = devices.watch_devices(request).await?.into_inner();
    assert_eq!(watch.message().await?.map(|event| event.kind()), Some(Kind::Synced));

    let mut tenants = TenantServiceClient::new(admin.client(&stack, Service::Registry).await?);
    tenants.delete_key(DeleteKeyRequest { name: leaver.key.clone(), ..Default::default() }).await?;
    let ended = tokio::time::timeout(Duration::from_secs(30), watch.message()).await?;
    assert_eq!(refusal(ended), (Code::Unauthenticated, "TOKEN_EXPIRED".into()));
    Ok(())
}
