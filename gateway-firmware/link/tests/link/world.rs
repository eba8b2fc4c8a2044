//! A board, a cable and a host, and time that goes from one event to the next.

use std::cell::RefCell;
use std::rc::Rc;

use gateway_core::net::link::End;
use gateway_link::tls::Credential;
use gateway_link::{Buffers, Connection, Host, Network, Progress, Storage};

use crate::cable::{Cable, Plug, Weather};
use crate::peer::{PEER, PORT, Peer};
use crate::pki::{AT_2024, Identity, NAME, Pki};
use crate::server::server_config;

pub(crate) const S: u64 = 1_000_000;
/// Time does not stand still, whatever anybody wants.
const STEP_US: u64 = 20;

pub(crate) struct World {
    pub(crate) now_us: u64,
    pub(crate) steps: u64,
    pub(crate) cable: Rc<RefCell<Cable>>,
    pub(crate) peer: Peer,
    pub(crate) network: Network<'static, Plug>,
    pub(crate) connection: Option<Connection>,
    pki: Pki,
    device: Identity,
}

impl World {
    pub(crate) fn new(weather: Weather) -> Self {
        gateway_link::random::seed(&[2; 32]);
        let pki = Pki::new();
        let cable = Cable::new(weather);
        let (ours, theirs) = Plug::pair(&cable);
        let peer = Peer::new(theirs, server_config(&pki, &pki.server(), |_| ()));
        let buffers = Buffers {
            storage: Box::leak(Box::new(Storage::default())),
            receive: vec![0; 8 * 1024].leak(),
            send: vec![0; 4 * 1024].leak(),
        };
        let hosts = vec![Host { name: "listed.test", address: PEER }].leak();
        let network = Network::new(ours, [2, 0, 0, 0, 0, 9], weather.seed, hosts, buffers, 0);
        let device = pki.device();
        Self { now_us: 0, steps: 0, cable, peer, network, connection: None, pki, device }
    }

    /// A board that has an address.
    pub(crate) fn up(weather: Weather) -> Self {
        let mut world = Self::new(weather);
        world.until(120 * S, |world| world.network.is_up());
        world
    }

    /// Starts a connection to the server here.
    pub(crate) fn connect(&mut self) {
        self.connect_to(&format!("{NAME}:{PORT}")).unwrap();
    }

    pub(crate) fn connect_to(&mut self, address: &str) -> Result<(), End> {
        if let Some(connection) = self.connection.take() {
            connection.close(&mut self.network, self.now_us);
        }
        let chain: Vec<&[u8]> = self.device.chain.iter().map(AsRef::as_ref).collect();
        let credential = Credential { chain: &chain, signer: self.device.signer() };
        let anchors: [&[u8]; 1] = [&self.pki.anchor];
        self.connection = Some(Connection::start(address, credential, &anchors, AT_2024, self.now_us)?);
        Ok(())
    }

    /// One turn of everybody, and on to the next event.
    pub(crate) fn step(&mut self) -> Progress {
        self.steps += 1;
        let now_us = self.now_us;
        self.cable.borrow_mut().now_us = now_us;
        self.network.poll(now_us);
        let progress = self
            .connection
            .as_mut()
            .map_or(Progress::Working, |connection| connection.poll(&mut self.network, now_us));
        self.peer.poll(now_us);
        let deadlines = [
            self.cable.borrow().deadline_us(),
            self.network.deadline_us(now_us),
            self.connection.as_ref().and_then(Connection::deadline_us),
            self.peer.deadline_us(now_us),
        ];
        let next_us = deadlines.into_iter().flatten().min().unwrap_or(now_us + S);
        self.now_us = next_us.max(now_us + STEP_US);
        progress
    }

    /// Goes on until something holds; fails where it does not in time.
    pub(crate) fn until(&mut self, within_us: u64, mut done: impl FnMut(&mut Self) -> bool) {
        let late_us = self.now_us + within_us;
        while !done(self) {
            assert!(self.now_us < late_us, "not within {within_us} us: {:?}", self.connection);
            self.step();
        }
    }

    /// The first thing that is not `Working`.
    pub(crate) fn outcome(&mut self, within_us: u64) -> Progress {
        let mut progress = Progress::Working;
        self.until(within_us, |world| {
            progress = world.step();
            progress != Progress::Working
        });
        progress
    }

    /// How it ends.
    pub(crate) fn end(&mut self, within_us: u64) -> End {
        let mut end = None;
        self.until(within_us, |world| {
            if let Progress::Ended(ended) = world.step() {
                end = Some(ended);
            }
            end.is_some()
        });
        end.unwrap()
    }

    /// Sends so many bytes and has them back, or says how that ended; fails when it takes longer.
    pub(crate) fn echo(&mut self, count: usize, within_us: u64) -> Result<(), End> {
        let late_us = self.now_us + within_us;
        self.echo_or_time(count, late_us)?;
        assert!(self.now_us < late_us, "{:?}", self.connection);
        Ok(())
    }

    /// The same, and no failure when the time is up.
    pub(crate) fn echo_or_time(&mut self, count: usize, late_us: u64) -> Result<(), End> {
        let bytes: Vec<u8> = (0..count).map(|at| (at * 31 % 253) as u8).collect();
        let (mut said, mut heard) = (0, Vec::new());
        while heard.len() < bytes.len() && self.now_us < late_us {
            let now_us = self.now_us;
            if let Progress::Ended(end) = self.step() {
                return Err(end);
            }
            let connection = self.connection.as_mut().unwrap();
            let written = connection.write(&bytes[said..]);
            said += written;
            let mut into = [0; 700];
            let count = connection.read(&mut into);
            heard.extend_from_slice(&into[..count]);
            if written + count > 0 {
                self.now_us = now_us + STEP_US;
            }
        }
        assert!(bytes.starts_with(&heard));
        Ok(())
    }
}
