//! Every method of every service, made from the descriptors, called by those who may not.
//!
//! A request's resource names are the string fields whose comment in the .proto file states a pattern
//! (`tenants/{tenant}/devices/{device}`). Each is filled with what belongs to one tenant and sent by the administrator
//! of another: the answer is the one for a name that does not exist, and the database is as it was. A list of names has one.
//! The owner's own call, last, shows that the names were good. A method added tomorrow is in this test tomorrow.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod estate;
mod method;
#[path = "../ota/tenant.rs"]
#[expect(dead_code, reason = "written for svc-ota's own tests, which use all of it")]
mod tenant;

use anyhow::Result;
use dev::{Options, Stack};
use proto::auth::v1::Access;
use proto::registry::v1::Role;
use scenarios::client::{self, Person};
use scenarios::{board, fleet};
use tonic::Code;

use crate::estate::Estate;
use crate::method::{Answer, Methods};

/// Named in a request and yet not what is asked for: the server gives it, whatever the caller wrote.
const OUTPUT_ONLY: [(&str, &str); 4] = [
    ("/holdfast.registry.v1.DeviceService/UpdateDevice", "device.debugging_forbidden_by.device"),
    (
        "/holdfast.registry.v1.DeviceService/BatchUpdateDevices",
        "requests.device.debugging_forbidden_by.device",
    ),
    ("/holdfast.registry.v1.TenantService/CreateKey", "key.name"),
    ("/holdfast.debug.v1.DebugSessionService/CreateDebugSession", "debug_session.name"),
];

fn is_for_people(access: Access) -> bool {
    matches!(access, Access::Viewer | Access::Operator | Access::Developer | Access::Admin)
}

#[tokio::test]
async fn a_foreign_tenants_names_look_like_names_that_do_not_exist_and_nothing_changes() -> Result<()> {
    let stack = Stack::start(Options::all()).await?;
    let owner = Estate::make(&stack, client::bootstrap(&stack).await?).await?;
    let stranger = client::new_tenant(&stack, &owner.person, "Stranger").await?;
    let token = stranger.token(&stack).await?;
    let methods = Methods::read()?;
    let nowhere = owner.in_no_tenant();

    let before = dump(&stack)?;
    let (mut called, mut listed) = (0, 0);
    for method in methods.all().filter(|m| is_for_people(m.access)) {
        let names = method.names();
        assert!(!names.is_empty(), "{}: a method open to a tenant's people names no resource", method.path);
        let foreign = method.call(&stack, &owner.fill(&method)?, Some(&token)).await?;
        let unknown = method.call(&stack, &nowhere.fill(&method)?, Some(&token)).await?;
        assert_eq!(foreign.code(), Code::NotFound, "{}: {foreign:?}", method.path);
        assert_eq!(foreign, unknown, "{}: the two can be told apart", method.path);
        for name in names.iter().filter(|name| !OUTPUT_ONLY.contains(&(method.path, name.path.as_str()))) {
            // All of the caller's own tenant but this one; what it calls its own need not exist to be refused first.
            let mixed = owner.in_tenant(&stranger.tenant).fill_but(&method, name, &owner)?;
            let answer = method.call(&stack, &mixed, Some(&token)).await?;
            assert_eq!(answer.code(), Code::NotFound, "{} {}: {answer:?}", method.path, name.path);
            listed += usize::from(name.is_listed());
        }
        called += 1;
    }
    assert_eq!(dump(&stack)?, before, "a refused call left something behind");
    assert!(called >= 30 && listed >= 3, "only {called} methods, {listed} lists of names");

    let token = owner.person.token(&stack).await?;
    let mut own: Vec<_> = methods.all().filter(|m| is_for_people(m.access)).collect();
    own.sort_by_key(|method| method.how_final());
    for method in own {
        let answer = method.call(&stack, &owner.fill_own(&method)?, Some(&token)).await?;
        let good = !matches!(answer.code(), Code::NotFound | Code::PermissionDenied | Code::Unauthenticated);
        assert!(good, "{}: the owner gets {answer:?}", method.path);
    }
    Ok(())
}

#[tokio::test]
async fn a_name_with_control_characters_is_refused_everywhere_and_never_echoed() -> Result<()> {
    let stack = Stack::start(Options::all()).await?;
    let admin = client::bootstrap(&stack).await?;
    let token = admin.token(&stack).await?;
    let estate = Estate::imagined(admin);
    let before = dump(&stack)?;
    let mut tried = 0;
    for method in Methods::read()?.all().filter(|m| is_for_people(m.access)) {
        let names = method.names();
        for name in names.iter().filter(|name| !OUTPUT_ONLY.contains(&(method.path, name.path.as_str()))) {
            for ending in ["\0", "\n", "\u{1b}[2Jx", "\u{9b}2Jx"] {
                let request = estate.fill_ending(&method, name, ending)?;
                let Answer::Refused(status) = method.call(&stack, &request, Some(&token)).await? else {
                    anyhow::bail!("{} {}: taken with {ending:?}", method.path, name.path)
                };
                let said = format!("{} {:?}", status.message(), String::from_utf8_lossy(status.details()));
                assert_eq!(status.code(), Code::InvalidArgument, "{} {}: {said}", method.path, name.path);
                assert!(!status.message().chars().any(char::is_control) && !said.contains("2Jx"), "{said}");
                tried += 1;
            }
        }
    }
    assert_eq!(dump(&stack)?, before, "a refused call left something behind");
    assert!(tried >= 120, "only {tried}");
    Ok(())
}

#[tokio::test]
async fn nobody_calls_what_their_role_does_not_include() -> Result<()> {
    let stack = Stack::start(Options::all()).await?;
    let admin = client::bootstrap(&stack).await?;
    let plain_admin = admin.colleague(&stack, Role::Admin).await?;
    let mut people: Vec<(kit::auth::Role, Person)> = vec![(kit::auth::Role::Admin, plain_admin)];
    for (role, name) in [
        (Role::Viewer, kit::auth::Role::Viewer),
        (Role::Operator, kit::auth::Role::Operator),
        (Role::Developer, kit::auth::Role::Developer),
    ] {
        people.push((name, admin.colleague(&stack, role).await?));
    }
    let mut tokens = Vec::new();
    for (role, person) in &people {
        tokens.push((*role, person.token(&stack).await?));
    }
    let estate = Estate::imagined(admin);
    let forged = forge(&tokens[0].1);
    let before = dump(&stack)?;
    for method in Methods::read()?.all().filter(|m| m.access != Access::Public) {
        let request = estate.fill(&method)?;
        let refused =
            async |token: Option<&str>| anyhow::Ok(method.call(&stack, &request, token).await?.code());
        assert_eq!(refused(None).await?, Code::Unauthenticated, "{} without a token", method.path);
        assert_eq!(refused(Some("nonsense")).await?, Code::Unauthenticated, "{} with nonsense", method.path);
        assert_eq!(
            refused(Some(&forged)).await?,
            Code::Unauthenticated,
            "{} with a forged token",
            method.path
        );
        if method.access != Access::Service {
            let as_service = method.call_as_service(&stack, &request).await?;
            assert_eq!(
                as_service.code(),
                Code::Unauthenticated,
                "{} with a service's certificate",
                method.path
            );
        }
        for (role, token) in &tokens {
            let expected = match method.access {
                Access::Service => Code::Unauthenticated,
                access if role.includes(access) => continue,
                _ => Code::PermissionDenied,
            };
            assert_eq!(refused(Some(token)).await?, expected, "{} as {role:?}", method.path);
        }
    }
    assert_eq!(dump(&stack)?, before, "a refused call left something behind");
    Ok(())
}

/// The same token with another role in it, and the old signature.
fn forge(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let flipped = if parts[1].ends_with('A') { 'B' } else { 'A' };
    format!("{}.{}{flipped}.{}", parts[0], &parts[1][..parts[1].len() - 1], parts[2])
}

/// A digest of every row of every table, but for those that tell when somebody signed in or a loop ran.
fn dump(stack: &Stack) -> Result<Vec<(String, String)>> {
    // `ota.trash` lists objects that svc-ota's sweep deletes: it shrinks, and grows by what interrupted writers left.
    const MOVING: [&str; 2] = ["registry.assertions", "ota.trash"];
    let tables = stack.sql(
        "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('registry', 'ota', 'logs', 'debug') ORDER BY 1",
    )?;
    let mut digests = Vec::new();
    for table in tables.lines().map(str::trim).filter(|t| !t.is_empty() && !MOVING.contains(t)) {
        let sql = format!(
            "SELECT count(*), md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {table} t"
        );
        digests.push((table.to_owned(), stack.sql(&sql)?.trim().to_owned()));
    }
    assert!(digests.len() > 15, "{digests:?}");
    Ok(digests)
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Answer::Ok, Answer::Ok) => true,
            (Answer::Refused(a), Answer::Refused(b)) => {
                (a.code(), a.message(), a.details()) == (b.code(), b.message(), b.details())
            }
            _ => false,
        }
    }
}
