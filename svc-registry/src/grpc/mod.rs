//! gRPC: decode, one call of `app`, encode. The only place that sees tonic, beside the error's conversion.
//!
//! Every method that names a resource checks its tenant with [`own`] before anything else: a foreign tenant's id looks
//! exactly like one that does not exist.

mod authority;
mod batch;
mod claims;
mod debugging;
mod devices;
mod encode;
mod keysets;
mod roots;
mod tenants;
mod tokens;

use std::str::FromStr;
use std::sync::Arc;

use kit::Shutdown;
use kit::auth::caller;
use kit::once::Call;
use kit::places::Places;
use kit::{page, status};
use proto::auth::v1::Access;
use proto::name::{Child, Name, NameError, TenantName};
use proto::registry::v1::authority_service_server::AuthorityServiceServer;
use proto::registry::v1::claim_service_server::ClaimServiceServer;
use proto::registry::v1::debugging_service_server::DebuggingServiceServer;
use proto::registry::v1::device_service_server::DeviceServiceServer;
use proto::registry::v1::keyset_service_server::KeysetServiceServer;
use proto::registry::v1::root_service_server::RootServiceServer;
use proto::registry::v1::tenant_service_server::TenantServiceServer;
use proto::registry::v1::token_service_server::TokenServiceServer;
use tonic::service::Routes;
use tonic::{Request, Status};
use wire::TenantId;

use crate::app::{Actor, App, WATCHERS_MAX, WATCHERS_OF_TENANT_MAX};
use crate::link::Link;

/// Every service's implementation.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    app: Arc<App>,
    link: Arc<Link>,
    watchers: Arc<Places>,
    shutdown: Shutdown,
}

impl Api {
    pub(crate) fn new(app: Arc<App>, link: Arc<Link>, shutdown: Shutdown) -> Self {
        let watchers = Places::new("WATCHES", WATCHERS_MAX, WATCHERS_OF_TENANT_MAX);
        Self { app, link, watchers, shutdown }
    }

    pub(crate) fn routes(self) -> Routes {
        Routes::new(TenantServiceServer::new(self.clone()))
            .add_service(TokenServiceServer::new(self.clone()))
            .add_service(ClaimServiceServer::new(self.clone()))
            .add_service(DeviceServiceServer::new(self.clone()))
            .add_service(DebuggingServiceServer::new(self.clone()))
            .add_service(KeysetServiceServer::new(self.clone()))
            .add_service(RootServiceServer::new(self.clone()))
            .add_service(AuthorityServiceServer::new(self))
    }
}

/// Who asks, for a method open to people.
fn actor<T>(request: &Request<T>) -> Result<Actor, Status> {
    let caller = caller(request)?;
    let person = caller.person()?;
    let admin = person.may(Access::Admin);
    Ok(Actor { subject: person.subject.clone(), installation: person.installation, admin })
}

/// A resource name's tenant, if it is the caller's own.
fn own<T>(request: &Request<T>, tenant: TenantId) -> Result<TenantId, Status> {
    caller(request)?.tenant(tenant)
}

/// The name of what a call made: none, when it only asked.
fn named(call: &Call, name: String) -> String {
    if call.validates_only() { String::new() } else { name }
}

/// A field that is a tenant's name.
fn tenant_name(field: &str, text: &str) -> Result<TenantId, Status> {
    parse::<TenantName>(field, text).map(|name| name.tenant)
}

/// A field that is a resource's name.
fn name<Id: Child>(field: &str, text: &str) -> Result<Name<Id>, Status> {
    parse(field, text)
}

fn parse<T: FromStr<Err = NameError>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: NameError| status::invalid(field, error.to_string()))
}

/// Where a page begins and how long it is.
struct Paging<'a> {
    request: Vec<&'a str>,
    after: Option<String>,
    size: usize,
}

impl<'a> Paging<'a> {
    /// Of a list whose rows have ids of this kind: another cursor is nobody's.
    fn new<Id: FromStr + ToString>(request: Vec<&'a str>, size: i32, token: &str) -> Result<Self, Status> {
        let size = page::size(size)?;
        let after = page::id_cursor::<Id>(&request, token)?.map(|id| id.to_string());
        Ok(Self { request, after, size })
    }

    /// The last row of the page before; empty on the first.
    fn after(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    fn next(&self, last: Option<String>) -> String {
        last.map(|last| page::token(&self.request, &last)).unwrap_or_default()
    }
}
