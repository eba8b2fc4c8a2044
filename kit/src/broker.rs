//! What services ask of the broker: to end a device's connections, and who is connected.
//!
//! A node is named by its URL: `https://` is svc-broker's gRPC port, `emqx+https://` the management API of an EMQX, `mqtts://`
//! the service listener of a mosquitto. What each can and cannot do is in docs/brokers.md.
//!
//! Every node is asked, since any may hold the connection. A node that does not answer makes the whole answer an
//! error: the caller repeats it (revocation is level-triggered), and a node that is gone holds no connection.

mod emqx;
mod mosquitto;
mod svc_broker;

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use wire::DeviceId;

use crate::config::without_user;
use crate::seal::Secret;
use crate::tls::{Tls, TlsError};

pub use emqx::ANSWER_BYTES_MAX;
use emqx::Emqx;
use mosquitto::Mosquitto;
use svc_broker::SvcBroker;

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
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    SvcBroker(SvcBroker),
    Emqx(Emqx),
    Mosquitto(Mosquitto),
}

/// What became of the connections that were to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of them, so many.
    Closed(usize),
    /// All of them; the broker does not say how many there were.
    Uncounted,
    /// Nothing: no node is configured, or this broker does not know a connection by this identity.
    NotOnDemand,
}

/// Why the nodes cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("BROKER_CONTROL_URLS: {url} begins with none of https://, emqx+https://, mqtts://")]
    Scheme { url: String },
    #[error("BROKER_CONTROL_URLS: {url} is not an address, or names a user")]
    Address { url: String },
    #[error("BROKER_CONTROL_KEY: the API of {url} wants a key and its secret, as key:secret")]
    Key { url: String },
    #[error("HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("broker node {url} does not answer")]
pub struct BrokerError {
    url: String,
    source: Cause,
}

/// What went wrong with one node.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("nothing came in time")]
    Late,
    #[error("gRPC call failed")]
    Grpc(#[from] tonic::Status),
    #[error("HTTP request failed")]
    Http(#[from] reqwest::Error),
    #[error("HTTP status {0}")]
    Status(reqwest::StatusCode),
    #[error("answer is not what the API of EMQX 5 gives")]
    Answer,
    #[error("MQTT connection failed")]
    Mqtt(#[from] Box<rumqttc::v5::ConnectionError>),
    #[error("this broker does not tell who is connected")]
    Untold,
}

impl BrokerControl {
    /// `urls`: one address a node; none when nothing can be asked. `key`: `key:secret` for an EMQX.
    pub fn new(tls: &Tls, urls: &[String], key: Option<&Secret<String>>) -> Result<Self, ControlError> {
        let node = |url: &String| {
            // Credentials do not belong in an address: addresses are logged.
            if without_user(url) != *url {
                return Err(ControlError::Address { url: without_user(url) });
            }
            let kind = match url.split_once("://").map(|(scheme, _)| scheme) {
                Some("https") => Kind::SvcBroker(SvcBroker::new(tls, url)?),
                Some("emqx+https") => Kind::Emqx(Emqx::new(tls, url, key)?),
                Some("mqtts") => Kind::Mosquitto(Mosquitto::new(tls, url)?),
                _ => return Err(ControlError::Scheme { url: url.clone() }),
            };
            Ok(Node { url: url.clone(), kind })
        };
        Ok(Self { nodes: urls.iter().map(node).collect::<Result<_, ControlError>>()? })
    }

    /// Closes every connection whose certificate has this common name (a device or claim id).
    pub async fn disconnect(&self, identity: &str) -> Result<Ended, BrokerError> {
        let answers = self.nodes.iter().map(|node| node.answer(node.kind.disconnect(identity)));
        let ended = join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(ended.into_iter().fold(Ended::NotOnDemand, Ended::and))
    }

    /// Which of these devices are connected now; asked with none, all that are. An error when a node cannot tell.
    pub async fn connected(&self, devices: &[DeviceId]) -> Result<HashSet<DeviceId>, BrokerError> {
        let answers = self.nodes.iter().map(|node| node.answer(node.kind.connected(devices)));
        let lists = join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(lists.into_iter().flatten().collect())
    }
}

impl Node {
    async fn answer<T>(&self, call: impl Future<Output = Result<T, Cause>>) -> Result<T, BrokerError> {
        let answer = tokio::time::timeout(NODE_MAX, call).await.unwrap_or(Err(Cause::Late));
        answer.map_err(|source| BrokerError { url: self.url.clone(), source })
    }
}

impl Kind {
    async fn disconnect(&self, identity: &str) -> Result<Ended, Cause> {
        match self {
            Self::SvcBroker(node) => node.disconnect(identity).await,
            Self::Emqx(node) => node.disconnect(identity).await,
            Self::Mosquitto(node) => node.disconnect(identity).await,
        }
    }

    async fn connected(&self, devices: &[DeviceId]) -> Result<HashSet<DeviceId>, Cause> {
        match self {
            Self::SvcBroker(node) => node.connected(devices).await,
            Self::Emqx(node) => node.connected(devices).await,
            Self::Mosquitto(_) => Err(Cause::Untold),
        }
    }
}

impl Ended {
    /// What two nodes did together.
    fn and(self, other: Ended) -> Ended {
        match (self, other) {
            (Ended::Closed(one), Ended::Closed(other)) => Ended::Closed(one + other),
            (Ended::NotOnDemand, other) | (other, Ended::NotOnDemand) => other,
            (Ended::Uncounted, _) | (_, Ended::Uncounted) => Ended::Uncounted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_did_adds_up_and_is_not_counted_when_one_does_not_count() {
        assert_eq!(Ended::Closed(1).and(Ended::Closed(2)), Ended::Closed(3));
        assert_eq!(Ended::Closed(1).and(Ended::Uncounted), Ended::Uncounted);
        assert_eq!(Ended::NotOnDemand.and(Ended::Closed(0)), Ended::Closed(0));
        assert_eq!(Ended::NotOnDemand.and(Ended::NotOnDemand), Ended::NotOnDemand);
    }
}
