//! A session of ours and a rustls server, byte by byte in one thread.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use gateway_core::net::link::End;
use gateway_link::tls::{Credential, Session, config};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::pki::{AT_2024, Identity, NAME, Pki};

/// How the server is set up beyond its certificate.
pub(crate) type Setup = fn(&mut ServerConfig);

pub(crate) fn server_config(clients: &Pki, identity: &Identity, setup: Setup) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.anchor.clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key())
        .unwrap();
    setup(&mut config);
    Arc::new(config)
}

pub(crate) fn session(servers: &Pki, device: &Identity, time_bound_s: u64) -> Session {
    gateway_link::random::seed(&[1; 32]);
    let chain: Vec<&[u8]> = device.chain.iter().map(AsRef::as_ref).collect();
    let credential = Credential { chain: &chain, signer: device.signer() };
    let config = config(&[&servers.anchor], credential, time_bound_s).unwrap();
    Session::start(config, NAME.try_into().unwrap()).unwrap()
}

/// Both ends.
pub(crate) struct Pair {
    pub(crate) ours: Session,
    pub(crate) theirs: ServerConnection,
    /// Why the server gave up.
    pub(crate) refused: Option<rustls::Error>,
    /// What we have read.
    pub(crate) heard: Vec<u8>,
    /// What the server has read.
    pub(crate) told: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(pki: &Pki, server: &Identity, setup: Setup) -> Self {
        let device = pki.device();
        Self::of(session(pki, &device, AT_2024), server_config(pki, server, setup))
    }

    pub(crate) fn of(ours: Session, config: Arc<ServerConfig>) -> Self {
        let theirs = ServerConnection::new(config).unwrap();
        Self { ours, theirs, refused: None, heard: Vec::new(), told: Vec::new() }
    }

    pub(crate) fn open(pki: &Pki) -> Self {
        let mut pair = Self::new(pki, &pki.server(), |_| ());
        pair.run().unwrap();
        assert!(pair.ours.is_open() && !pair.theirs.is_handshaking());
        pair
    }

    /// Moves bytes until there are no more, and reads all there is.
    pub(crate) fn run(&mut self) -> Result<(), End> {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            if !self.ours.pending().is_empty() {
                let count = self.theirs.read_tls(&mut self.ours.pending()).unwrap();
                self.ours.sent(count);
                quiet = false;
            }
            if let Err(error) = self.theirs.process_new_packets() {
                self.refused = Some(error);
            }
            let mut told = [0; 4096];
            while let Ok(count @ 1..) = self.theirs.reader().read(&mut told) {
                self.told.extend_from_slice(&told[..count]);
            }
            if self.theirs.wants_write() && !self.ours.room().is_empty() {
                let mut room = self.ours.room();
                let count = self.theirs.write_tls(&mut Short(&mut room)).unwrap();
                self.ours.received(count);
                quiet = false;
            }
            self.ours.turn()?;
            quiet &= self.ours.pending().is_empty();
            let mut heard = [0; 1000];
            loop {
                let count = self.ours.read(&mut heard);
                if count == 0 {
                    break;
                }
                self.heard.extend_from_slice(&heard[..count]);
                quiet = false;
            }
        }
        Ok(())
    }

    /// Tells the server.
    pub(crate) fn tell(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            let count = self.ours.write(bytes)?;
            bytes = &bytes[count..];
            self.run()?;
        }
        Ok(())
    }

    /// Is told by the server.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<(), End> {
        for part in bytes.chunks(16 * 1024) {
            self.theirs.writer().write_all(part).unwrap();
            self.run()?;
        }
        Ok(())
    }

    /// What both have exchanged so far is forgotten.
    pub(crate) fn echo(&mut self, bytes: &[u8]) -> Result<(), End> {
        (self.told, self.heard) = (Vec::new(), Vec::new());
        self.tell(bytes)?;
        self.hear(bytes)?;
        assert!(self.told == bytes && self.heard == bytes);
        Ok(())
    }
}

/// Writes what fits, as a socket does.
struct Short<'a, 'b>(&'a mut &'b mut [u8]);

impl std::io::Write for Short<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.0.len());
        let (now, later) = std::mem::take(self.0).split_at_mut(count);
        now.copy_from_slice(&bytes[..count]);
        *self.0 = later;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
