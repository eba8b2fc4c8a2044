//! One client's connection: mutual TLS, CONNECT, and packets in bulk.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::packet::{self, CONNACK, Packet, SUBACK};

/// Longest wait for an answer: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// What one read takes.
const READ_BYTES: usize = 4 * 1024;
const BULK_BYTES: usize = 64 * 1024;

/// Who connects.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: String,
    pub tls: Arc<ClientConfig>,
}

#[derive(Debug)]
pub struct Client {
    stream: TlsStream<BufReader<TcpStream>>,
    buffer: Vec<u8>,
    read_bytes: usize,
}

impl Client {
    /// A client that reads little.
    pub(crate) async fn connect(address: &str, identity: &Identity) -> Result<Client> {
        // A read larger than the buffer goes past it.
        Self::connect_with(address, identity, 1, READ_BYTES).await
    }

    /// One that reads much.
    pub(crate) async fn connect_bulk(address: &str, identity: &Identity) -> Result<Client> {
        Self::connect_with(address, identity, BULK_BYTES, BULK_BYTES).await
    }

    async fn connect_with(
        address: &str,
        identity: &Identity,
        ahead: usize,
        read_bytes: usize,
    ) -> Result<Client> {
        let connecting = async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let socket = BufReader::with_capacity(ahead, socket);
            let stream = TlsConnector::from(identity.tls.clone())
                .connect(ServerName::try_from("localhost")?, socket)
                .await?;
            let mut client = Client { stream, buffer: Vec::new(), read_bytes };
            client.send(&packet::connect(&identity.name)).await?;
            client.answer(CONNACK).await?;
            Ok(client)
        };
        let connected: Result<Client> =
            tokio::time::timeout(PATIENCE, connecting).await.context("it takes too long")?;
        connected.with_context(|| format!("{} connects", identity.name))
    }

    /// With QoS 1.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<()> {
        self.send(&packet::subscribe(filter)).await?;
        let subscribed = tokio::time::timeout(PATIENCE, self.answer(SUBACK)).await.context("no SUBACK")?;
        subscribed.with_context(|| format!("subscribing to {filter}"))
    }

    /// A yes of this kind is the next packet.
    async fn answer(&mut self, kind: u8) -> Result<()> {
        let mut answered = false;
        while !answered {
            self.receive(|packet| {
                let granted =
                    if kind == SUBACK { packet.body.last() == Some(&1) } else { packet.is_success() };
                ensure!(packet.first == kind && granted, "answered {packet:?}");
                answered = true;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads once and shows every packet that has wholly come.
    pub(crate) async fn receive(&mut self, mut each: impl FnMut(Packet<'_>) -> Result<()>) -> Result<()> {
        self.buffer.reserve(self.read_bytes);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the broker closed the connection");
        }
        let mut at = 0;
        while let Some((packet, length)) = packet::first(&self.buffer[at..]) {
            each(packet)?;
            at += length;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// Gives up what it keeps for reading.
    pub(crate) fn rest(&mut self) {
        self.buffer.shrink_to_fit();
    }

    /// Leaves in order.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.send(packet::DISCONNECT).await?;
        self.stream.shutdown().await.or_else(|error| match error.kind() {
            // The broker was faster.
            std::io::ErrorKind::NotConnected | std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error.into()),
        })
    }
}
