//! Three listeners, and the way of a socket to a connection: accept, TLS handshake, peer.
//!
//! Holds: accepting never waits for a handshake; handshakes are bounded in number and time, the oldest making room, so
//! a silent socket costs nobody else; each listener verifies against its own roots, and without roots it refuses
//! everyone; TLS 1.3 only, no resumption: each connection shows its certificate. A panic ends its own connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::FutureExt as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::certificate;
use super::connection::{self, Front};
use crate::model::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};
use crate::model::peer::{Listener, Peer};

/// Connections the kernel may hold for us before we accept them.
const BACKLOG: u32 = 4_096;

/// Whom a listener believes; replaced while it runs.
#[derive(Debug)]
pub(crate) struct Trust {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    current: RwLock<Option<Arc<Believed>>>,
}

#[derive(Debug)]
struct Believed {
    roots: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("root certificate cannot be used")]
    Root(#[source] rustls::Error),
    #[error("roots cannot verify clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("server certificate and key cannot be used")]
    Server(#[source] rustls::Error),
}

impl Trust {
    /// Believes nobody yet.
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { certificates, key, current: RwLock::new(None) }
    }

    /// Believes exactly these roots from the next handshake on.
    pub(crate) fn believe(&self, roots: Vec<CertificateDer<'static>>) -> Result<(), TrustError> {
        if self.current().is_some_and(|current| current.roots == roots) {
            return Ok(());
        }
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(TrustError::Root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TrustError::Server)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates.clone(), self.key.clone_key())
            .map_err(TrustError::Server)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(Believed { roots, config: Arc::new(config) }));
        Ok(())
    }

    fn current(&self) -> Option<Arc<Believed>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A bound listener; `run` serves it.
#[derive(Debug)]
pub(crate) struct Bound {
    kind: Listener,
    socket: TcpListener,
    trust: Arc<Trust>,
}

pub(crate) fn bind(kind: Listener, address: SocketAddr, trust: Arc<Trust>) -> io::Result<Bound> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Bound { kind, socket: socket.listen(BACKLOG)?, trust })
}

impl Bound {
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until shutdown; then waits for its connections, which are told to end elsewhere.
    pub(crate) async fn run(self, front: Arc<Front>) {
        let lobby = Arc::new(Lobby::default());
        let tasks = TaskTracker::new();
        while let Some(accepted) = front.shutdown.or(self.socket.accept()).await {
            match accepted {
                Ok((socket, address)) => self.welcome(socket, address, &front, &lobby, &tasks),
                Err(error) => {
                    // Out of descriptors, or a socket gone before we had it: the next turn tries again.
                    tracing::warn!(%error, listener = %self.kind, "cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        }
        drop(self.socket);
        front.connections.shut_down().await;
        tasks.close();
        tasks.wait().await;
    }

    fn welcome(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        front: &Arc<Front>,
        lobby: &Arc<Lobby>,
        tasks: &TaskTracker,
    ) {
        let (kind, front, seat) = (self.kind, front.clone(), lobby.enter());
        let Some(believed) = self.trust.current() else {
            return front.metrics.handshake(kind, "no_roots");
        };
        let span = tracing::info_span!("connection", listener = %kind, %address);
        let metrics = front.metrics.clone();
        let served = serve(socket, kind, believed, front, seat).instrument(span);
        // Not an async block around it: that would hold the future twice, as captured and as awaited.
        let guarded = AssertUnwindSafe(served).catch_unwind().map(move |ended| {
            if ended.is_err() {
                metrics.panicked();
                tracing::error!(listener = %kind, "a connection panicked");
            }
        });
        tasks.spawn(guarded);
    }
}

async fn serve(socket: TcpStream, kind: Listener, believed: Arc<Believed>, front: Arc<Front>, seat: Seat) {
    let handshake = async {
        tokio::select! {
            shaken = timeout(HANDSHAKE_TIMEOUT, shake(socket, kind, &believed)) => shaken.unwrap_or(Err("timeout")),
            _ = seat.asked_out => Err("handshakes_max"),
            () = front.shutdown.wait() => Err("shutdown"),
        }
    };
    // On the heap while it lasts: a handshake takes more than a connection, which lasts.
    let shaken = Box::pin(handshake).await;
    drop(seat.place);
    match shaken {
        Ok((stream, peer)) => {
            front.metrics.handshake(kind, "ok");
            drop(believed);
            connection::serve(stream, peer, front).await;
        }
        Err(why) => {
            front.metrics.handshake(kind, why);
            tracing::debug!(why, "handshake failed");
        }
    }
}

async fn shake(
    socket: TcpStream,
    kind: Listener,
    believed: &Believed,
) -> Result<(Box<TlsStream<BufReader<TcpStream>>>, Peer), &'static str> {
    socket.set_nodelay(true).map_err(|_| "socket")?;
    let buffered = BufReader::with_capacity(kind.limits().read_ahead_bytes, socket);
    let acceptor = TlsAcceptor::from(believed.config.clone());
    let stream = acceptor.accept(buffered).await.map_err(|error| {
        tracing::debug!(%error, "TLS");
        why(&error)
    })?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = certificate::peer(kind, chain, &believed.roots).map_err(|error| {
        tracing::info!(%error, "certificate refused");
        "certificate"
    })?;
    Ok((Box::new(stream), peer))
}

/// A label for a failed handshake.
fn why(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => "untrusted",
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::AlertReceived(_)) => "refused_by_peer",
        Some(_) => "tls",
        None => "closed",
    }
}

/// The handshakes under way, oldest first.
#[derive(Debug, Default)]
struct Lobby {
    inside: Mutex<(u64, BTreeMap<u64, oneshot::Sender<()>>)>,
}

/// A handshake's place; `asked_out` is ready when it must make room.
struct Seat {
    place: Place,
    asked_out: oneshot::Receiver<()>,
}

struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Lobby {
    fn enter(self: &Arc<Self>) -> Seat {
        let (out, asked) = oneshot::channel();
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, seats) = &mut *inside;
        if seats.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = seats.pop_first()
        {
            // An error: it has just ended by itself.
            let _ = oldest.send(());
        }
        *next += 1;
        seats.insert(*next, out);
        Seat { place: Place { lobby: self.clone(), number: *next }, asked_out: asked }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.inside.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_handshake_too_many_ends_the_oldest() {
        let lobby = Arc::new(Lobby::default());
        let mut seats: Vec<Seat> = (0..HANDSHAKES_MAX).map(|_| lobby.enter()).collect();
        assert!((&mut seats[0].asked_out).now_or_never().is_none());
        let newcomer = lobby.enter();
        assert!((&mut seats[0].asked_out).now_or_never().is_some());
        assert!((&mut seats[1].asked_out).now_or_never().is_none());
        assert!(newcomer.asked_out.now_or_never().is_none());
        drop(seats);
        drop(newcomer.place);
        assert!(lobby.inside.lock().unwrap().1.is_empty());
    }
}
