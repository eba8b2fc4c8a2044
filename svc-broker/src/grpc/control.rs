//! `BrokerControlService`: end the connections of an identity, tell who is here.

use std::collections::HashSet;
use std::sync::Arc;

use proto::broker::v1::broker_control_service_server::BrokerControlService;
use proto::broker::v1::{
    DisconnectRequest, DisconnectResponse, ListConnectionsRequest, ListConnectionsResponse,
};
use tonic::{Request, Response, Status};
use wire::{ClaimId, DeviceId};

use crate::app::Connections;

/// Device ids of one `ListConnections`.
const ASKED_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Control {
    connections: Arc<Connections>,
}

impl Control {
    pub(crate) fn new(connections: Arc<Connections>) -> Self {
        Self { connections }
    }
}

#[tonic::async_trait]
impl BrokerControlService for Control {
    async fn disconnect(
        &self,
        request: Request<DisconnectRequest>,
    ) -> Result<Response<DisconnectResponse>, Status> {
        let identity = request.into_inner().identity;
        if identity.parse::<DeviceId>().is_err() && identity.parse::<ClaimId>().is_err() {
            return Err(Status::invalid_argument("identity is neither a device id nor a claim id"));
        }
        let closed = self.connections.disconnect(&identity).await;
        tracing::info!(identity, closed, "disconnected");
        Ok(Response::new(DisconnectResponse { closed: i32::try_from(closed).unwrap_or(i32::MAX) }))
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let asked = request.into_inner().device_ids;
        if asked.len() > ASKED_MAX {
            return Err(Status::invalid_argument("device_ids are too many"));
        }
        let mut device_ids = self.connections.clients();
        let asked: HashSet<String> = asked.into_iter().collect();
        device_ids.retain(|id| id.parse::<DeviceId>().is_ok() && (asked.is_empty() || asked.contains(id)));
        Ok(Response::new(ListConnectionsResponse { device_ids }))
    }
}
