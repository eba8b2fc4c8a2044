//! svc-broker: `BrokerControlService`, with our service certificate.

use std::collections::HashSet;

use proto::broker::v1::broker_control_service_client::BrokerControlServiceClient;
use proto::broker::v1::{DisconnectRequest, ListConnectionsRequest};
use tonic::transport::Channel;
use wire::DeviceId;

use super::{Cause, Ended};
use crate::tls::{Tls, TlsError};

#[derive(Debug, Clone)]
pub(super) struct SvcBroker {
    client: BrokerControlServiceClient<Channel>,
}

impl SvcBroker {
    pub(super) fn new(tls: &Tls, url: &str) -> Result<Self, TlsError> {
        Ok(Self { client: BrokerControlServiceClient::new(tls.channel(url)?) })
    }

    pub(super) async fn disconnect(&self, identity: &str) -> Result<Ended, Cause> {
        let request = DisconnectRequest { identity: identity.to_owned() };
        let answer = self.client.clone().disconnect(request).await?.into_inner();
        Ok(Ended::Closed(usize::try_from(answer.closed).unwrap_or(0)))
    }

    pub(super) async fn connected(&self, devices: &[DeviceId]) -> Result<HashSet<DeviceId>, Cause> {
        let request =
            ListConnectionsRequest { device_ids: devices.iter().map(ToString::to_string).collect() };
        let answer = self.client.clone().list_connections(request).await?.into_inner();
        Ok(answer.device_ids.iter().filter_map(|id| id.parse().ok()).collect())
    }
}
