//! gRPC: decode, ask the app, encode. The only place that sees tonic.

mod bundle;
mod deployment;
mod symbols;

use std::sync::Arc;
use std::time::SystemTime;

use proto::ota::v1::bundle_service_server::BundleServiceServer;
use proto::ota::v1::deployment_service_server::DeploymentServiceServer;
use tonic::service::Routes;
use tonic::{Request, Status};
use wire::TenantId;

use crate::app::App;
use crate::app::upload::WRITE_BYTES_MAX;
use crate::link::Outbox;
use kit::Shutdown;
use kit::once::Call;

/// Room for a message's other fields beside its data.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;

pub(crate) fn routes(app: Arc<App>, outbox: Outbox, shutdown: Shutdown) -> Routes {
    let bundles = BundleServiceServer::new(bundle::Bundles { app: app.clone(), shutdown: shutdown.clone() })
        .max_decoding_message_size(WRITE_BYTES_MAX + MESSAGE_OVERHEAD_BYTES);
    let deployments = DeploymentServiceServer::new(deployment::Deployments { app, outbox, shutdown });
    Routes::new(bundles).add_service(deployments)
}

/// The caller's tenant, when the resource it names is in it.
fn tenant<T>(request: &Request<T>, named: TenantId) -> Result<TenantId, Status> {
    kit::auth::caller(request)?.tenant(named)
}

/// The name of what a call made: none, when it only asked.
fn named(call: &Call, name: String) -> String {
    if call.validates_only() { String::new() } else { name }
}

/// A resource name of one field.
fn name<T: std::str::FromStr<Err = proto::name::NameError>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: proto::name::NameError| kit::status::invalid(field, error.to_string()))
}

fn timestamp(at: SystemTime) -> Option<prost_types::Timestamp> {
    Some(at.into())
}
