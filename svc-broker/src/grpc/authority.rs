//! What svc-registry knows and a broker does not: whom to trust, and whether a certificate may connect now.
//!
//! Holds: nothing is kept between two questions; an error is a no of its own kind, never a yes.

use std::fmt;

use proto::registry::v1::authority_service_client::AuthorityServiceClient;
use proto::registry::v1::{AuthorizeConnectionRequest, GetTrustRequest, Listener as AskedBy};
use tonic::transport::Channel;

use crate::model::connect::Refusal;
use crate::model::limits::ROOTS_MAX;
use crate::model::peer::{Listener, Peer};

#[derive(Clone)]
pub(crate) struct Authority {
    registry: AuthorityServiceClient<Channel>,
}

/// DER of the roots of each listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roots {
    pub(crate) device: Vec<Vec<u8>>,
    pub(crate) enroll: Vec<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("svc-registry does not answer")]
    Call(#[from] tonic::Status),
    #[error("svc-registry named more than {ROOTS_MAX} roots")]
    TooMany,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { registry: AuthorityServiceClient::new(channel) }
    }

    pub(crate) async fn roots(&self) -> Result<Roots, AuthorityError> {
        let trust = self.registry.clone().get_trust(GetTrustRequest {}).await?.into_inner();
        if trust.device_roots.len().max(trust.enroll_roots.len()) > ROOTS_MAX {
            return Err(AuthorityError::TooMany);
        }
        Ok(Roots { device: trust.device_roots, enroll: trust.enroll_roots })
    }

    /// May this peer connect now? Services may: their CA is ours alone.
    pub(crate) async fn authorize(&self, peer: &Peer) -> Result<(), Refusal> {
        let listener = match peer.listener {
            Listener::Device => AskedBy::Device,
            Listener::Enroll => AskedBy::Enroll,
            Listener::Service => return Ok(()),
        };
        let request = AuthorizeConnectionRequest {
            listener: listener.into(),
            common_name: peer.common_name.clone(),
            public_key_digest: peer.digests.public_key.to_vec(),
            issuer_key_digest: peer.digests.issuer_key.to_vec(),
            certificate_digest: peer.digests.certificate.to_vec(),
        };
        match self.registry.clone().authorize_connection(kit::trace::request(request)).await {
            Ok(answer) if answer.get_ref().allowed => Ok(()),
            Ok(answer) => {
                tracing::info!(
                    refusal = answer.get_ref().refusal,
                    common_name = peer.common_name,
                    "registry refused"
                );
                Err(Refusal::Registry)
            }
            Err(status) => {
                tracing::warn!(code = ?status.code(), common_name = peer.common_name, "registry did not answer");
                Err(Refusal::Unavailable)
            }
        }
    }
}
