//! `holdfast claim`: what boards enrol with. The claim's private key is made here and goes into `provision.json`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use proto::registry::v1::{
    Claim, CreateClaimRequest, GetClaimRequest, GetKeysetRequest, ListClaimsRequest, RevokeClaimRequest,
};
use serde::Serialize;

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect, fresh_request_id, parse_duration};
use crate::keyfile::{KeyFile, write_private};
use crate::output;
use crate::session::Session;

const CLAIM: &str = "holdfast.registry.v1.Claim";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a claim and write what a board needs to enrol into a folder.
    #[command(
        after_help = "Example:\n  holdfast claim create --devices 100 --ttl 30d --board host --out factory/\n\nThe folder then holds provision.json: it contains the claim's private key. Treat it as a secret."
    )]
    Create(Create),
    /// List claims.
    List(Page),
    /// Show one claim.
    Show { claim: String },
    /// End a claim now.
    Revoke { claim: String },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Display name.
    #[arg(long, default_value = "boards")]
    name: String,
    /// How many devices it may enrol.
    #[arg(long, value_name = "N")]
    devices: i64,
    /// How long it is good: 90s, 15m, 12h or 30d.
    #[arg(long, value_parser = parse_duration, default_value = "30d", value_name = "TIME")]
    ttl: Duration,
    /// Board the provisioning is for.
    #[arg(long, default_value = "host")]
    board: String,
    /// PEM of the CA of the broker's certificate; the context's CA when it is the same.
    #[arg(long, value_name = "FILE")]
    broker_ca: Option<PathBuf>,
    /// Folder for provision.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What a board must hold before it first connects; docs/protocol.md, Provisioning.
#[derive(Serialize)]
struct Provision {
    enroll_address: String,
    server_ca_pem: String,
    claim_certificate_pem: String,
    claim_key_pem: String,
    root_key_hashes: Vec<String>,
    root_threshold: u8,
    board: String,
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.claims().await?;
    match command {
        Command::Create(args) => create(global, &session, args).await,
        Command::List(page) => {
            let all = collect(page.limit, async |page_token| {
                let request =
                    ListClaimsRequest { parent: session.tenant(), page_size: PAGE_SIZE, page_token };
                let reply = client.list_claims(request).await?.into_inner();
                Ok((reply.claims, reply.next_page_token))
            });
            list(global, &all.await?)
        }
        Command::Show { claim } => show(
            global,
            &client.get_claim(GetClaimRequest { name: session.name("claims", claim) }).await?.into_inner(),
        ),
        Command::Revoke { claim } => show(
            global,
            &client
                .revoke_claim(RevokeClaimRequest {
                    name: session.name("claims", claim),
                    request_id: fresh_request_id(),
                    ..Default::default()
                })
                .await?
                .into_inner(),
        ),
    }
}

async fn create(global: &Global, session: &Session, args: &Create) -> Result<()> {
    let (root_key_hashes, root_threshold) = root_keys(&first_keyset(session).await?)?;
    let key_file = args.out.join("claim.key.pem");
    let key = KeyFile::create(&key_file)?;
    let request = CreateClaimRequest {
        parent: session.tenant(),
        display_name: args.name.clone(),
        devices_max: args.devices,
        ttl: Some(prost_types::Duration::try_from(args.ttl).context("--ttl is too long")?),
        public_key: key.public_der()?,
        request_id: fresh_request_id(),
        ..Default::default()
    };
    let created = session.claims().await?.create_claim(request).await;
    // The key is of use inside provision.json only, and of none at all without a certificate.
    std::fs::remove_file(&key_file).with_context(|| format!("cannot remove {}", key_file.display()))?;
    let claim = created?.into_inner();
    let ca = args.broker_ca.as_ref().unwrap_or(&session.context().ca);
    let provision = Provision {
        enroll_address: claim.enroll_address.clone(),
        server_ca_pem: std::fs::read_to_string(ca)
            .with_context(|| format!("cannot read {}", ca.display()))?,
        claim_certificate_pem: pem("CERTIFICATE", &claim.certificate),
        claim_key_pem: key.pem()?,
        root_key_hashes,
        root_threshold,
        board: args.board.clone(),
    };
    write_private(
        &args.out.join("provision.json"),
        serde_json::to_string_pretty(&provision)?.as_bytes(),
        false,
    )?;
    show(global, &claim)
}

/// The signed first keyset of the tenant.
async fn first_keyset(session: &Session) -> Result<Vec<u8>> {
    let name = format!("{}/keysets/1", session.tenant());
    let reply = session.keysets().await?.get_keyset(GetKeysetRequest { name }).await;
    let keyset = reply.context("the tenant has no keyset yet: make one first with `holdfast keyset init`")?;
    Ok(keyset.into_inner().signed.to_vec())
}

/// What a device is provisioned to believe: SHA-256 of the keyset's root keys, and how many of them must sign.
fn root_keys(signed: &[u8]) -> Result<(Vec<String>, u8)> {
    let keyset = wire::keyset::read(signed).context("the server sent a malformed keyset")?;
    let hashes: Result<_> = keyset.root_keys.iter().map(|key| Ok(hex::encode(key.hash()?.0))).collect();
    Ok((hashes?, keyset.root_threshold))
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn state(claim: &Claim) -> &'static str {
    if claim.revoke_time.is_some() {
        "revoked"
    } else if claim.devices_enrolled >= claim.devices_max {
        "used up"
    } else {
        "open"
    }
}

fn show(global: &Global, claim: &Claim) -> Result<()> {
    if global.json {
        return output::json(CLAIM, claim);
    }
    output::fields(&[
        ("name", claim.name.clone()),
        ("display name", claim.display_name.clone()),
        ("devices", format!("{} of {}", claim.devices_enrolled, claim.devices_max)),
        ("state", state(claim).to_owned()),
        ("created", output::time(claim.create_time.as_ref())),
        ("expires", output::time(claim.expire_time.as_ref())),
        ("revoked", output::time(claim.revoke_time.as_ref())),
        ("enrolment", claim.enroll_address.clone()),
    ])
}

fn list(global: &Global, claims: &[Claim]) -> Result<()> {
    if global.json {
        return claims.iter().try_for_each(|claim| output::json(CLAIM, claim));
    }
    let row = |claim: &Claim| {
        vec![
            output::id(&claim.name).to_owned(),
            state(claim).to_owned(),
            format!("{}/{}", claim.devices_enrolled, claim.devices_max),
            output::time(claim.expire_time.as_ref()),
            claim.display_name.clone(),
        ]
    };
    output::table(&["ID", "STATE", "DEVICES", "EXPIRES", "NAME"], &claims.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::sign::{KeysetSpec, ReleaseKeySpec, Signer as _, SoftKey};

    #[test]
    fn a_board_is_provisioned_with_the_threshold_of_the_root_keys_it_believes() {
        let key = |byte| SoftKey::from_scalar(&[byte; 32]).unwrap();
        let roots = [key(1), key(2)];
        let spec = KeysetSpec {
            tenant: wire::TenantId::new([1; 16]),
            version: 1,
            root_keys: roots.iter().map(SoftKey::public_key).collect(),
            root_threshold: 2,
            release_keys: vec![ReleaseKeySpec { key: key(3).public_key(), component: None, board: None }],
            director_key: key(4).public_key(),
            crash_key: None,
            broker_anchors: vec![vec![0x30, 0]],
        };
        let (hashes, threshold) = root_keys(&spec.sign(&[&roots[0], &roots[1]]).unwrap()).unwrap();
        assert_eq!((hashes.len(), threshold), (2, 2), "one stolen root key cannot introduce itself");
    }
}
