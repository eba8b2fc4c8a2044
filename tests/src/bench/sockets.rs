//! The peer: as many bytes over one TLS 1.3 connection between two threads of this process. No protocol, no
//! certificates of clients, no flash: nothing that does our work can be faster than this.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What one call writes or reads, at most: a TLS record.
const PIECE_BYTES: usize = 16 * 1024;

/// How long `bytes` take from the first byte written to the last byte read.
pub fn transfer(bytes: usize) -> Result<Duration> {
    let (server, client) = configurations()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reading = thread::spawn(move || -> Result<Instant> {
        let socket = TcpStream::connect(address)?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(client), name)?, socket);
        stream.write_all(&[1])?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut left = bytes;
        while left > 0 {
            let count = stream.read(&mut piece)?;
            ensure!(count > 0, "the stream ended early");
            left = left.saturating_sub(count);
        }
        Ok(Instant::now())
    });
    let (socket, _) = listener.accept()?;
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(server))?, socket);
    // The handshake is over once the reader's first byte is here.
    stream.read_exact(&mut [0])?;
    let piece = vec![0x5a; PIECE_BYTES];
    let begun = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let count = left.min(PIECE_BYTES);
        stream.write_all(&piece[..count])?;
        left -= count;
    }
    stream.flush()?;
    let ended = reading.join().map_err(|_| anyhow!("the reading thread panicked"))??;
    Ok(ended - begun)
}

fn configurations() -> Result<(ServerConfig, ClientConfig)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).context("our own certificate")?;
    let tls13 = &[&rustls::version::TLS13];
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(tls13)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(tls13)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((server, client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives() {
        assert!(transfer(100_001).expect("a transfer") > Duration::ZERO);
    }
}
