//! `holdfast tenant`: tenants of the installation.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use proto::registry::v1::{CreateTenantRequest, GetTenantRequest, ListTenantsRequest, Tenant};

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect, fresh_request_id};
use crate::keyfile::KeyFile;
use crate::output;
use crate::session::Session;

const TENANT: &str = "holdfast.registry.v1.Tenant";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a tenant with its first administrator key.
    Create {
        /// Display name.
        name: String,
        /// Private key file of its first administrator; made when missing.
        #[arg(long, value_name = "FILE")]
        admin_key: PathBuf,
    },
    /// Show this context's tenant.
    Show,
    /// List all tenants.
    List(Page),
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    let mut client = session.tenants().await?;
    match command {
        Command::Create { name, admin_key } => {
            let key = KeyFile::load_or_create(admin_key)?;
            let request = CreateTenantRequest {
                display_name: name.clone(),
                admin_public_key: key.public_der()?,
                request_id: fresh_request_id(),
                ..Default::default()
            };
            show(global, &client.create_tenant(request).await?.into_inner())
        }
        Command::Show => {
            show(global, &client.get_tenant(GetTenantRequest { name: session.tenant() }).await?.into_inner())
        }
        Command::List(page) => {
            let all = collect(page.limit, async |page_token| {
                let reply = client
                    .list_tenants(ListTenantsRequest { page_size: PAGE_SIZE, page_token })
                    .await?
                    .into_inner();
                Ok((reply.tenants, reply.next_page_token))
            });
            list(global, &all.await?)
        }
    }
}

fn show(global: &Global, tenant: &Tenant) -> Result<()> {
    if global.json {
        return output::json(TENANT, tenant);
    }
    output::fields(&[
        ("name", tenant.name.clone()),
        ("admin key", tenant.admin_key.clone()),
        ("display name", tenant.display_name.clone()),
        ("created", output::time(tenant.create_time.as_ref())),
        ("debugging", if tenant.debugging_forbidden { "forbidden".to_owned() } else { String::new() }),
    ])
}

fn list(global: &Global, tenants: &[Tenant]) -> Result<()> {
    if global.json {
        return tenants.iter().try_for_each(|tenant| output::json(TENANT, tenant));
    }
    let rows: Vec<_> = tenants
        .iter()
        .map(|t| {
            vec![output::id(&t.name).to_owned(), t.display_name.clone(), output::time(t.create_time.as_ref())]
        })
        .collect();
    output::table(&["ID", "NAME", "CREATED"], &rows)
}
