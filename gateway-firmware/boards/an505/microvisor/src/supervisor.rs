//! The supervisor: the core, the network and the application, turned by whichever stirs first.
//!
//! The core decides everything; this loop only moves bytes, sleeps, and says what happened. It is the one place that feeds the
//! watchdog, and only where nothing is left to do: a supervisor that never comes to rest does not work, whatever it is busy with.

mod dial;
mod found;
mod measure;
mod tell;

use core::net::Ipv4Addr;

use chip::clock::now_us;
use gateway_core::commission::Stage;
use gateway_core::debug;
use gateway_core::device::{BootError, Next, Notice};
use gateway_core::gateway::{Buffers, Gateway, Happening, Provisioning, RECEIVE_BYTES_MIN, SEND_BYTES_MIN};
use gateway_core::net::identity::Identity;
use gateway_core::net::link::End;
use gateway_core::ports::Ports;
use gateway_core::provision::{self, HOSTS_MAX, Provision};
use gateway_core::update::State;
use gateway_core::{Device, Facts, Memory};
use gateway_link::{Connection, Host, Network, Progress, Storage, random};
use heapless::Vec;
use static_cell::{ConstStaticCell, StaticCell};
use wire::msg::LogLevel;

use crate::application::{self, EVENTS_MAX, Event};
use crate::gateway::telemetry;
use crate::net::lan9118::{self, Lan9118};
use crate::ports::{self, An505, Started, Unfit};
use crate::{gateway, schedule};

use self::found::Found;
use self::measure::Measure;
use self::tell::Wall;

/// Bytes the broker may send before some were understood.
const TCP_RECEIVE_BYTES: usize = 6 * 1024;
/// Bytes the broker is sent before it must have acknowledged some.
const TCP_SEND_BYTES: usize = 4 * 1024;
/// The supervisor rests at most so long: a quarter of what the watchdog gives before its warning.
const REST_MAX_US: u64 = chip::watchdog::HALF_MS as u64 * 1000 / 4;
/// Turns without a rest after which the network and the application have their turn all the same.
const TURNS_MAX: u32 = 8;

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
static DEBUG: ConstStaticCell<debug::Memory> = ConstStaticCell::new(debug::Memory::new());
static IDENTITY: ConstStaticCell<Option<Identity>> = ConstStaticCell::new(None);
static RECEIVE: ConstStaticCell<[u8; RECEIVE_BYTES_MIN]> = ConstStaticCell::new([0; RECEIVE_BYTES_MIN]);
static SEND: ConstStaticCell<[u8; SEND_BYTES_MIN]> = ConstStaticCell::new([0; SEND_BYTES_MIN]);
static TCP_RECEIVE: ConstStaticCell<[u8; TCP_RECEIVE_BYTES]> = ConstStaticCell::new([0; TCP_RECEIVE_BYTES]);
static TCP_SEND: ConstStaticCell<[u8; TCP_SEND_BYTES]> = ConstStaticCell::new([0; TCP_SEND_BYTES]);

static PROVISION: StaticCell<Provision<'static>> = StaticCell::new();
static HOSTS: StaticCell<Vec<Host<'static>, HOSTS_MAX>> = StaticCell::new();
static STORAGE: StaticCell<Storage<'static>> = StaticCell::new();
static CORE: StaticCell<Core> = StaticCell::new();
static NETWORK: StaticCell<Ip> = StaticCell::new();
static SUPERVISOR: StaticCell<Supervisor> = StaticCell::new();

type Core = Gateway<'static, An505>;
type Ip = Network<'static, Lan9118>;

/// What the supervisor turns.
struct Supervisor {
    core: &'static mut Core,
    network: &'static mut Ip,
    anchor: &'static [u8],
    epoch: u32,
    dials_from_us: u64,
    connection: Option<Connection>,
    open: bool,
    measure: Measure,
    wall: Wall,
}

/// Where `schedule` starts this thread. It comes back from nothing: what keeps it from working resets the board.
pub extern "C" fn run() -> ! {
    run_dialing_from(0)
}

/// The same, with no connection before this time.
pub fn run_dialing_from(us: u64) -> ! {
    match begin(us) {
        Ok(supervisor) => {
            supervisor.listen();
            supervisor.turn_for_ever()
        }
        Err(unable) => stop_here(unable),
    }
}

/// Why there is no supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unable {
    Board(Unfit),
    Core(BootError),
    /// The Ethernet controller does not answer.
    Silent,
    /// Memory that is lent once was asked for twice.
    Lent,
}

/// Makes everything, each part where it stays. Whatever needs a large frame is a call of its own here, so that it is gone
/// when the turns begin.
#[inline(never)]
fn begin(dials_from_us: u64) -> Result<&'static mut Supervisor, Unable> {
    let Started { mut ports, facts, provision, handover } = ports::start().map_err(Unable::Board)?;
    let found = Found::look(&mut ports, handover.as_ref());
    tell::started(&facts, handover.as_ref());
    found.tell(|_, text| tell::say(text));
    let provision: &'static Provision<'static> = PROVISION.try_init(provision).ok_or(Unable::Lent)?;
    let core = core(ports, facts, provision)?;
    found.tell(|level, text| core.note(level, text));
    core.device_mut().restore();
    let network = network(provision)?;
    let wall = Wall::new(core.device().time_bound_s());
    let supervisor = Supervisor {
        core,
        network,
        anchor: provision.server_ca,
        epoch: 0,
        dials_from_us,
        connection: None,
        open: false,
        measure: Measure::default(),
        wall,
    };
    SUPERVISOR.try_init(supervisor).ok_or(Unable::Lent)
}

#[inline(never)]
fn core(
    ports: Ports<An505>,
    facts: Facts,
    provision: &'static Provision<'static>,
) -> Result<&'static mut Core, Unable> {
    let memory = MEMORY.try_take().ok_or(Unable::Lent)?;
    let device = Device::mount(ports, facts, memory).map_err(Unable::Core)?;
    let buffers = Buffers {
        receive: RECEIVE.try_take().ok_or(Unable::Lent)?,
        send: SEND.try_take().ok_or(Unable::Lent)?,
        log: chip::kept::logs().ok_or(Unable::Lent)?,
        identity: IDENTITY.try_take().ok_or(Unable::Lent)?,
        debug: Some(DEBUG.try_take().ok_or(Unable::Lent)?),
    };
    let provisioning =
        Provisioning { enroll_address: provision.enroll_address, claim: provision.claim_certificate };
    CORE.try_init_with(|| Gateway::new(device, provisioning, buffers)).ok_or(Unable::Lent)
}

#[inline(never)]
fn network(provision: &'static Provision<'static>) -> Result<&'static mut Ip, Unable> {
    let host = |host: &provision::Host<'static>| Host { name: host.name, address: Ipv4Addr::from(host.ipv4) };
    let hosts = HOSTS.try_init(provision.hosts.iter().map(host).collect()).ok_or(Unable::Lent)?;
    let storage = STORAGE.try_init(Storage::default()).ok_or(Unable::Lent)?;
    let device = Lan9118::start().map_err(|_| Unable::Silent)?;
    let mac = device.mac();
    let mut seed = [0; 8];
    // Without randomness there is no connection either: TLS asks for it again.
    let _ = random::fill(&mut seed);
    let receive = TCP_RECEIVE.try_take().ok_or(Unable::Lent)?;
    let send = TCP_SEND.try_take().ok_or(Unable::Lent)?;
    let buffers = gateway_link::Buffers { storage, receive, send };
    let network = Network::new(device, mac, u64::from_le_bytes(seed), hosts, buffers, now_us());
    NETWORK.try_init(network).ok_or(Unable::Lent)
}

impl Supervisor {
    /// Hears the network from now on, if this board may: one that is being tested, or failed, is deaf.
    fn listen(&self) {
        if self.core.device().may_connect() {
            schedule::on_lan(|| {
                lan9118::acknowledge();
                measure::brought();
                schedule::wake();
            });
        }
    }

    fn turn_for_ever(&mut self) -> ! {
        loop {
            let mut turns = 0;
            let until_us = loop {
                let moved = self.turn();
                turns += 1;
                let next = self.core.poll();
                self.report();
                if !moved && next != Next::Now || turns == TURNS_MAX {
                    break self.until_us(next);
                }
            };
            self.measure.tell(self.network.device().counters());
            ports::feed_if_alive();
            schedule::idle(until_us);
        }
    }

    /// Moves what can be moved; whether anything was.
    fn turn(&mut self) -> bool {
        let heard = self.hear_application();
        self.measure.turns();
        let moved = self.core.device().may_connect() && {
            self.network.poll(now_us());
            self.follow_wish();
            self.carry()
        };
        gateway::publish(tell::facts(self.core, &mut self.wall));
        heard || moved
    }

    /// Takes what the application said, some of it: the rest waits for the next turn. Whatever an application says without end
    /// costs a turn so much and no more.
    fn hear_application(&mut self) -> bool {
        let mut heard = false;
        let testing = self.core.device().commission() == Stage::Testing;
        for _ in 0..EVENTS_MAX {
            let log = testing || self.core.app_log_has_room();
            let Some(event) = application::take_event(log) else { break };
            heard = true;
            match event {
                Event::Log { text, .. } if testing => tell::tests(&text),
                Event::Log { at_ms, text } => self.core.app_log_of(at_ms, LogLevel::Info, &text),
                Event::Fault(fault) => tell::fault(self.core, &fault),
                // Levels, which the core asks for: `App::status`.
                Event::Healthy | Event::Restart => {}
            }
        }
        self.core.telemetry_refused(telemetry::take_refused());
        let core = &mut *self.core;
        heard |= telemetry::take(|content_type, data| {
            // What had no room was counted there.
            let _ = core.telemetry(content_type, data);
            core.telemetry_room()
        });
        telemetry::has_room(self.core.telemetry_room());
        heard
    }

    /// Drops the connection there is when another one is wished for, and begins that.
    fn follow_wish(&mut self) {
        let (epoch, dial) = self.core.wish();
        if epoch == self.epoch || now_us() < self.dials_from_us {
            return;
        }
        (self.epoch, self.open) = (epoch, false);
        if let Some(connection) = self.connection.take() {
            connection.close(self.network, now_us());
        }
        let Some(dial) = dial else { return };
        self.measure.dialed();
        match dial::start(dial, self.core.device(), self.anchor, now_us()) {
            Ok(connection) => self.connection = Some(connection),
            Err(end) => self.core.ended(epoch, end),
        }
    }

    /// Moves bytes between the connection and the core.
    fn carry(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        match connection.poll(self.network, now_us()) {
            Progress::Working => return false,
            Progress::Ended(end) => {
                self.ended(end);
                return true;
            }
            Progress::Open if !self.open => {
                self.open = true;
                self.measure.opened();
                self.core.opened(self.epoch);
            }
            Progress::Open => {}
        }
        let mut moved = false;
        loop {
            let given = connection.write(self.core.pending());
            self.core.sent(given);
            let taken = connection.read(self.core.spare());
            self.core.received(taken);
            if given + taken == 0 {
                break;
            }
            moved = true;
        }
        if moved {
            // What was written leaves now, and not at the next turn.
            let _ = connection.poll(self.network, now_us());
        }
        moved
    }

    fn ended(&mut self, end: End) {
        self.connection = None;
        self.core.ended(self.epoch, end);
    }

    /// When to turn again at the latest.
    fn until_us(&mut self, next: Next) -> Option<u64> {
        let core_us = match next {
            Next::Now => Some(now_us()),
            Next::At(ms) => Some(ms.saturating_mul(1000)),
            Next::Never => None,
        };
        let deaf = !self.core.device().may_connect();
        let network_us = self.network.deadline_us(now_us()).filter(|_| !deaf);
        let connection_us = self.connection.as_ref().and_then(Connection::deadline_us);
        // The watchdog wants to be fed, whoever sleeps.
        let rest_us = now_us() + REST_MAX_US;
        let dial_us = (now_us() < self.dials_from_us).then_some(self.dials_from_us);
        [core_us, network_us, connection_us, dial_us, schedule::trial_ends_us(), Some(rest_us)]
            .into_iter()
            .flatten()
            .min()
    }

    fn report(&mut self) {
        while let Some(happening) = self.core.take_happening() {
            tell::happened(happening);
            if happening == Happening::Device(Notice::Update(State::Fetching)) {
                self.measure.update_started();
            }
            if happening == Happening::Device(Notice::Commission(Stage::Production)) {
                self.listen();
            }
        }
    }
}

/// Says why nothing can be done here; the watchdog begins it all anew.
fn stop_here(unable: Unable) -> ! {
    tell::say(format_args!("cannot begin: {unable:?}"));
    loop {
        schedule::idle(None);
    }
}
