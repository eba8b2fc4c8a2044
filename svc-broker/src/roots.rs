//! The roots of the device and enrolment listeners, as svc-registry names them now.
//!
//! Level-triggered: asked every [`REFRESH`], which svc-registry counts on before a new root issues, sooner while there is no answer; the last answer holds meanwhile, which
//! lets nobody in by itself, since every connection is asked about.

use std::sync::Arc;
use std::time::Duration;

use kit::Shutdown;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, sleep, timeout_at};

use crate::grpc::{Authority, AuthorityError};
use crate::link::{Trust, TrustError};

const REFRESH: Duration = Duration::from_secs(30);
/// First and longest wait after no answer.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long the start waits for the first answer before it listens without roots.
const FIRST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Roots {
    authority: Authority,
    device: Arc<Trust>,
    enroll: Arc<Trust>,
}

#[derive(Debug, thiserror::Error)]
enum RootsError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Roots {
    pub(crate) fn new(authority: Authority, device: Arc<Trust>, enroll: Arc<Trust>) -> Self {
        Self { authority, device, enroll }
    }

    /// Waits a while for the first answer.
    pub(crate) async fn first(&self) {
        let _ = timeout_at(Instant::now() + FIRST, self.fetch()).await;
    }

    pub(crate) async fn follow(self, shutdown: Shutdown) {
        let follow = async {
            loop {
                self.fetch().await;
                sleep(REFRESH).await;
            }
        };
        let _ = shutdown.or(follow).await;
    }

    /// Returns once there was an answer that could be used.
    async fn fetch(&self) {
        let mut wait = RETRY_MIN;
        while let Err(error) = self.once().await {
            tracing::warn!(%error, "no roots from svc-registry");
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn once(&self) -> Result<(), RootsError> {
        let roots = self.authority.roots().await?;
        self.device.believe(certificates(roots.device))?;
        self.enroll.believe(certificates(roots.enroll))?;
        Ok(())
    }
}

fn certificates(ders: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    ders.into_iter().map(CertificateDer::from).collect()
}
