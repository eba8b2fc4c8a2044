//! HTTP/2 as an attacker speaks it: frames by hand (RFC 9113), on a real server. Whatever comes, others are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::broker::v1::DisconnectRequest;
use proto::broker::v1::broker_control_service_client::BrokerControlServiceClient;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Code;

use crate::pki::{By, Pki};
use crate::serve::{Server, ask, channel, server};

const PATIENCE: Duration = Duration::from_secs(30);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113 §7.
const REFUSED_STREAM: u32 = 7;

/// One connection of an attacker.
struct Raw {
    from: ReadHalf<TlsStream<TcpStream>>,
    to: WriteHalf<TlsStream<TcpStream>>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Raw {
    /// Past the preface and both sides' settings.
    async fn connect(address: SocketAddr, pki: &Pki) -> Raw {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca(By::Server).as_bytes()).unwrap()).unwrap();
        let (certificate, key) = pki.leaf(By::Service, "svc-registry");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_client_auth_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (from, to) = split(connector.connect(name, stream).await.unwrap());
        let mut raw = Raw { from, to };
        raw.to.write_all(PREFACE).await.unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await.unwrap();
        raw.send(SETTINGS, 1, 0, &[]).await.unwrap();
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.to.write_all(&frame(kind, flags, stream, payload)).await?;
        self.to.flush().await
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.from.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], stream, payload })
    }

    /// Everything until the server closes, or tells us to go.
    async fn until_sent_away(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let all = async {
            while let Some(frame) = self.read().await {
                let last = frame.kind == GOAWAY;
                frames.push(frame);
                if last {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the server puts up with it");
        frames
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK without tables or Huffman (RFC 7541 §6.2.2).
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(integer(text.len()));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn integer(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).unwrap()];
    }
    value -= 127;
    let mut bytes = vec![127];
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A call of `Disconnect`.
fn call() -> Vec<u8> {
    call_of("/holdfast.broker.v1.BrokerControlService/Disconnect")
}

fn call_of(path: &str) -> Vec<u8> {
    [
        header(":method", "POST"),
        header(":scheme", "https"),
        header(":path", path),
        header(":authority", "localhost"),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    ]
    .concat()
}

/// Somebody who does nothing wrong is answered.
async fn others_are_answered(server: &Server, pki: &Pki) {
    let identity = pki.leaf(By::Service, "svc-registry");
    let channel = channel(server, pki, Some(identity)).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, ask(channel)).await.unwrap(), Ok(2));
}

async fn end(server: Server) {
    server.shutdown.begin();
    server.task.await.unwrap().unwrap();
}

/// CVE-2023-44487: streams that are opened and reset at once.
#[tokio::test]
async fn rapid_reset_costs_others_nothing() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let mut raw = Raw::connect(server.address, &pki).await;
    let cancel = 8_u32.to_be_bytes();
    for stream in (1..20_000).step_by(2) {
        let burst = [frame(HEADERS, END_HEADERS, stream, &call()), frame(RST_STREAM, 0, stream, &cancel)];
        // It may have sent us away by now.
        if raw.to.write_all(&burst.concat()).await.is_err() {
            break;
        }
    }
    let _ = raw.to.flush().await;
    others_are_answered(&server, &pki).await;
    drop(raw);
    end(server).await;
}

/// CVE-2024-27316 and its like: headers that never end.
#[tokio::test]
async fn a_continuation_flood_ends_its_connection_and_no_other() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let mut raw = Raw::connect(server.address, &pki).await;
    raw.send(HEADERS, 0, 1, &call()).await.unwrap();
    let more = header("x-more", &"y".repeat(8 * 1024));
    for _ in 0..10_000 {
        if raw.send(CONTINUATION, 0, 1, &more).await.is_err() {
            break;
        }
    }
    others_are_answered(&server, &pki).await;
    raw.until_sent_away().await;
    end(server).await;
}

#[tokio::test]
async fn headers_over_their_bound_are_refused_and_under_it_answered() {
    let pki = Pki::new();
    let server = server(&pki).await;
    // RFC 9113 §10.5.1: each counts its name, its value and 32 bytes.
    for (bytes, refused) in
        [(kit::serve::HEADERS_BYTES_MAX - 1024, false), (kit::serve::HEADERS_BYTES_MAX, true)]
    {
        let mut raw = Raw::connect(server.address, &pki).await;
        let headers = [call(), header("x-much", &"y".repeat(bytes as usize))].concat();
        let mut pieces = headers.chunks(16 * 1024).peekable();
        raw.send(HEADERS, 0, 1, pieces.next().unwrap()).await.unwrap();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            raw.send(CONTINUATION, flags, 1, piece).await.unwrap();
        }
        if headers.len() <= 16 * 1024 {
            raw.send(CONTINUATION, END_HEADERS, 1, &[]).await.unwrap();
        }
        // A gRPC message: DisconnectRequest { identity: "dv" }.
        let _ = raw.send(DATA, END_STREAM, 1, &[0, 0, 0, 0, 4, 0x0a, 2, b'd', b'v']).await;
        let answered = async {
            while let Some(frame) = raw.read().await {
                // 431 has its headers and no message; a reset or a farewell says no as well.
                match frame.kind {
                    DATA if !frame.payload.is_empty() => return true,
                    RST_STREAM | GOAWAY => return false,
                    HEADERS if frame.payload.windows(3).any(|three| three == b"431") => return false,
                    _ => {}
                }
            }
            false
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await.unwrap();
        assert_eq!(answered, !refused, "{bytes} bytes");
    }
    others_are_answered(&server, &pki).await;
    end(server).await;
}

/// A proxy carries many people's calls over one connection; refusals of one of them must not end it.
#[tokio::test]
async fn calls_that_are_refused_before_their_message_came_do_not_end_the_connection() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let mut raw = Raw::connect(server.address, &pki).await;
    let calls = 3 * u32::try_from(kit::serve::RESETS_MAX).unwrap();
    let streams = || (0..calls).map(|call| 1 + 2 * call);
    for stream in streams() {
        let headers = call_of("/holdfast.ota.v1.BundleService/GetBundle");
        raw.send(HEADERS, END_HEADERS, stream, &headers).await.unwrap();
    }
    // The server has read all of it when it answers this.
    raw.send(PING, 0, 0, &[0; 8]).await.unwrap();
    let (mut pinged, mut refused) = (false, 0);
    let all = async {
        while refused < calls {
            let frame = raw.read().await.expect("the connection stays");
            match frame.kind {
                PING if !pinged => {
                    pinged = true;
                    for stream in streams() {
                        raw.send(DATA, END_STREAM, stream, &[0; 5]).await.unwrap();
                    }
                }
                HEADERS => refused += 1,
                RST_STREAM | GOAWAY => panic!("{refused} refused, then {frame:?}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all are answered");
    others_are_answered(&server, &pki).await;
    end(server).await;
}

#[tokio::test]
async fn streams_over_their_bound_are_refused_and_the_rest_go_on() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let mut raw = Raw::connect(server.address, &pki).await;
    let streams = kit::serve::STREAMS_MAX + 1;
    for stream in 0..streams {
        raw.send(HEADERS, END_HEADERS, 1 + 2 * stream, &call()).await.unwrap();
    }
    let refused = async {
        while let Some(frame) = raw.read().await {
            if frame.kind == RST_STREAM {
                return (frame.stream, u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
            }
            assert_ne!(frame.kind, GOAWAY, "it sends the whole connection away");
        }
        panic!("it closed the connection");
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("it takes them all");
    assert_eq!(refused, (1 + 2 * (streams - 1), REFUSED_STREAM));
    // One of those that were taken is answered when it is complete.
    raw.send(DATA, END_STREAM, 1, &[0, 0, 0, 0, 4, 0x0a, 2, b'd', b'v']).await.unwrap();
    let answer = async {
        loop {
            let frame = raw.read().await.expect("the connection stays");
            if frame.kind == DATA && frame.stream == 1 && !frame.payload.is_empty() {
                return frame.payload;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, answer).await.unwrap(), [0, 0, 0, 0, 2, 8, 2]);
    others_are_answered(&server, &pki).await;
    end(server).await;
}

#[tokio::test]
async fn oversize_and_malformed_messages_are_refused_and_their_connection_goes_on() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let identity = pki.leaf(By::Service, "svc-registry");
    let channel = channel(&server, &pki, Some(identity)).await.unwrap();
    // Above tonic's 4 MiB for one message.
    let request = DisconnectRequest { identity: "x".repeat(5 << 20) };
    let refused = BrokerControlServiceClient::new(channel.clone()).disconnect(request).await.unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    assert_eq!(ask(channel).await, Ok(2));

    for body in [
        // A string longer than the message, text that is no UTF-8, a compressed message, a length that never comes.
        &[0, 0, 0, 0, 4, 0x0a, 9, b'd', b'v'][..],
        &[0, 0, 0, 0, 3, 0x0a, 1, 0xff],
        &[1, 0, 0, 0, 2, 1, 2],
        &[0, 0xff, 0xff, 0xff, 0xff],
        &[7],
    ] {
        let mut raw = Raw::connect(server.address, &pki).await;
        raw.send(HEADERS, END_HEADERS, 1, &call()).await.unwrap();
        raw.send(DATA, END_STREAM, 1, body).await.unwrap();
        let refused = async {
            loop {
                match raw.read().await {
                    Some(frame) if frame.kind == DATA && !frame.payload.is_empty() => return false,
                    // Trailers, or a reset.
                    Some(frame) if matches!(frame.kind, HEADERS | RST_STREAM) && frame.stream == 1 => {
                        return true;
                    }
                    Some(_) => {}
                    None => return true,
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, refused).await.unwrap(), "{body:?}");
    }
    others_are_answered(&server, &pki).await;
    end(server).await;
}

#[tokio::test]
async fn what_is_no_http_2_is_closed() {
    let pki = Pki::new();
    let server = server(&pki).await;
    for bytes in [
        // HTTP/1.1, a frame on a stream that is not open, a length above the bound, settings of a strange size.
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &frame(DATA, 0, 1, b"x"),
        &[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1],
        &frame(SETTINGS, 0, 0, &[1, 2, 3]),
        &frame(CONTINUATION, 0, 3, b"x"),
    ] {
        let mut raw = Raw::connect(server.address, &pki).await;
        let _ = raw.to.write_all(bytes).await;
        let _ = raw.to.flush().await;
        raw.until_sent_away().await;
    }
    others_are_answered(&server, &pki).await;
    end(server).await;
}
