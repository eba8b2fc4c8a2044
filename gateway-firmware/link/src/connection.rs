//! One connection, from a name to bytes and to its end.
//!
//! `Resolving -> Dialing -> Shaking -> Open -> Ended`, each stage bounded in time. Every end is said once, in the core's words
//! ([`End`]), and nothing leaves it. A new connection takes the socket from the one before.

use alloc::string::String;
use alloc::sync::Arc;
use core::net::Ipv4Addr;

use gateway_core::net::link::End;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use smoltcp::phy::Device;
use smoltcp::socket::tcp::State;

use crate::address::{known, split};
use crate::network::{Addresses, Network, Query};
use crate::tls::{Credential, Session, config};

/// From the start to the end of the handshake; less than what the core waits for it (`DIAL_TIMEOUT_MS`).
pub const CONNECT_TIMEOUT_US: u64 = 25_000_000;
/// For one of several addresses to answer.
pub const DIAL_TIMEOUT_US: u64 = 5_000_000;
/// A peer that says nothing at all for so long is gone.
pub const SILENCE_TIMEOUT_US: u64 = 30_000_000;
/// How often a peer is asked whether it is there when there is nothing else to say.
pub const IDLE_PROBE_US: u64 = 10_000_000;
/// Times that bytes are moved in one call.
const TURNS_PER_POLL_MAX: usize = 8;

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not there yet.
    Working,
    /// Bytes can be written and read.
    Open,
    /// Over.
    Ended(End),
}

#[derive(Debug)]
enum Stage {
    /// Waits for an address of our own.
    Waiting,
    Resolving(Query),
    Dialing {
        left: Addresses,
        until_us: u64,
    },
    Shaking,
    Open,
    Ended(End),
}

/// A connection wished for, under way, there, or over.
#[derive(Debug)]
pub struct Connection {
    host: String,
    port: u16,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stage: Stage,
    session: Option<Session>,
    generation: u32,
    until_us: u64,
}

impl Connection {
    /// A connection to `host:port`, as `credential`, to whom the DER `anchors` vouch for.
    ///
    /// An address that is none, or no usable anchor, is an end at once.
    pub fn start(
        address: &str,
        credential: Credential<'_>,
        anchors: &[&[u8]],
        time_bound_s: u64,
        now_us: u64,
    ) -> Result<Self, End> {
        let (host, port) = split(address)?;
        let name = ServerName::try_from(host).map_err(|_| End::Unreachable)?.to_owned();
        Ok(Self {
            host: host.into(),
            port,
            config: config(anchors, credential, time_bound_s)?,
            name,
            stage: Stage::Waiting,
            session: None,
            generation: 0,
            until_us: now_us.saturating_add(CONNECT_TIMEOUT_US),
        })
    }

    /// Does what can be done now.
    pub fn poll<D: Device>(&mut self, network: &mut Network<'_, D>, now_us: u64) -> Progress {
        if let Stage::Ended(end) = self.stage {
            return Progress::Ended(end);
        }
        if let Err(end) = self.advance(network, now_us) {
            self.finish(network, end);
        }
        network.flush(now_us);
        match self.stage {
            Stage::Open => Progress::Open,
            Stage::Ended(end) => Progress::Ended(end),
            _ => Progress::Working,
        }
    }

    /// When `poll` wants to be called again at the latest, but for bytes that come (`Network::deadline_us`).
    pub fn deadline_us(&self) -> Option<u64> {
        match &self.stage {
            Stage::Open | Stage::Ended(_) => None,
            Stage::Dialing { until_us, .. } => Some(self.until_us.min(*until_us)),
            _ => Some(self.until_us),
        }
    }

    /// Takes bytes to send, as many as fit now; then `poll`.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        // An error comes up again at the next `poll`.
        self.session.as_mut().and_then(|session| session.write(bytes).ok()).unwrap_or(0)
    }

    /// Gives bytes that were received; 0 when there are none. `poll` then, for more.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        self.session.as_mut().map_or(0, |session| session.read(into))
    }

    /// Whether `read` would give bytes.
    pub fn is_readable(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_readable)
    }

    /// Ends it from our side.
    pub fn close<D: Device>(mut self, network: &mut Network<'_, D>, now_us: u64) {
        if let Some(session) = &mut self.session {
            session.close();
        }
        self.finish(network, End::Done);
        network.flush(now_us);
    }

    fn advance<D: Device>(&mut self, network: &mut Network<'_, D>, now_us: u64) -> Result<(), End> {
        let connecting = !matches!(self.stage, Stage::Open);
        if connecting && now_us >= self.until_us {
            return Err(End::Unreachable);
        }
        let connected = !matches!(self.stage, Stage::Waiting | Stage::Resolving(_));
        if connected && network.generation() != self.generation {
            return Err(self.end_of_bytes());
        }
        match core::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Waiting => self.resolve(network, now_us),
            Stage::Resolving(query) => match network.answer(query) {
                Err(query) => {
                    self.stage = Stage::Resolving(query);
                    Ok(())
                }
                Ok(found) => self.dial(network, found.unwrap_or_default(), now_us),
            },
            Stage::Dialing { left, until_us } => self.await_answer(network, left, until_us, now_us),
            stage @ (Stage::Shaking | Stage::Open) => {
                self.stage = stage;
                self.carry(network)
            }
            stage @ Stage::Ended(_) => {
                self.stage = stage;
                Ok(())
            }
        }
    }

    fn resolve<D: Device>(&mut self, network: &mut Network<'_, D>, now_us: u64) -> Result<(), End> {
        if !network.is_up() {
            return Ok(());
        }
        if let Some(address) = known(&self.host, network.hosts()) {
            return self.dial(network, Addresses::from_iter([address]), now_us);
        }
        self.stage = Stage::Resolving(network.ask(&self.host).ok_or(End::Unreachable)?);
        Ok(())
    }

    /// Tries the first of the addresses.
    fn dial<D: Device>(
        &mut self,
        network: &mut Network<'_, D>,
        mut left: Addresses,
        now_us: u64,
    ) -> Result<(), End> {
        while !left.is_empty() {
            let address: Ipv4Addr = left.remove(0);
            if network.dial(address, self.port).is_some() {
                self.generation = network.generation();
                self.stage = Stage::Dialing { left, until_us: now_us.saturating_add(DIAL_TIMEOUT_US) };
                return Ok(());
            }
        }
        Err(End::Unreachable)
    }

    fn await_answer<D: Device>(
        &mut self,
        network: &mut Network<'_, D>,
        left: Addresses,
        until_us: u64,
        now_us: u64,
    ) -> Result<(), End> {
        match network.tcp().state() {
            State::Established | State::CloseWait => {
                self.session = Some(Session::start(self.config.clone(), self.name.clone())?);
                self.stage = Stage::Shaking;
                self.carry(network)
            }
            State::Closed => self.dial(network, left, now_us),
            _ if now_us >= until_us => self.dial(network, left, now_us),
            _ => {
                self.stage = Stage::Dialing { left, until_us };
                Ok(())
            }
        }
    }

    /// Moves bytes between the socket and the session.
    fn carry<D: Device>(&mut self, network: &mut Network<'_, D>) -> Result<(), End> {
        for _ in 0..TURNS_PER_POLL_MAX {
            let Some(session) = &mut self.session else { return Err(End::Unreachable) };
            let socket = network.tcp();
            let taken = receive(socket, session);
            session.turn()?;
            if session.is_open() {
                self.stage = Stage::Open;
            }
            let given = send(socket, session);
            if taken + given == 0 {
                break;
            }
        }
        self.check_stream(network)
    }

    /// The stream is over when there is nothing left of it to read.
    fn check_stream<D: Device>(&mut self, network: &mut Network<'_, D>) -> Result<(), End> {
        let socket = network.tcp();
        if socket.is_active() && (socket.may_recv() || self.is_readable()) {
            return Ok(());
        }
        if self.is_readable() { Ok(()) } else { Err(self.end_of_bytes()) }
    }

    fn end_of_bytes(&self) -> End {
        if matches!(self.stage, Stage::Open) { End::Lost } else { End::Unreachable }
    }

    /// Says what there is to say and lets go of everything.
    fn finish<D: Device>(&mut self, network: &mut Network<'_, D>, end: End) {
        if let Stage::Resolving(query) = core::mem::replace(&mut self.stage, Stage::Ended(end)) {
            network.cancel(query);
        }
        if let Some(mut session) = self.session.take() {
            send(network.tcp(), &mut session);
            network.tcp().close();
        } else if !matches!(network.tcp().state(), State::Closed) {
            network.tcp().abort();
        }
    }
}

fn receive(socket: &mut smoltcp::socket::tcp::Socket<'_>, session: &mut Session) -> usize {
    let room = session.room();
    if room.is_empty() || !socket.can_recv() {
        return 0;
    }
    let taken = socket.recv_slice(room).unwrap_or(0);
    session.received(taken);
    taken
}

fn send(socket: &mut smoltcp::socket::tcp::Socket<'_>, session: &mut Session) -> usize {
    if session.pending().is_empty() || !socket.can_send() {
        return 0;
    }
    let given = socket.send_slice(session.pending()).unwrap_or(0);
    session.sent(given);
    given
}
