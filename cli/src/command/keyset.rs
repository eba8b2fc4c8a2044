//! `holdfast keyset`: the keys a tenant's devices believe.
//!
//! Root keys may live on different machines: `create` writes what is to be signed, each holder adds a signature with
//! `sign`, anyone publishes the whole with `upload`. `init` does it all at once for a first tenant.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use proto::ota::v1::GetDirectorKeyRequest;
use proto::registry::v1::{CreateKeysetRequest, GetKeysetRequest, Keyset, ListKeysetsRequest};
use wire::keyset;
use wire::manifest::Component;
use wire::sign::{KeysetSpec, ReleaseKeySpec, Signer, assemble_keyset, sign_keyset};

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::failure::input;
use crate::keyfile::{KeyFile, write_private};
use crate::output;
use crate::session::Session;
use crate::signer::{SIGNER_HELP, SignerRef};

const KEYSET: &str = "holdfast.registry.v1.Keyset";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make root and release keys, and publish the tenant's first keyset.
    #[command(
        after_help = "Example:\n  holdfast keyset init --dir keys/\n\nKeep keys/root.pem offline: who has it can replace every other key."
    )]
    Init {
        /// Folder for root.pem and release.pem; keys already there are used.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// PEM of the CA of the broker's certificate; the context's CA when it is the same.
        #[arg(long, value_name = "FILE")]
        broker_ca: Option<PathBuf>,
    },
    /// Write the next keyset's payload, to be signed by root keys.
    #[command(
        after_help = "Example:\n  holdfast keyset create --root a.pem --root b.pem --threshold 2 \\\n    --release ci.pem:app --release vendor.pem:microvisor:an505 --out next.payload\n  holdfast keyset sign next.payload --key old-root.pem --out old-root.sig\n  holdfast keyset assemble next.payload --signature old-root.sig --out next.keyset\n  holdfast keyset upload next.keyset"
    )]
    Create(Create),
    /// Sign a keyset payload with one root key.
    Sign {
        payload: PathBuf,
        #[arg(long, value_name = "SIGNER", help = format!("Root key: {SIGNER_HELP}"))]
        key: SignerRef,
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put a payload and its signatures together.
    Assemble {
        payload: PathBuf,
        #[arg(long, value_name = "FILE", required = true)]
        signature: Vec<PathBuf>,
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Publish a signed keyset; devices take it up at their next hello.
    Upload { file: PathBuf },
    /// Show a keyset: the newest, one by version, or a file.
    Show {
        version: Option<u32>,
        #[arg(long, conflicts_with = "version", value_name = "FILE")]
        file: Option<PathBuf>,
        /// Write it there as it was signed: what a board's factory takes.
        #[arg(long, conflicts_with = "file", value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List keysets.
    List(Page),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Root key file (private, or public PEM via exec:): may be repeated up to 4 times.
    #[arg(long, value_name = "SIGNER", required = true)]
    root: Vec<SignerRef>,
    /// How many root keys must sign the keyset after this one.
    #[arg(long, default_value_t = 1)]
    threshold: u8,
    /// Release key, and for which component and board it is good: FILE[:COMPONENT[:BOARD]].
    #[arg(long, value_name = "FILE[:COMPONENT[:BOARD]]", required = true)]
    release: Vec<ReleaseRef>,
    /// PEM of a CA that signs brokers' certificates: may be given twice.
    #[arg(long, value_name = "FILE")]
    broker_ca: Vec<PathBuf>,
    /// X25519 public key to which crash dumps are encrypted, 64 hex digits.
    #[arg(long, value_name = "HEX")]
    crash_key: Option<String>,
    /// Payload file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A release key file and its scope.
#[derive(Debug, Clone)]
pub(super) struct ReleaseRef {
    file: PathBuf,
    component: Option<Component>,
    board: Option<String>,
}

impl FromStr for ReleaseRef {
    type Err = String;

    fn from_str(text: &str) -> Result<ReleaseRef, String> {
        let mut parts = text.splitn(3, ':');
        let file = parts.next().unwrap_or_default().into();
        let component =
            parts.next().map(Component::from_str).transpose().map_err(|error| error.to_string())?;
        Ok(ReleaseRef { file, component, board: parts.next().map(str::to_owned) })
    }
}

impl ReleaseRef {
    pub(super) fn spec(&self) -> Result<ReleaseKeySpec> {
        let key = KeyFile::public_in(&self.file)?;
        Ok(ReleaseKeySpec { key, component: self.component, board: self.board.clone() })
    }
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    match command {
        Command::Init { dir, broker_ca } => init(global, dir, broker_ca.as_deref()).await,
        Command::Create(args) => create(global, args).await,
        Command::Sign { payload, key, out } => {
            let signature = sign_keyset(&read(payload)?, key.open()?.as_ref())?;
            write_private(out, &signature, false)
        }
        Command::Assemble { payload, signature, out } => {
            let signatures: Vec<Vec<u8>> = signature.iter().map(|file| read(file)).collect::<Result<_>>()?;
            write_private(out, &assemble_keyset(&read(payload)?, &signatures)?, false)
        }
        Command::Upload { file } => upload(global, &Session::open(global).await?, read(file)?).await,
        Command::Show { file: Some(file), .. } => print(global, &read(file)?),
        Command::Show { version, out, .. } => {
            let session = Session::open(global).await?;
            let id = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
            let signed = get(&session, &id).await?.signed;
            if let Some(out) = out {
                write_private(out, &signed, false)?;
            }
            print(global, &signed)
        }
        Command::List(page) => list(global, page).await,
    }
}

async fn init(global: &Global, dir: &Path, broker_ca: Option<&Path>) -> Result<()> {
    let session = Session::open(global).await?;
    let root = KeyFile::load_or_create(&dir.join("root.pem"))?.into_signer();
    let release = KeyFile::load_or_create(&dir.join("release.pem"))?;
    let spec = KeysetSpec {
        tenant: tenant_id(&session)?,
        version: 1,
        root_keys: vec![root.public_key()],
        root_threshold: 1,
        release_keys: vec![ReleaseKeySpec { key: release.public_key(), component: None, board: None }],
        director_key: director_key(&session).await?,
        crash_key: None,
        broker_anchors: anchors(&[broker_ca.unwrap_or(&session.context().ca)])?,
    };
    upload(global, &session, spec.sign(&[&root])?).await
}

async fn create(global: &Global, args: &Create) -> Result<()> {
    let session = Session::open(global).await?;
    let newest = newest_version(&session).await?;
    let roots: Vec<Box<dyn Signer>> = args.root.iter().map(SignerRef::open).collect::<Result<_>>()?;
    let anchors_of: Vec<&Path> = match args.broker_ca.as_slice() {
        [] => vec![&session.context().ca],
        files => files.iter().map(PathBuf::as_path).collect(),
    };
    let spec = KeysetSpec {
        tenant: tenant_id(&session)?,
        version: newest + 1,
        root_keys: roots.iter().map(|root| root.public_key()).collect(),
        root_threshold: args.threshold,
        release_keys: args.release.iter().map(ReleaseRef::spec).collect::<Result<_>>()?,
        director_key: director_key(&session).await?,
        crash_key: args.crash_key.as_deref().map(parse_key).transpose()?,
        broker_anchors: anchors(&anchors_of)?,
    };
    write_private(&args.out, &spec.payload()?, false)?;
    if !global.json {
        let who = if newest == 0 {
            "its own root keys".to_owned()
        } else {
            format!("root keys of version {newest}")
        };
        eprintln!("version {} written to {}: to be signed by {who}", spec.version, args.out.display());
    }
    Ok(())
}

async fn upload(global: &Global, session: &Session, signed: Vec<u8>) -> Result<()> {
    keyset::read(&signed).context("not a signed keyset")?;
    let request = CreateKeysetRequest {
        parent: session.tenant(),
        signed,
        request_id: fresh_request_id(),
        ..Default::default()
    };
    let reply =
        session.keysets().await?.create_keyset(request).await.context("the server refused the keyset")?;
    print(global, &reply.into_inner().signed)
}

pub(super) async fn get(session: &Session, id: &str) -> Result<Keyset> {
    let name = format!("{}/keysets/{id}", session.tenant());
    Ok(session.keysets().await?.get_keyset(GetKeysetRequest { name }).await?.into_inner())
}

async fn newest_version(session: &Session) -> Result<u32> {
    match get(session, "latest").await {
        Ok(keyset) => Ok(u32::try_from(keyset.version)?),
        Err(error) => match error.downcast_ref::<tonic::Status>().map(tonic::Status::code) {
            Some(tonic::Code::NotFound) => Ok(0),
            _ => Err(error),
        },
    }
}

async fn director_key(session: &Session) -> Result<wire::PublicKey> {
    let request = GetDirectorKeyRequest { parent: session.tenant() };
    let reply = session
        .deployments()
        .await?
        .get_director_key(request)
        .await
        .context("cannot get the director key")?;
    Ok(wire::PublicKey::from_spki_der(&reply.into_inner().public_key)?)
}

fn tenant_id(session: &Session) -> Result<wire::TenantId> {
    let tenant = session.tenant();
    output::id(&tenant).parse().with_context(|| format!("`{tenant}` in this context is not a tenant's name"))
}

/// The first certificate of each PEM file, as DER.
pub(super) fn anchors(files: &[&Path]) -> Result<Vec<Vec<u8>>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let anchor = |file: &&Path| {
        let der = CertificateDer::from_pem_file(file)
            .ok()
            .with_context(|| format!("{} holds no certificate in PEM", file.display()))?;
        Ok(der.to_vec())
    };
    files.iter().map(anchor).collect()
}

fn parse_key(text: &str) -> Result<[u8; 32]> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| input(format!("`{text}` is not 64 hex digits")))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn describe(release: &keyset::ReleaseKey<'_>) -> Result<String> {
    let component = release.component.map_or("any component", Component::name);
    Ok(format!(
        "{} for {component} on {}",
        hex::encode(release.key.hash()?.0),
        release.board.unwrap_or("any board")
    ))
}

pub(super) fn print(global: &Global, signed: &[u8]) -> Result<()> {
    let keyset = keyset::read(signed).context("a malformed keyset")?;
    let roots: Vec<String> =
        keyset.root_keys.iter().map(|key| Ok(hex::encode(key.hash()?.0))).collect::<Result<_>>()?;
    let releases: Vec<String> = keyset.release_keys.iter().map(describe).collect::<Result<_>>()?;
    let director = hex::encode(keyset.director_key.hash()?.0);
    if global.json {
        let value = serde_json::json!({
            "tenant": keyset.tenant.text().as_str(), "version": keyset.version, "root_keys": roots,
            "root_threshold": keyset.root_threshold, "release_keys": releases, "director_key": director,
            "broker_anchors": keyset.broker_anchors.len(),
        });
        return output::line(&value.to_string());
    }
    let mut fields = vec![
        ("tenant", keyset.tenant.text().as_str().to_owned()),
        ("version", keyset.version.to_string()),
        ("threshold", format!("{} of {} root keys", keyset.root_threshold, roots.len())),
    ];
    fields.extend(roots.into_iter().map(|key| ("root key", key)));
    fields.extend(releases.into_iter().map(|key| ("release key", key)));
    fields.push(("director key", director));
    fields.push(("broker anchors", keyset.broker_anchors.len().to_string()));
    output::fields(&fields)
}

async fn list(global: &Global, page: &Page) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.keysets().await?;
    let all = collect(page.limit, async |page_token| {
        let request = ListKeysetsRequest { parent: session.tenant(), page_size: PAGE_SIZE, page_token };
        let reply = client.list_keysets(request).await?.into_inner();
        Ok((reply.keysets, reply.next_page_token))
    });
    let keysets = all.await?;
    if global.json {
        return keysets.iter().try_for_each(|keyset| output::json(KEYSET, keyset));
    }
    let row = |keyset: &Keyset| vec![keyset.version.to_string(), output::time(keyset.create_time.as_ref())];
    output::table(&["VERSION", "CREATED"], &keysets.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_key_may_be_scoped_to_component_and_board() {
        let all: ReleaseRef = "a.pem".parse().unwrap();
        assert_eq!((all.component, all.board), (None, None));
        let one: ReleaseRef = "a.pem:app:host".parse().unwrap();
        assert_eq!((one.component, one.board.as_deref()), (Some(Component::App), Some("host")));
        assert!("a.pem:kernel".parse::<ReleaseRef>().is_err());
    }
}
