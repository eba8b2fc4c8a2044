//! A lossy wire between one service and the broker: every n-th message vanishes, in both directions.
//!
//! It stands in the service's name on both sides (the stack's own certificates), acknowledges what it swallows, so
//! that neither end can know, and passes everything else on untouched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use dev::Stack;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Largest MQTT packet passed on.
const PACKET_BYTES_MAX: usize = 1 << 20;
const PUBLISH: u8 = 3;

/// Where the service will connect, before the stack is up.
#[derive(Debug)]
pub struct LossyWire {
    listener: TcpListener,
    every: u64,
    count: Arc<AtomicU64>,
    swallowed: Arc<AtomicU64>,
}

impl LossyWire {
    /// A wire that loses every `every`-th message.
    pub async fn new(every: u64) -> Result<LossyWire> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(LossyWire { listener, every, count: Arc::default(), swallowed: Arc::default() })
    }

    /// What the service is to be told as its broker.
    pub fn url(&self) -> Result<String> {
        Ok(format!("mqtts://localhost:{}", self.listener.local_addr()?.port()))
    }

    /// Begins to carry; gives the count of lost messages as it grows.
    pub fn carry(self, stack: &Stack, service: &str) -> Result<Arc<AtomicU64>> {
        let acceptor = TlsAcceptor::from(Arc::new(server(stack)?));
        let connector = TlsConnector::from(Arc::new(client(stack, service)?));
        let broker = stack.service_address();
        let swallowed = Arc::clone(&self.swallowed);
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let (acceptor, connector, broker) = (acceptor.clone(), connector.clone(), broker.clone());
                let loss =
                    Loss { every: self.every, count: self.count.clone(), swallowed: self.swallowed.clone() };
                tokio::spawn(async move { connection(stream, &acceptor, &connector, &broker, &loss).await });
            }
        });
        Ok(swallowed)
    }
}

#[derive(Debug)]
struct Loss {
    every: u64,
    count: Arc<AtomicU64>,
    swallowed: Arc<AtomicU64>,
}

impl Loss {
    fn strikes(&self) -> bool {
        let strikes = self.count.fetch_add(1, Ordering::Relaxed) % self.every == self.every - 1;
        self.swallowed.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    broker: &str,
    loss: &Loss,
) -> Result<()> {
    let service = acceptor.accept(stream).await?;
    let name = ServerName::try_from("localhost")?;
    let broker = connector.connect(name, TcpStream::connect(broker).await?).await?;
    let (mut from_service, to_service) = tokio::io::split(service);
    let (mut from_broker, to_broker) = tokio::io::split(broker);
    // Each side's writer is shared: it carries what the other end says and the acknowledgements of what was lost.
    let (to_service, to_broker) = (tokio::sync::Mutex::new(to_service), tokio::sync::Mutex::new(to_broker));
    tokio::select! {
        end = pump(&mut from_service, &to_service, &to_broker, loss) => end,
        end = pump(&mut from_broker, &to_broker, &to_service, loss) => end,
    }
}

/// Carries packets from one end to the other; what is lost is acknowledged `back`.
async fn pump<W: AsyncWrite + Unpin, V: AsyncWrite + Unpin>(
    from: &mut (impl AsyncReadExt + Unpin),
    back: &tokio::sync::Mutex<W>,
    to: &tokio::sync::Mutex<V>,
    loss: &Loss,
) -> Result<()> {
    loop {
        let packet = read_packet(from).await?;
        if packet[0] >> 4 == PUBLISH && loss.strikes() {
            if let Some(acknowledgement) = acknowledgement(&packet)? {
                back.lock().await.write_all(&acknowledgement).await?;
            }
            continue;
        }
        let mut to = to.lock().await;
        to.write_all(&packet).await?;
        to.flush().await?;
    }
}

/// MQTT 5.0 §2.1: type and flags, remaining length as a variable byte integer, the rest.
async fn read_packet(from: &mut (impl AsyncReadExt + Unpin)) -> Result<Vec<u8>> {
    let mut packet = vec![from.read_u8().await?];
    let mut length = 0_usize;
    for position in 0..4 {
        let byte = from.read_u8().await?;
        packet.push(byte);
        length |= usize::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            break;
        }
    }
    ensure!(length <= PACKET_BYTES_MAX, "a packet of {length} bytes");
    let header = packet.len();
    packet.resize(header + length, 0);
    from.read_exact(&mut packet[header..]).await?;
    Ok(packet)
}

/// The PUBACK of a message at QoS 1; none at QoS 0.
fn acknowledgement(publish: &[u8]) -> Result<Option<[u8; 4]>> {
    if publish[0] & 0x06 == 0 {
        return Ok(None);
    }
    let header = 1 + publish[1..].iter().take_while(|byte| *byte & 0x80 != 0).count() + 1;
    let topic = publish.get(header..header + 2).context("no topic")?;
    let at = header + 2 + usize::from(u16::from_be_bytes([topic[0], topic[1]]));
    let id = publish.get(at..at + 2).context("no packet id")?;
    Ok(Some([0x40, 2, id[0], id[1]]))
}

fn server(stack: &Stack) -> Result<ServerConfig> {
    let (certificates, key) = pem(&stack.server_identity("svc-broker")?)?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?)
}

fn client(stack: &Stack, service: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(stack.server_ca_pem()?.as_bytes())?)?;
    let (certificates, key) = pem(&stack.service_identity(service)?)?;
    Ok(ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(certificates, key)?)
}

fn pem(identity: &dev::Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificates = CertificateDer::pem_slice_iter(identity.0.as_bytes()).collect::<Result<_, _>>()?;
    Ok((certificates, PrivateKeyDer::from_pem_slice(identity.1.as_bytes())?))
}
