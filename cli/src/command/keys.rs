//! `holdfast keys`: the keys a tenant's devices believe, changed one at a time. Each command reads the newest keyset, says what
//! the next one changes, has root keys sign it and publishes it; `holdfast keyset` has the same steps one by one.

mod publish;
mod status;

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use proto::ota::v1::{ForgetDirectorKeysRequest, RotateDirectorKeyRequest};

use super::keyset::{ReleaseRef, anchors};
use crate::args::Global;
use crate::command::fresh_request_id;
use crate::keychange::{Change, id, short};
use crate::keyfile::KeyFile;
use crate::output;
use crate::session::Session;
use crate::signer::{SIGNER_HELP, SignerRef};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let devices believe another release key, root key or broker CA as well.
    #[command(
        after_help = "Examples:\n  holdfast keys add --release ci2.pem:app --sign root.pem\n  holdfast keys add --root second-root.pem --threshold 2 --sign root.pem\n  holdfast keys add --broker-ca new-ca.pem --sign root.pem"
    )]
    Add(Add),
    /// Take a release or root key out of what devices believe.
    #[command(
        after_help = "Examples:\n  holdfast keyset show                             # prints every key's id\n  holdfast keys revoke 3f9a0c71 --sign root.pem\n  holdfast keys revoke 3f9a0c71 --sign root.pem --dry-run"
    )]
    Revoke(Revoke),
    /// Put one key in the place of another.
    #[command(
        after_help = "Examples:\n  holdfast keys rotate --release 3f9a0c71=new-release.pem --sign root.pem\n  holdfast keys rotate --root lost.pem=new-root.pem --sign other-root.pem\n  holdfast keys rotate --director --sign root.pem\n  holdfast keys rotate --director --forget-old --sign root.pem      # the old one was stolen\n\nSigned elsewhere:\n  holdfast keys rotate --director --out next.payload\n  holdfast keyset sign next.payload --key root.pem --out root.sig\n  holdfast keyset assemble next.payload --signature root.sig --out next.keyset\n  holdfast keyset upload next.keyset"
    )]
    Rotate(Rotate),
    /// Delete director keys that only older keysets name, without waiting for devices to take the newest.
    #[command(
        after_help = "Until a device has taken the newest keyset nothing directs it then. A key that waits for its keyset is kept.\n\nExample:\n  holdfast keys forget"
    )]
    Forget {
        /// Say which they are, and delete none.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show which keysets devices hold, and whether they can be directed.
    #[command(after_help = "Example:\n  holdfast keys status --devices")]
    Status {
        /// Name the devices that do not hold the newest.
        #[arg(long)]
        devices: bool,
    },
}

#[derive(Debug, clap::Args)]
#[group(id = "added", required = true, multiple = true, args = ["release", "root", "broker_ca"])]
pub(crate) struct Add {
    /// Release key, and for which component and board it is good.
    #[arg(long, value_name = "FILE[:COMPONENT[:BOARD]]")]
    release: Vec<ReleaseRef>,
    /// Root key: its private or its public half.
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// PEM of one more CA that signs brokers' certificates.
    #[arg(long, value_name = "FILE")]
    broker_ca: Vec<PathBuf>,
    #[command(flatten)]
    publish: Publish,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The key's id, or enough of its beginning.
    #[arg(required = true, value_name = "KEYID")]
    keys: Vec<String>,
    #[command(flatten)]
    publish: Publish,
}

#[derive(Debug, clap::Args)]
#[group(id = "rotated", required = true, multiple = true, args = ["release", "root", "director", "broker_ca"])]
pub(crate) struct Rotate {
    /// Release key: OLD is its id, or a file with either half of it; NEW is a file with either half.
    #[arg(long, value_name = "OLD=NEW")]
    release: Vec<Pair>,
    /// Root key, in the same way.
    #[arg(long, value_name = "OLD=NEW")]
    root: Vec<Pair>,
    /// The key with which svc-ota signs directives: it makes another.
    #[arg(long)]
    director: bool,
    /// Delete the old director key at once: devices that still hold an older keyset are not directed until they have taken this one.
    #[arg(long, requires = "director", conflicts_with = "out")]
    forget_old: bool,
    /// PEM of the one CA that signs brokers' certificates from now on.
    #[arg(long, value_name = "FILE")]
    broker_ca: Option<PathBuf>,
    #[command(flatten)]
    publish: Publish,
}

/// How the next keyset comes to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// How many root keys must sign the keysets after this one.
    #[arg(long, value_name = "N")]
    threshold: Option<u8>,
    #[arg(long, value_name = "SIGNER", help = format!("A root key of the newest keyset, may be repeated: {SIGNER_HELP}"))]
    sign: Vec<SignerRef>,
    /// Write what is to be signed elsewhere to this file, and publish nothing; a signature of each --sign goes beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Say what would change, have the server check it, and change nothing.
    #[arg(long, conflicts_with = "out")]
    dry_run: bool,
    /// Go on although it cuts devices off from something; what, is said first.
    #[arg(long)]
    yes: bool,
}

/// `OLD=NEW`.
#[derive(Debug, Clone)]
struct Pair {
    old: String,
    new: PathBuf,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Pair, String> {
        match text.split_once('=') {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                Ok(Pair { old: old.to_owned(), new: new.into() })
            }
            _ => Err("write OLD=NEW".to_owned()),
        }
    }
}

impl Pair {
    /// The old key's id, or the beginning of it, and the new key.
    fn keys(&self) -> Result<(String, wire::PublicKey)> {
        let file = PathBuf::from(&self.old);
        let old = if file.is_file() { id(&KeyFile::public_in(&file)?) } else { self.old.clone() };
        Ok((old, KeyFile::public_in(&self.new)?))
    }
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    match command {
        Command::Add(args) => publish::next(global, &session, &added(args)?, &args.publish).await.map(drop),
        Command::Revoke(args) => {
            let changes: Vec<Change> = args.keys.iter().cloned().map(Change::Revoke).collect();
            publish::next(global, &session, &changes, &args.publish).await.map(drop)
        }
        Command::Rotate(args) => rotate(global, &session, args).await,
        Command::Forget { dry_run } => {
            let done = forget(&session, *dry_run).await?;
            if global.json {
                let keys: Vec<String> = done.keys.iter().map(short).collect();
                return output::document(&serde_json::json!({
                    "forgotten": done.count, "keys": keys, "waiting": done.waiting.as_ref().map(short), "dry_run": dry_run,
                }));
            }
            done.tell(if *dry_run { "would be deleted" } else { "deleted" })
        }
        Command::Status { devices } => status::run(global, &session, *devices).await,
    }
}

fn added(args: &Add) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for root in &args.root {
        changes.push(Change::AddRoot(KeyFile::public_in(root)?));
    }
    for release in &args.release {
        changes.push(Change::AddRelease(release.spec()?));
    }
    let files: Vec<_> = args.broker_ca.iter().map(PathBuf::as_path).collect();
    changes.extend(anchors(&files)?.into_iter().map(Change::AddBroker));
    Ok(changes)
}

async fn rotate(global: &Global, session: &Session, args: &Rotate) -> Result<()> {
    let mut changes = Vec::new();
    for pair in &args.root {
        let (old, new) = pair.keys()?;
        changes.push(Change::RotateRoot(old, new));
    }
    for pair in &args.release {
        let (old, new) = pair.keys()?;
        changes.push(Change::RotateRelease(old, new));
    }
    if let Some(file) = &args.broker_ca {
        changes.extend(anchors(&[file])?.into_iter().map(Change::Brokers));
    }
    if args.director {
        match successor(session, args.publish.dry_run).await? {
            Some(key) => changes.push(Change::Director(key)),
            None => {
                let text =
                    "svc-ota would make a new director key; what the keyset would say is known when it has";
                return if global.json {
                    output::document(&serde_json::json!({ "dry_run": true, "director_key": null }))
                } else {
                    output::line(text)
                };
            }
        }
    }
    let published = publish::next(global, session, &changes, &args.publish).await?;
    if args.forget_old && published {
        let done = forget(session, false).await?;
        if !global.json {
            done.tell("deleted")?;
        }
    }
    Ok(())
}

/// The director key to come; none when it would be made, and this only asks.
async fn successor(session: &Session, dry_run: bool) -> Result<Option<wire::PublicKey>> {
    let request = RotateDirectorKeyRequest {
        parent: session.tenant(),
        request_id: fresh_request_id(),
        validate_only: dry_run,
    };
    let reply = session.deployments().await?.rotate_director_key(request).await;
    let key = reply.context("svc-ota made no director key")?.into_inner().public_key;
    Ok(if key.is_empty() { None } else { Some(wire::PublicKey::from_spki_der(&key)?) })
}

/// Director keys that were deleted, and one that was kept because its keyset is still to come.
struct Forgotten {
    count: i32,
    keys: Vec<wire::PublicKey>,
    waiting: Option<wire::PublicKey>,
}

impl Forgotten {
    fn tell(&self, verb: &str) -> Result<()> {
        output::line(&format!("{} older director keys {verb}", self.count))?;
        self.keys.iter().try_for_each(|key| output::line(&format!("  {}", short(key))))?;
        let Some(waiting) = &self.waiting else { return Ok(()) };
        output::line(&format!("{} waits for its keyset and is kept", short(waiting)))
    }
}

async fn forget(session: &Session, dry_run: bool) -> Result<Forgotten> {
    let request = ForgetDirectorKeysRequest {
        parent: session.tenant(),
        request_id: fresh_request_id(),
        validate_only: dry_run,
    };
    let reply = session.deployments().await?.forget_director_keys(request).await;
    let done = reply.context("no director key was deleted")?.into_inner();
    let key = |der: &Vec<u8>| wire::PublicKey::from_spki_der(der);
    Ok(Forgotten {
        count: done.forgotten,
        keys: done.public_keys.iter().map(key).collect::<Result<_, _>>()?,
        waiting: Some(&done.waiting_public_key).filter(|der| !der.is_empty()).map(key).transpose()?,
    })
}
