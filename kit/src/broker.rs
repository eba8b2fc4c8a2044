//! What services ask of the broker nodes: to end a device's connections, and who is connected.
//!
//! Every node is asked, since any may hold the connection. A node that does not answer makes the whole answer an
//! error: the caller repeats it (revocation is level-triggered), and a node that is gone holds no connection.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use proto::broker::v1::broker_control_service_client::BrokerControlServiceClient;
use proto::broker::v1::{DisconnectRequest, ListConnectionsRequest};
use tonic::transport::Channel;
use wire::DeviceId;

use crate::tls::{Tls, TlsError};

/// How long one node may take to answer.
pub const NODE_MAX: Duration = Duration::from_secs(2);

/// The broker nodes' control interface.
#[derive(Debug, Clone)]
pub struct BrokerControl {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    url: String,
    client: BrokerControlServiceClient<Channel>,
}

/// What became of the connections that were to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of them, so many.
    Closed(usize),
    /// Nothing: no node is configured, since the broker (mosquitto) ends no connection on demand.
    NotOnDemand,
}

#[derive(Debug, thiserror::Error)]
#[error("broker node {url} does not answer")]
pub struct BrokerError {
    url: String,
    source: tonic::Status,
}

impl BrokerControl {
    /// `urls`: one gRPC address a node; none for a broker that ends no connection on demand.
    pub fn new(tls: &Tls, urls: &[String]) -> Result<Self, TlsError> {
        let node = |url: &String| {
            let client = BrokerControlServiceClient::new(tls.channel(url)?);
            Ok(Node { url: url.clone(), client })
        };
        Ok(Self { nodes: urls.iter().map(node).collect::<Result<_, TlsError>>()? })
    }

    /// Closes every connection whose certificate has this common name (a device or claim id).
    pub async fn disconnect(&self, identity: &str) -> Result<Ended, BrokerError> {
        if self.nodes.is_empty() {
            return Ok(Ended::NotOnDemand);
        }
        let answers = self.nodes.iter().map(|node| async move {
            let mut client = node.client.clone();
            let request = DisconnectRequest { identity: identity.to_owned() };
            node.answer(client.disconnect(request)).await.map(|answer| answer.closed)
        });
        let closed = join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Ended::Closed(closed.into_iter().filter_map(|n| usize::try_from(n).ok()).sum()))
    }

    /// Which of these devices are connected now; asked with none, all that are.
    pub async fn connected(&self, devices: &[DeviceId]) -> Result<HashSet<DeviceId>, BrokerError> {
        let device_ids: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let answers = self.nodes.iter().map(|node| {
            let request = ListConnectionsRequest { device_ids: device_ids.clone() };
            async move {
                let mut client = node.client.clone();
                node.answer(client.list_connections(request)).await.map(|answer| answer.device_ids)
            }
        });
        let lists = join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(lists.into_iter().flatten().filter_map(|id| id.parse().ok()).collect())
    }
}

impl Node {
    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, BrokerError> {
        let answer = tokio::time::timeout(NODE_MAX, call).await;
        let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        let failed = |source| BrokerError { url: self.url.clone(), source };
        answer.map(tonic::Response::into_inner).map_err(failed)
    }
}
