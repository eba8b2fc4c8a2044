//! Three listeners, and the way of a socket to a connection: accept, TLS handshake, peer.
//!
//! Holds: accepting never waits for a handshake; handshakes are bounded in number and time, and the oldest of whoever
//! holds the most makes room, so silent sockets cost nobody else; each listener verifies against its own roots, and
//! without roots it refuses everyone; TLS 1.3 only, no resumption: each connection shows its certificate. A panic ends
//! its own connection.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

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
use super::metered::Metered;
use crate::model::limits::Bounds;
use crate::model::pace::Pace;
use crate::model::peer::{Listener, Peer};
use crate::model::queue::Queue;

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
        config.max_fragment_size = Some(RECORD_BYTES_MAX);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(Believed { roots, config: Arc::new(config) }));
        Ok(())
    }

    fn current(&self) -> Option<Arc<Believed>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Bytes of one TLS record: a device holds it as it came and decrypted, and a microcontroller has tens of KiB for all of TLS.
const RECORD_BYTES_MAX: usize = 4096;

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
        let lobby = Arc::new(Lobby::new(front.bounds.handshakes_max));
        let tasks = TaskTracker::new();
        let mut pace = Pace::new(front.bounds.handshakes_per_s);
        while let Some(accepted) = front.shutdown.or(self.socket.accept()).await {
            match accepted {
                Ok((socket, address)) => {
                    self.welcome(socket, address, &front, &lobby, &tasks);
                    let wait = pace.take(1, Instant::now());
                    if !wait.is_zero() {
                        front.metrics.paced("handshakes_per_s");
                        // A shutdown meanwhile is heard at the next turn.
                        front.shutdown.or(tokio::time::sleep(wait)).await;
                    }
                }
                Err(error) => {
                    // Out of descriptors, or a socket gone before we had it: the next turn tries again.
                    tracing::warn!(%error, listener = %self.kind, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(10)).await;
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
        let (kind, front, seat) = (self.kind, front.clone(), lobby.enter(address));
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
    let begun = Instant::now();
    let patience = Duration::from_millis(front.bounds.handshake_ms_max as u64);
    let handshake = async {
        tokio::select! {
            shaken = timeout(patience, shake(socket, kind, &believed, &front.bounds)) => shaken.unwrap_or(Err("timeout")),
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
            front.metrics.shaken(begun.elapsed());
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
    bounds: &Bounds,
) -> Result<(Box<TlsStream<BufReader<Metered<TcpStream>>>>, Peer), &'static str> {
    socket.set_nodelay(true).map_err(|_| "socket")?;
    let metered = Metered::new(socket, bounds.handshake_bytes_max);
    let buffered = BufReader::with_capacity(kind.limits(bounds).read_ahead_bytes, metered);
    let acceptor = TlsAcceptor::from(believed.config.clone());
    let mut stream = acceptor.accept(buffered).await.map_err(|error| {
        tracing::debug!(%error, "TLS");
        why(&error)
    })?;
    stream.get_mut().0.get_mut().release();
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
        None if error.kind() == io::ErrorKind::FileTooLarge => "handshake_bytes_max",
        None => "closed",
    }
}

/// The handshakes under way.
#[derive(Debug)]
struct Lobby {
    queue: Mutex<Queue<oneshot::Sender<()>>>,
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
    fn new(max: usize) -> Self {
        Self { queue: Mutex::new(Queue::new(max)) }
    }

    fn enter(self: &Arc<Self>, address: SocketAddr) -> Seat {
        let (out, asked_out) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, gone) = queue.enter(address.ip(), out);
        if let Some(gone) = gone {
            // An error: it has just ended by itself.
            let _ = gone.send(());
        }
        Seat { place: Place { lobby: self.clone(), number }, asked_out }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.queue.lock().unwrap_or_else(PoisonError::into_inner).leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_handshake_too_many_asks_the_oldest_out_and_a_place_left_is_free() {
        let lobby = Arc::new(Lobby::new(2));
        let enter = || lobby.enter(([127, 0, 0, 1], 1).into());
        let (mut first, mut second) = (enter(), enter());
        assert!((&mut first.asked_out).now_or_never().is_none());
        let third = enter();
        assert_eq!((&mut first.asked_out).now_or_never(), Some(Ok(())));
        assert!((&mut second.asked_out).now_or_never().is_none());
        drop(third.place);
        drop(enter().place);
        assert!(second.asked_out.now_or_never().is_none());
    }
}
