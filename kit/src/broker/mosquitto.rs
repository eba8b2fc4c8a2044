//! mosquitto, by what it has: one room for the client ids of all listeners, in which the newcomer ends the older connection
//! (MQTT 5 §3.1.4-3). A service may use any client id, so it connects under the device's, hears CONNACK, and leaves.
//!
//! mosquitto asks nobody about a certificate: the device may come back, and is then ignored by every service.

use std::sync::Arc;

use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use wire::DeviceId;

use super::{Cause, ControlError, Ended, NODE_MAX};
use crate::mqtt::host_port;
use crate::tls::Tls;

/// The one request there is: to leave.
const REQUESTS_MAX: usize = 1;

#[derive(Debug, Clone)]
pub(super) struct Mosquitto {
    host: String,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
}

impl Mosquitto {
    pub(super) fn new(tls: &Tls, url: &str) -> Result<Self, ControlError> {
        let (host, port) = host_port(url).ok_or_else(|| ControlError::Address { url: url.to_owned() })?;
        Ok(Self { host, port, tls: tls.client_config() })
    }

    pub(super) async fn disconnect(&self, identity: &str) -> Result<Ended, Cause> {
        // Whoever enrols has a client id of its own choice there: it is not found by the claim's name.
        if identity.parse::<DeviceId>().is_err() {
            return Ok(Ended::NotOnDemand);
        }
        let (client, mut events) = AsyncClient::new(self.options(identity), REQUESTS_MAX);
        loop {
            match events.poll().await.map_err(Box::new)? {
                Event::Incoming(Packet::ConnAck(_)) => client.try_disconnect().map_err(|_| Cause::Answer)?,
                Event::Outgoing(rumqttc::Outgoing::Disconnect) => return Ok(Ended::Uncounted),
                _ => {}
            }
        }
    }

    fn options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, &self.host, self.port);
        options
            .set_transport(Transport::Tls(TlsConfiguration::Rustls(self.tls.clone())))
            .set_clean_start(true)
            .set_connection_timeout(NODE_MAX.as_secs());
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        options
    }
}
