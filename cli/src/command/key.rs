//! `holdfast key`: private keys as files, and the registered sign-in keys of the tenant.

use std::path::PathBuf;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Subcommand, ValueEnum};
use proto::registry::v1::{CreateKeyRequest, DeleteKeyRequest, Key, ListKeysRequest, Role};

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::failure::input;
use crate::keyfile::KeyFile;
use crate::output;
use crate::session::Session;

const KEY: &str = "holdfast.registry.v1.Key";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a private key file (P-256) and print its public half.
    Generate { file: PathBuf },
    /// Print the public half of a private key file.
    Public { file: PathBuf },
    /// Register a sign-in key.
    #[command(
        after_help = "Example:\n  holdfast key create \"Ada's laptop\" --role operator --public MFkwEwYH…"
    )]
    Create {
        /// Display name.
        name: String,
        #[arg(long, value_enum)]
        role: RoleArg,
        /// Public half as `key generate` printed it (base64 of SubjectPublicKeyInfo DER).
        #[arg(long, value_name = "BASE64")]
        public: String,
    },
    /// List registered sign-in keys.
    List(Page),
    /// Delete a registered key: no new tokens; those given out end within 15 minutes.
    Delete { key: String },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Read everything.
    Viewer,
    /// Deploy and configure.
    Operator,
    /// Debug.
    Developer,
    /// Everything in the tenant.
    Admin,
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    match command {
        Command::Generate { file } => return public(global, &KeyFile::create(file)?),
        Command::Public { file } => return public(global, &KeyFile::load(file)?),
        _ => {}
    }
    let session = Session::open(global).await?;
    let mut client = session.tenants().await?;
    match command {
        Command::Generate { .. } | Command::Public { .. } => Ok(()),
        Command::Create { name, role, public } => {
            let public_key = STANDARD
                .decode(public)
                .map_err(|_| input("--public is not base64; `holdfast key public FILE` prints it"))?;
            let key = Key {
                display_name: name.clone(),
                role: proto_role(*role).into(),
                public_key,
                ..Key::default()
            };
            let request = CreateKeyRequest {
                parent: session.tenant(),
                key: Some(key),
                request_id: fresh_request_id(),
                ..Default::default()
            };
            list(global, &[client.create_key(request).await?.into_inner()])
        }
        Command::List(page) => {
            let all = collect(page.limit, async |page_token| {
                let request = ListKeysRequest { parent: session.tenant(), page_size: PAGE_SIZE, page_token };
                let reply = client.list_keys(request).await?.into_inner();
                Ok((reply.keys, reply.next_page_token))
            });
            list(global, &all.await?)
        }
        Command::Delete { key } => {
            client
                .delete_key(DeleteKeyRequest {
                    name: session.name("keys", key),
                    request_id: fresh_request_id(),
                    ..Default::default()
                })
                .await?;
            Ok(())
        }
    }
}

fn public(global: &Global, key: &KeyFile) -> Result<()> {
    let der = STANDARD.encode(key.public_der()?);
    let id = hex::encode(key.public_key().hash()?.0);
    if global.json {
        return output::line(&serde_json::json!({ "public_key": der, "key_id": id }).to_string());
    }
    output::fields(&[("public key", der), ("key id", id)])
}

fn list(global: &Global, keys: &[Key]) -> Result<()> {
    if global.json {
        return keys.iter().try_for_each(|key| output::json(KEY, key));
    }
    let row = |key: &Key| {
        let role = key.role().as_str_name().trim_start_matches("ROLE_").to_lowercase();
        vec![
            output::id(&key.name).to_owned(),
            role,
            output::time(key.create_time.as_ref()),
            key.display_name.clone(),
        ]
    };
    output::table(&["ID", "ROLE", "CREATED", "NAME"], &keys.iter().map(row).collect::<Vec<_>>())
}

fn proto_role(role: RoleArg) -> Role {
    match role {
        RoleArg::Viewer => Role::Viewer,
        RoleArg::Operator => Role::Operator,
        RoleArg::Developer => Role::Developer,
        RoleArg::Admin => Role::Admin,
    }
}
