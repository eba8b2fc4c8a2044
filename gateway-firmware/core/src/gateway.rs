//! The whole gateway: a device, its log, and its one connection, behind what a board drives.
//!
//! A board boots it, then in a loop: calls `poll`; has the connection that `wish` names (another number means: drop the
//! stream you have); moves bytes from `pending` and into `spare`; and sleeps until the time `poll` gave, or until bytes,
//! or its application, stir. Nothing here blocks, allocates or reads a clock but the board's.

mod judge;

use wire::limits::{
    DEBUG_FRAME_BYTES_MAX, DIRECTIVE_BYTES_MAX, ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX, LAYER_CHUNK_BYTES_MAX,
};
use wire::msg::{LogLevel, LogSource};
use wire::{ClientNonce, DeviceId, Direction, Topic};

use self::judge::{Declined, judge, load_identity};
use crate::commission::Stage;
use crate::debug::{self, Stub};
use crate::device::{BootId, Device, Next, Notice};
use crate::logs::{LOG_BATCH_BYTES_MAX, Logs};
use crate::net::demand::{Demand, Needs, Network, NetworkStatus, reason};
use crate::net::enroll::{Applicant, Enroll, Voucher};
use crate::net::identity::{CERTIFICATE_BYTES_MAX, Identity};
use crate::net::link::{End, Link, Target, View};
use crate::net::mqtt::{Fault, Incoming, Mqtt, Opening};
use crate::net::session::{Session, WILL_BYTES_MAX, will};
use crate::ports::{Board, Entropy as _, NetworkDemand};
use crate::update::{Outcome, State};

/// Bytes of `Buffers::send`, at least: the largest message and its head, and what must be said at any time.
pub const SEND_BYTES_MIN: usize = 5 * 1024;
/// Bytes of `Buffers::receive`, at least: a layer chunk, or an envelope with its directive, and their heads.
pub const RECEIVE_BYTES_MIN: usize = 17 * 1024;
const _: () = assert!(SEND_BYTES_MIN >= DEBUG_FRAME_BYTES_MAX + 768);
// What must fit, fits: the largest of each direction with room for its heads.
const _: () = assert!(SEND_BYTES_MIN >= LOG_BATCH_BYTES_MAX + 768);
const _: () = assert!(RECEIVE_BYTES_MIN >= LAYER_CHUNK_BYTES_MAX + 1024);
const _: () = assert!(RECEIVE_BYTES_MIN >= ENVELOPE_BYTES_MAX + DIRECTIVE_BYTES_MAX + 1024);
const _: () = assert!(RECEIVE_BYTES_MIN >= 3 * CERTIFICATE_BYTES_MAX + KEYSET_BYTES_MAX + 1024);

/// Happenings kept for a board that did not ask yet; the oldest give way.
pub const HAPPENINGS_MAX: usize = 16;
/// Level of the application's records.
const APP_LOG_LEVEL: LogLevel = LogLevel::Info;
/// Bytes of what an enrolment connection subscribes to.
const FILTER_BYTES_MAX: usize = 64;

/// Memory the board lends for good.
#[derive(Debug)]
pub struct Buffers<'b> {
    pub receive: &'b mut [u8],
    pub send: &'b mut [u8],
    /// Two pieces, better of memory that outlives a warm reset: `Logs::new`.
    pub log: [&'b mut [u8]; 2],
    /// Who the device is; read from the store, whatever is in it.
    pub identity: &'b mut Option<Identity>,
    /// None: a board whose application no debugger can be attached to.
    pub debug: Option<&'b mut debug::Memory>,
}

/// What the board was provisioned with for its enrolment.
#[derive(Debug, Clone, Copy)]
pub struct Provisioning<'b> {
    /// host:port of the enrolment listener.
    pub enroll_address: &'b str,
    /// Claim certificate, DER; its key is in `Keys`.
    pub claim: &'b [u8],
}

/// The connection the board should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial<'a> {
    /// host:port.
    pub address: &'a str,
    pub credential: Credential<'a>,
}

/// The client certificate to present; with the claim its own key, otherwise the identity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    Claim(&'a [u8]),
    Birth(&'a [u8]),
    /// Leaf and intermediate.
    Chain([&'a [u8]; 2]),
}

/// What happened, for whoever watches the board from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Enrolled(DeviceId),
    EnrollPending {
        retry_after_s: u32,
    },
    EnrollRefused(wire::msg::EnrollReason),
    Connected,
    Disconnected(End),
    Device(Notice),
    /// A deployment ended.
    Result(Outcome, wire::msg::UpdateReason),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway<'b, B: Board> {
    device: Device<'b, B>,
    provisioning: Provisioning<'b>,
    identity: &'b mut Option<Identity>,
    mqtt: Mqtt<'b>,
    logs: Logs<'b>,
    link: Link,
    demand: Demand,
    enroll: Enroll,
    session: Session,
    stub: Stub<'b>,
    happenings: heapless::Deque<Happening, HAPPENINGS_MAX>,
    told_result: Option<(BootId, u32)>,
}

impl<'b, B: Board> Gateway<'b, B> {
    /// `device` has booted. An identity that cannot be read, or is of another key than the board has, is as none: the board
    /// enrols again.
    pub fn new(device: Device<'b, B>, provisioning: Provisioning<'b>, buffers: Buffers<'b>) -> Self {
        let mut logs = Logs::new(buffers.log, device.boot_id());
        let (boot, reason) = (device.boot_id(), device.boot_reason());
        logs.note(device.now_ms(), LogLevel::Info, format_args!("boot {}: {reason:?}", boot.counter));
        let mut gateway = Self {
            told_result: None,
            device,
            provisioning,
            identity: buffers.identity,
            mqtt: Mqtt::new(buffers.receive, buffers.send),
            logs,
            link: Link::new(),
            demand: Demand::new(),
            enroll: Enroll::new(ClientNonce::new([0; 16])),
            session: Session::default(),
            stub: Stub::new(buffers.debug),
            happenings: heapless::Deque::new(),
        };
        let Self { identity, device, logs, .. } = &mut gateway;
        **identity = None;
        load_identity(identity, device, logs);
        gateway
    }

    pub fn device(&self) -> &Device<'b, B> {
        &self.device
    }

    pub fn device_mut(&mut self) -> &mut Device<'b, B> {
        &mut self.device
    }

    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub fn stub(&self) -> &Stub<'b> {
        &self.stub
    }

    pub fn logs(&self) -> &Logs<'b> {
        &self.logs
    }

    /// A record of the application's.
    pub fn app_log(&mut self, level: LogLevel, text: &str) {
        self.logs.push(self.device.now_ms() * 1000, level, LogSource::App, text);
    }

    /// A record of the application's that waited at the board since this time.
    pub fn app_log_of(&mut self, at_ms: u64, level: LogLevel, text: &str) {
        self.logs.push(at_ms * 1000, level, LogSource::App, text);
    }

    /// Whether the log takes one more of the application's records and drops none for it.
    pub fn app_log_has_room(&self) -> bool {
        self.logs.current().app_has_room()
    }

    /// Whether the service wants the application's records at all.
    pub fn app_log_enabled(&self) -> bool {
        self.logs.current().level() as i32 >= APP_LOG_LEVEL as i32
    }

    /// A message of the application's makers; false when there is no room, which is counted. `content_type` has at most
    /// `CONTENT_TYPE_BYTES_MAX`, `data` at most `TELEMETRY_BYTES_MAX`.
    pub fn telemetry(&mut self, content_type: &str, data: &[u8]) -> bool {
        let now_us = self.device.now_ms() * 1000;
        self.device.telemetry.push(now_us, content_type, data)
    }

    /// Bytes that `telemetry` has room for now, content type and data together.
    pub fn telemetry_room(&self) -> usize {
        self.device.telemetry.room()
    }

    /// The board refused so many messages for want of room, and told the application.
    pub fn telemetry_refused(&mut self, count: u32) {
        self.device.telemetry.refused(count);
    }

    /// How the network is, as the application may know it.
    pub fn network(&self) -> Network {
        let (open, wish) = (self.link.open(), self.link.wish().1);
        let status = match (self.demand.is_wanted(), wish) {
            (false, _) => NetworkStatus::DeliberatelyOffline,
            _ if open == Some(Target::Serve) && self.mqtt.is_online() => NetworkStatus::Connected,
            (true, Some(_)) => NetworkStatus::Connecting,
            (true, None) => NetworkStatus::DisconnectedWithLinkUp,
        };
        let waits = status == NetworkStatus::DisconnectedWithLinkUp;
        let reasons = self.demand.reasons() | if waits { reason::ENHANCE_CALM } else { 0 };
        let requests = match self.device.demand {
            NetworkDemand::NeverAsked => 0,
            NetworkDemand::Requests(count) => count,
        };
        Network { status, reasons, requests }
    }

    /// Whether a restart the application asks for now disturbs nothing.
    pub fn app_may_restart(&self) -> bool {
        self.device.state != State::Installing
    }

    /// A record of the board's own.
    pub fn note(&mut self, level: LogLevel, text: core::fmt::Arguments<'_>) {
        self.logs.note(self.device.now_ms(), level, text);
    }

    /// A record of the board's own, of what an application can bring about as often as it likes: it pushes out nothing.
    pub fn note_of_app(&mut self, level: LogLevel, text: core::fmt::Arguments<'_>) {
        self.logs.note_of_app(self.device.now_ms(), level, text);
    }

    pub fn take_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    /// The connection to have, under a number that changes when the one there is to be dropped.
    pub fn wish(&self) -> (u32, Option<Dial<'_>>) {
        let (epoch, target) = self.link.wish();
        let enrolling = |credential| Dial { address: self.provisioning.enroll_address, credential };
        let dial = target.and_then(|target| match (target, self.identity.as_ref()) {
            (Target::Enroll(Voucher::Birth), Some(identity)) => {
                Some(enrolling(Credential::Birth(identity.birth())))
            }
            (Target::Enroll(_), _) => Some(enrolling(Credential::Claim(self.provisioning.claim))),
            (Target::Serve, Some(identity)) => {
                Some(Dial { address: identity.broker(), credential: Credential::Chain(identity.chain()) })
            }
            (Target::Serve, None) => None,
        });
        (epoch, dial)
    }

    /// The stream wished for under this number is there.
    pub fn opened(&mut self, epoch: u32) {
        let now_ms = self.device.now_ms();
        let opened = match self.link.opened(now_ms, epoch) {
            None => return,
            Some(Target::Serve) => self.open_session(now_ms),
            Some(Target::Enroll(_)) => self.open_enrolment(now_ms),
        };
        if let Err(end) = opened {
            self.end(end);
        }
    }

    /// The stream of this number is gone, or could not be had.
    pub fn ended(&mut self, epoch: u32, end: End) {
        if self.link.wish() == (epoch, self.link.wish().1) && self.link.wish().1.is_some() {
            self.end(end);
        }
    }

    /// Where received bytes go; then `received`.
    pub fn spare(&mut self) -> &mut [u8] {
        self.mqtt.spare()
    }

    /// The first `count` bytes of `spare` were received: they are understood now.
    pub fn received(&mut self, count: usize) {
        self.mqtt.received(count);
        self.read();
    }

    /// Bytes to send; then `sent`.
    pub fn pending(&self) -> &[u8] {
        self.mqtt.pending()
    }

    pub fn sent(&mut self, count: usize) {
        self.mqtt.sent(self.device.now_ms(), count);
    }

    /// Does what is due and says when it wants to be called again at the latest.
    pub fn poll(&mut self) -> Next {
        let mut device = self.device.poll();
        // Whether or not there is a connection: the application does not wait for one.
        device = device.min(self.stub.poll(&mut self.device, &mut self.logs));
        let now_ms = self.device.now_ms();
        self.tell();
        if !self.device.may_connect() {
            return device;
        }
        // What could not be read for want of room to answer may be readable now.
        self.read();
        if let Err(fault) = self.mqtt.poll(now_ms) {
            self.end(End::Fault(fault));
        }
        let needs = self.needs(now_ms);
        let wanted = self.demand.look(now_ms, &needs);
        if self.mqtt.has_left(now_ms) {
            self.left(now_ms);
        } else if !wanted {
            self.leave(now_ms);
        }
        let view = self.view();
        if self.link.poll(now_ms, view) {
            self.end(End::Unreachable);
        }
        match self.link.open() {
            Some(Target::Serve) if self.mqtt.is_online() => self.serve(now_ms, view),
            Some(Target::Enroll(voucher)) if self.mqtt.is_online() => self.ask(now_ms, voucher),
            _ => {}
        }
        device.min(self.deadline(now_ms))
    }

    fn deadline(&self, now_ms: u64) -> Next {
        let mut at_ms = self.link.deadline_ms().min(self.mqtt.deadline_ms()).min(self.demand.deadline_ms());
        if self.mqtt.is_online() {
            at_ms = at_ms.min(match self.link.open() {
                Some(Target::Serve) => {
                    let logs_ms = self.logs.deadline_ms();
                    self.session.deadline_ms(now_ms).min(logs_ms).min(self.stub.deadline_ms())
                }
                Some(Target::Enroll(_)) => self.enroll.deadline_ms(),
                None => u64::MAX,
            });
        }
        // A full send buffer is no reason to spin: sending is what wakes us.
        if at_ms == u64::MAX { Next::Never } else { Next::At(at_ms.max(now_ms + 1)) }
    }

    fn view(&self) -> View {
        let bound_s = self.device.time_bound_s();
        match self.identity.as_ref() {
            None => View::default(),
            Some(identity) => View {
                unwanted: !self.demand.is_wanted(),
                enrolled: true,
                has_birth: !identity.birth().is_empty(),
                renewal_due: identity.is_due_for_renewal(bound_s) || self.session.renewal_asked(),
            },
        }
    }

    /// What speaks for a connection. An application that waits for its next start needs none that is not needed without it.
    fn needs(&self, now_ms: u64) -> Needs {
        let Self { device, mqtt, session, logs, link, stub, .. } = self;
        let online = mqtt.is_online() && link.open() == Some(Target::Serve);
        Needs {
            policy: device.connectivity(),
            app: device.running.as_ref().map(|_| device.demand),
            time_known: device.time_heard,
            owes: !device.results().is_empty() || !device.crashes().held().is_empty(),
            updating: device.own.is_on_trial()
                || matches!(
                    device.state,
                    State::Fetching | State::Verified | State::Ready | State::Installing | State::Trial
                ),
            debugging: stub.is_open(),
            online,
            settled: online && session.is_settled(now_ms),
            busy: !logs.is_empty() || !device.telemetry.is_empty() || device.crash_memory().held().is_some(),
        }
    }

    /// Ends what there is of a connection: one that is up with a good-bye, whose bytes go first.
    fn leave(&mut self, now_ms: u64) {
        if self.mqtt.is_leaving() || self.link.wish().1.is_none() {
            return;
        }
        if !self.mqtt.is_online() {
            self.mqtt.close();
            let random = self.jitter();
            self.link.leave(now_ms, random);
        } else {
            // Without room for it the next turn tries again.
            self.mqtt.leave(now_ms);
        }
    }

    /// Good-bye was said.
    fn left(&mut self, now_ms: u64) {
        self.happen(Happening::Disconnected(End::NotNeeded));
        self.logs.note(now_ms, LogLevel::Info, format_args!("disconnected: {:?}", End::NotNeeded));
        self.mqtt.close();
        let random = self.jitter();
        self.link.leave(now_ms, random);
    }

    /// What spreads the waits of a fleet. Without randomness there is none, which is better than no connection.
    fn jitter(&mut self) -> u32 {
        let mut random = [0; 4];
        let _ = self.device.ports.entropy.fill(&mut random);
        u32::from_le_bytes(random)
    }

    fn serve(&mut self, now_ms: u64, view: View) {
        if view.renewal_due && self.link.may_renew(now_ms) {
            self.logs.note(now_ms, LogLevel::Info, format_args!("certificate is due for renewal"));
            self.mqtt.close();
            self.link.renew(now_ms);
            return;
        }
        if let Some(id) = self.device.device_id() {
            let Self { session, device, mqtt, logs, stub, .. } = self;
            // What had no room stays due.
            let _ = session.say(id, device, mqtt, logs, stub);
        }
    }

    fn ask(&mut self, now_ms: u64, voucher: Voucher) {
        if !self.enroll.is_due(now_ms) {
            return;
        }
        if self.enroll.is_exhausted() {
            self.end(End::Fault(Fault::Silent));
            return;
        }
        let certificate = match (voucher, self.identity.as_ref()) {
            (Voucher::Birth, Some(identity)) => identity.birth(),
            _ => self.provisioning.claim,
        };
        let applicant = Applicant {
            hardware_id: &self.device.facts.hardware_id,
            board: &self.device.facts.board,
            voucher,
            certificate,
        };
        if self.enroll.ask(now_ms, &mut self.mqtt, &mut self.device.ports.keys, &applicant).is_err() {
            self.logs.note(now_ms, LogLevel::Error, format_args!("identity key cannot be used"));
            self.end(End::Done);
        }
    }

    fn open_session(&mut self, now_ms: u64) -> Result<(), End> {
        let id = self.device.device_id().ok_or(End::Done)?;
        let connection = self.session.begin();
        let filter = filter(&id.text());
        let mut buffer = [0; WILL_BYTES_MAX];
        let payload = will(self.device.boot_id(), connection, &mut buffer);
        let topic = Topic::up(id, wire::Channel::Hello).text();
        let opening = Opening { client_id: &id.text(), filter: &filter, will: Some((&topic, payload)) };
        self.mqtt.open(now_ms, opening).map_err(End::Fault)
    }

    fn open_enrolment(&mut self, now_ms: u64) -> Result<(), End> {
        let mut nonce = [0; 16];
        self.device.ports.entropy.fill(&mut nonce).map_err(|_| End::Done)?;
        self.enroll = Enroll::new(ClientNonce::new(nonce));
        let client = self.enroll.client();
        let topic = Topic::enroll(client, Direction::Down).text();
        let opening = Opening { client_id: &client.text(), filter: &topic, will: None };
        self.mqtt.open(now_ms, opening).map_err(End::Fault)
    }

    /// Understands all packets that are there.
    fn read(&mut self) {
        loop {
            let now_ms = self.device.now_ms();
            let Self { mqtt, session, device, logs, link, enroll, stub, .. } = self;
            match mqtt.next(now_ms) {
                Ok(None) => return,
                Err(fault) => return self.end(End::Fault(fault)),
                Ok(Some(Incoming::Online)) => self.online(now_ms),
                Ok(Some(Incoming::PublishRefused(reason))) => {
                    logs.note(now_ms, LogLevel::Warn, format_args!("publish refused: 0x{reason:02x}"));
                }
                Ok(Some(Incoming::Publish { topic, payload })) => match link.open() {
                    Some(Target::Serve) => session.hear(topic, payload, device, logs, stub),
                    Some(Target::Enroll(voucher)) => {
                        if let Some(answer) = enroll.answer(topic, payload) {
                            let judged = judge(answer, voucher, self.identity, device, logs);
                            return self.enrolment_ended(now_ms, voucher, judged);
                        }
                    }
                    None => {}
                },
            }
        }
    }

    fn online(&mut self, now_ms: u64) {
        if self.link.open() == Some(Target::Serve) {
            self.session.online();
            self.logs.restart();
            self.device.telemetry.restart();
            self.stub.restart();
            self.happen(Happening::Connected);
            self.logs.note(now_ms, LogLevel::Info, format_args!("connected"));
        }
    }

    fn enrolment_ended(&mut self, now_ms: u64, voucher: Voucher, judged: Result<(), Declined>) {
        self.mqtt.close();
        match judged {
            Ok(()) => {
                if let Some(device) = self.identity.as_ref().map(Identity::device) {
                    self.happen(Happening::Enrolled(device));
                }
                self.logs.note(now_ms, LogLevel::Info, format_args!("enrolled by {voucher:?}"));
                self.link.enrolled(now_ms);
            }
            Err(Declined::Wait { retry_after_s }) => {
                self.happen(Happening::EnrollPending { retry_after_s });
                self.link.postponed(now_ms, u64::from(retry_after_s) * 1000);
            }
            Err(Declined::Refused { reason, retry_after_s }) => {
                self.happen(Happening::EnrollRefused(reason));
                self.logs.note(now_ms, LogLevel::Warn, format_args!("enrolment refused: {reason:?}"));
                self.link.postponed(now_ms, u64::from(retry_after_s) * 1000);
            }
            Err(Declined::Wrong) => self.end(End::Done),
        }
    }

    fn end(&mut self, end: End) {
        let now_ms = self.device.now_ms();
        if self.mqtt.is_leaving() {
            return self.left(now_ms);
        }
        if self.mqtt.is_online() && self.link.open() == Some(Target::Serve) {
            self.happen(Happening::Disconnected(end));
            self.logs.note(now_ms, LogLevel::Info, format_args!("disconnected: {end:?}"));
        } else {
            self.logs.note(now_ms, LogLevel::Debug, format_args!("no connection: {end:?}"));
        }
        self.mqtt.close();
        let random = self.jitter();
        self.link.ended(now_ms, end, random);
    }

    /// Notes what the device noticed, whether or not anyone is connected.
    fn tell(&mut self) {
        let now_ms = self.device.now_ms();
        while let Some(notice) = self.device.take_notice() {
            if is_of_app(notice) {
                self.logs.note_of_app(now_ms, level(notice), format_args!("{notice:?}"));
            } else {
                self.logs.note(now_ms, level(notice), format_args!("{notice:?}"));
            }
            self.happen(Happening::Device(notice));
        }
        let result = self.device.results().last().copied();
        let name = result.map(|result| (result.boot, result.sequence));
        if name != self.told_result {
            self.told_result = name;
            if let Some(result) = result {
                self.logs.note(
                    now_ms,
                    LogLevel::Info,
                    format_args!("result: {:?} {:?}", result.outcome, result.reason),
                );
                self.happen(Happening::Result(result.outcome, result.reason));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        if self.happenings.is_full() {
            self.happenings.pop_front();
        }
        // Cannot fail: room was made.
        let _ = self.happenings.push_back(happening);
    }
}

/// An application can bring it about as often as it likes.
fn is_of_app(notice: Notice) -> bool {
    matches!(
        notice,
        Notice::AppStarted { .. }
            | Notice::AppCrashed
            | Notice::AppHung
            | Notice::AppRestarts
            | Notice::CrashReport { .. }
    )
}

fn level(notice: Notice) -> LogLevel {
    match notice {
        Notice::StoreFailed(_) | Notice::StoreUnrepaired | Notice::Commission(Stage::Failed(_)) => {
            LogLevel::Error
        }
        Notice::StoreRepaired
        | Notice::AppCrashed
        | Notice::AppHung
        | Notice::CrashReport { .. }
        | Notice::NoApp
        | Notice::FellBack(_)
        | Notice::MicrovisorReverted(_)
        | Notice::FloorMended(_)
        | Notice::UpdateRefused(_) => LogLevel::Warn,
        _ => LogLevel::Info,
    }
}

/// All that is said to this device.
fn filter(id: &str) -> heapless::String<FILTER_BYTES_MAX> {
    let mut filter = heapless::String::new();
    // Cannot fail: an id has 34 bytes.
    let _ = core::fmt::write(&mut filter, format_args!("{}{id}/dn/#", wire::topic::ROOT));
    filter
}
