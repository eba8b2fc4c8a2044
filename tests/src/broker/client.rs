//! An MQTT client that sends what it is told to, right or wrong, and shows every byte that comes back.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::{Authority, Identity};
use super::rig::soon;

pub type Stream = TlsStream<TcpStream>;

/// A CONNECT to be sent.
#[derive(Debug, Clone)]
pub struct Connect {
    pub level: u8,
    pub client_id: String,
    pub keep_alive_s: u16,
    /// Topic, payload, QoS, retain.
    pub will: Option<(String, String, u8, bool)>,
    /// MQTT 5 properties without their length.
    pub properties: Vec<u8>,
    /// The same of the will, with their length.
    pub will_properties: Vec<u8>,
    /// User name; the password is empty.
    pub user: Option<String>,
    /// Clean session, or clean start.
    pub clean: bool,
}

/// A packet as it came: first byte and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    pub level: u8,
    /// Body of the CONNACK.
    pub welcome: Vec<u8>,
    next_id: u16,
}

impl Connect {
    pub fn v5(client_id: &str) -> Connect {
        Connect {
            level: 5,
            client_id: client_id.into(),
            keep_alive_s: 60,
            will: None,
            properties: vec![],
            will_properties: vec![0],
            user: None,
            clean: true,
        }
    }

    pub fn v4(client_id: &str) -> Connect {
        Connect { level: 4, ..Connect::v5(client_id) }
    }

    pub fn keep_alive(self, keep_alive_s: u16) -> Connect {
        Connect { keep_alive_s, ..self }
    }

    pub fn will(self, topic: &str, payload: &str) -> Connect {
        Connect { will: Some((topic.into(), payload.into(), 1, false)), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1 | if self.user.is_some() { 0xc0 } else { 0 };
        if let Some((_, _, qos, retain)) = &self.will {
            flags |= 4 | qos << 3 | u8::from(*retain) << 5;
        }
        let mut body = b"\x00\x04MQTT".to_vec();
        body.extend([self.level, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.level == 5 {
            body.push(self.properties.len() as u8);
            body.extend(&self.properties);
        }
        string(&mut body, self.client_id.as_bytes());
        if let Some((topic, payload, ..)) = &self.will {
            if self.level == 5 {
                body.extend(&self.will_properties);
            }
            string(&mut body, topic.as_bytes());
            string(&mut body, payload.as_bytes());
        }
        if let Some(user) = &self.user {
            string(&mut body, user.as_bytes());
            string(&mut body, b"");
        }
        frame(0x10, &body)
    }
}

impl Client {
    /// `Err`: the code of the CONNACK, or 0xff when the connection ended without one.
    pub async fn connect(
        address: &str,
        server_ca: &Authority,
        identity: &Identity,
        connect: Connect,
    ) -> Result<Client, u8> {
        let mut stream = tls(address, server_ca, Some(identity)).await.map_err(|_| 0xff)?;
        stream.write_all(&connect.bytes()).await.map_err(|_| 0xff)?;
        let mut client = Client { stream, level: connect.level, welcome: vec![], next_id: 0 };
        let Some(packet) = client.read().await else { return Err(0xff) };
        assert_eq!(packet.first, 0x20, "CONNACK is the first packet");
        assert_eq!(packet.body[0], 0, "no session is ever present");
        if packet.body[1] != 0 {
            assert_eq!(client.read().await, None, "a refused client is closed");
            return Err(packet.body[1]);
        }
        client.welcome = packet.body;
        Ok(client)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None`: the stream ended.
    pub async fn read(&mut self) -> Option<Packet> {
        soon(read_packet(&mut self.stream)).await
    }

    /// The next packet of this type.
    pub async fn expect(&mut self, kind: u8) -> Packet {
        loop {
            let packet = self.read().await.expect("the connection ended");
            if packet.first >> 4 == kind {
                return packet;
            }
            assert!(packet.first >> 4 == 3, "unexpected {packet:?}");
        }
    }

    /// Reads to the end; the reason of a DISCONNECT, if one came.
    pub async fn closed(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some(packet) = self.read().await {
            if packet.first == 0xe0 {
                reason = Some(packet.body.first().copied().unwrap_or(0));
            }
        }
        reason
    }

    /// The codes of the SUBACK.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        if self.level == 5 {
            body.push(0);
        }
        for (filter, qos) in filters {
            string(&mut body, filter.as_bytes());
            body.push(*qos);
        }
        self.send(&frame(0x82, &body)).await;
        let ack = self.expect(9).await;
        assert_eq!(ack.body[..2], id.to_be_bytes());
        ack.body[if self.level == 5 { 3 } else { 2 }..].to_vec()
    }

    /// The codes of the UNSUBACK; MQTT 3.1.1 has none.
    pub async fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let id = self.id();
        let mut body = id.to_be_bytes().to_vec();
        if self.level == 5 {
            body.push(0);
        }
        string(&mut body, filter.as_bytes());
        self.send(&frame(0xa2, &body)).await;
        self.expect(11).await.body[if self.level == 5 { 3 } else { 2 }..].to_vec()
    }

    pub async fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        let bytes = publish(self.level, 0x30, topic.as_bytes(), None, payload.as_ref());
        self.send(&bytes).await;
    }

    /// With QoS 1; the code of the PUBACK.
    pub async fn publish1(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> u8 {
        let id = self.id();
        let bytes = publish(self.level, 0x32, topic.as_bytes(), Some(id), payload.as_ref());
        self.send(&bytes).await;
        let ack = self.expect(4).await;
        assert_eq!(ack.body[..2], id.to_be_bytes());
        ack.body.get(2).copied().unwrap_or(0)
    }

    /// The next message: topic and payload. Acknowledges it.
    pub async fn message(&mut self) -> (String, Vec<u8>) {
        let packet = self.expect(3).await;
        let topic_bytes = usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        let topic = String::from_utf8(packet.body[2..2 + topic_bytes].to_vec()).unwrap();
        let mut at = 2 + topic_bytes;
        if packet.first & 6 != 0 {
            let id = [packet.body[at], packet.body[at + 1]];
            self.send(&frame(0x40, &id)).await;
            at += 2;
        }
        if self.level == 5 {
            at += 1 + usize::from(packet.body[at]);
        }
        (topic, packet.body[at..].to_vec())
    }

    /// A PINGREQ; everything the broker wrote before its answer is returned.
    pub async fn ping(&mut self) -> Vec<Packet> {
        self.send(&[0xc0, 0]).await;
        let mut before = Vec::new();
        loop {
            let packet = self.read().await.expect("the connection ended");
            if packet.first == 0xd0 {
                return before;
            }
            before.push(packet);
        }
    }

    /// Everything that was on its way when this was called; QoS 1 is not acknowledged.
    pub async fn settled(&mut self) -> Vec<Packet> {
        let mut all = Vec::new();
        // An answer may overtake messages that wait; not those of the question before.
        loop {
            let before = self.ping().await;
            if before.is_empty() {
                return all;
            }
            all.extend(before);
        }
    }

    pub async fn disconnect(mut self) {
        self.send(&[0xe0, 0]).await;
        assert_eq!(self.closed().await, None);
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }
}

pub async fn tls(
    address: &str,
    server_ca: &Authority,
    identity: Option<&Identity>,
) -> std::io::Result<Stream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config(server_ca, identity)));
    soon(connector.connect(ServerName::try_from("localhost").unwrap(), socket)).await
}

pub fn config(server_ca: &Authority, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(server_ca.der.clone()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

pub async fn read_packet<R: AsyncRead + Unpin>(stream: &mut R) -> Option<Packet> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Packet { first, body })
}

pub fn publish(level: u8, first: u8, topic: &[u8], id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(payload.len() + topic.len() + 8);
    string(&mut body, topic);
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    frame(first, &body)
}

pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = length >= 0x80;
        bytes.push(length as u8 & 0x7f | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

pub fn string(body: &mut Vec<u8>, text: &[u8]) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend_from_slice(text);
}
