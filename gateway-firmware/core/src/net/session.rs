//! The device's conversation with the services, over one MQTT connection after the other.
//!
//! Out: what is due is computed from what the device is and what was said of it: hello, results, crash reports, progress,
//! what is due of a debug session, requests for layers, and telemetry and logs, in turn, only when nothing else waits. In: each channel's message goes to the one who decides about it.
//! A message that has no room stays due. Results, crash reports and logs are said again until the service answers.

mod hear;
mod message;

use heapless::Vec;
use wire::limits::{CRASH_MEMORY_CHUNK_BYTES_MAX, CRASH_MEMORY_PIECES_MAX, CRASH_REGISTERS};
use wire::msg::{
    self, CrashMemoryUp, CrashUp, EnumValue, HelloUp, LayerUp, LogUp, Message as _, Repeated, Slot,
    SlotStatus, TelemetryUp, UpdateUp,
};
use wire::{Channel, DeviceId, Nonce, Topic};

use self::message::{
    boot_id, boot_reason, crash_message, progress_state, result_message, slot, waits_for_an_answer,
};
use super::fetch::Fetch;
use super::mqtt::{Full, Mqtt, Qos};
use crate::crash::{Name, Report, Upload};
use crate::debug::Stub;
use crate::device::{BootId, Device, Progress, SLOTS_MAX, SlotReport};
use crate::logs::{LOG_BATCH_BYTES_MAX, Logs};
use crate::ports::{Board, Entropy as _};
use crate::update::State;

/// Protocol version of `HelloUp`.
pub const PROTOCOL: u32 = 0;
/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 16;
/// A hello goes out at least so often.
pub const HELLO_PERIOD_MS: u64 = 15 * 60 * 1000;
/// A change of what a hello says is told so long after the newest: changes in a row are told as one, and void fewer
/// nonces.
pub const HELLO_CHANGE_MS: u64 = 250;
/// After a directive that answers an older hello, the next one goes out so long after the newest.
pub const HELLO_MISSED_MS: u64 = 2_000;
/// Between two hellos of a microvisor that stays only if one is answered: who answers may have been away for a while.
pub const HELLO_TRIAL_MS: u64 = 10_000;
/// A result, or a progress that waits for an answer, is said again after: doubles from the first to the second.
pub const SAY_AGAIN_MIN_MS: u64 = 5_000;
pub const SAY_AGAIN_MAX_MS: u64 = 60_000;
/// A crash report that was not said yet goes out so long after the one before it: the service acknowledges at once, and an
/// application may crash as fast as it is started.
pub const CRASH_SAY_MS: u64 = 1_000;
/// A hello that brought no answer for so long brings none: a service with nothing to say says nothing.
pub const HELLO_ANSWER_MAX_MS: u64 = 30_000;
/// Progress within a state is said at most so often, and only after so much more of the whole.
pub const PROGRESS_STEP_MS: u64 = 500;
pub const PROGRESS_STEP_PERCENT: u64 = 10;

/// What a hello says of what the device holds.
#[derive(Debug, Clone)]
struct Face {
    slots: Vec<SlotReport, SLOTS_MAX>,
    keyset_version: u32,
    floor: Option<u64>,
    microvisor_floor: u64,
}

impl Face {
    /// Calls for a new hello. What is being staged is told as progress, and would only void the nonce that `go` is to name.
    fn is_news_after(&self, told: &Face) -> bool {
        fn held(slot: &SlotReport) -> Option<&SlotReport> {
            matches!(slot.status, SlotStatus::Trial | SlotStatus::Confirmed).then_some(slot)
        }
        (self.keyset_version, self.floor, self.microvisor_floor)
            != (told.keyset_version, told.floor, told.microvisor_floor)
            || self.slots.iter().map(held).ne(told.slots.iter().map(held))
    }
}

/// Something said until it is answered.
#[derive(Debug, Clone, Copy, Default)]
struct Again {
    at_ms: u64,
    attempts: u32,
}

impl Again {
    fn said(&mut self, now_ms: u64) {
        self.at_ms = now_ms + (SAY_AGAIN_MIN_MS << self.attempts.min(8)).min(SAY_AGAIN_MAX_MS);
        self.attempts += 1;
    }
}

/// What was said, and when to say it again.
#[derive(Debug, Default)]
pub struct Session {
    /// Connections since boot, from 1.
    connection: u32,
    /// Hellos since boot, from 1.
    hellos: u32,
    hello_due: bool,
    hello_at_ms: u64,
    hello_said_ms: u64,
    face: Option<Face>,
    /// Something happened that may have changed the face.
    face_stale: bool,
    /// Where the update stood when last looked at: every change may change a slot.
    seen: u32,
    progress: Option<Progress>,
    /// `Device::sequence` when progress was last looked at.
    progress_seen: u32,
    progress_at_ms: u64,
    progress_again: Again,
    /// Name of the newest result said, and when all are said again.
    result: Option<(BootId, u32)>,
    result_again: Again,
    /// Name of the newest crash report said, when that was, and when all are said again.
    crash: Option<Name>,
    crash_said_ms: Option<u64>,
    crash_again: Again,
    /// When a crash report is due.
    crash_at_ms: u64,
    /// Memory of a crash.
    memory: Upload,
    /// A hello of this connection was answered.
    answered: bool,
    /// The newest challenge of this boot, said back in every hello.
    challenge: Option<[u8; CHALLENGE_BYTES]>,
    /// The service wants the certificate renewed; it says so again after every hello.
    renewal_asked: bool,
    /// Telemetry had its turn: logs are next.
    logs_next: bool,
    fetch: Fetch,
}

impl Session {
    /// A new connection is being made; returns its number.
    pub fn begin(&mut self) -> u32 {
        self.connection = self.connection.saturating_add(1);
        self.connection
    }

    /// The connection is up: everything is said anew.
    pub fn online(&mut self) {
        self.hello_due = true;
        (self.progress, self.result) = (None, None);
        (self.progress_again, self.result_again) = (Again::default(), Again::default());
        (self.crash, self.crash_again, self.answered) = (None, Again::default(), false);
        self.renewal_asked = false;
        self.memory.restart();
        self.fetch.restart();
    }

    /// Says what is due, as far as there is room.
    pub fn say<B: Board>(
        &mut self,
        id: DeviceId,
        device: &mut Device<'_, B>,
        mqtt: &mut Mqtt<'_>,
        logs: &mut Logs<'_>,
        stub: &mut Stub<'_>,
    ) -> Result<(), Full> {
        let now_ms = device.now_ms();
        self.look(device);
        self.say_hello(now_ms, id, device, mqtt, logs)?;
        self.say_results(now_ms, id, device, mqtt)?;
        self.say_crashes(now_ms, id, device, mqtt)?;
        self.say_progress(now_ms, id, device, mqtt)?;
        say_debug(now_ms, id, device.boot_id(), mqtt, stub)?;
        if device.state == State::Fetching
            && let Some(request) = self.fetch.next(now_ms, || device.wanted())
        {
            let message = LayerUp {
                digest: &request.digest.0,
                offset: request.offset,
                length: request.length,
                ..Default::default()
            };
            mqtt.publish(&Topic::up(id, Channel::Layer).text(), Qos::AtMostOnce, &message)?;
            self.fetch.asked(now_ms, request);
        }
        if !mqtt.is_drained() {
            return Ok(());
        }
        // One message a turn, and a batch of logs in between: neither keeps the other waiting.
        if !core::mem::take(&mut self.logs_next) {
            self.logs_next = say_telemetry(id, device, mqtt)?;
        }
        if mqtt.is_drained() {
            say_logs(now_ms, id, mqtt, logs)?;
        }
        // What is largest and least urgent goes when neither has anything: both wait for answers now and then.
        if mqtt.is_drained() { self.say_memory(now_ms, id, device, mqtt) } else { Ok(()) }
    }

    /// The service had its say about this connection's hello, or time enough for it.
    pub fn is_settled(&self, now_ms: u64) -> bool {
        self.answered || !self.hello_due && now_ms >= self.hello_said_ms + HELLO_ANSWER_MAX_MS
    }

    /// The service wants the certificate renewed, however long it is good.
    pub fn renewal_asked(&self) -> bool {
        self.renewal_asked
    }

    /// When `say` has something to do without an event.
    pub fn deadline_ms(&self, now_ms: u64) -> u64 {
        let mut deadline_ms = self.hello_at_ms.min(self.fetch.deadline_ms(now_ms));
        deadline_ms = deadline_ms.min(self.memory.deadline_ms(now_ms));
        if !self.hello_due && !self.is_settled(now_ms) {
            deadline_ms = deadline_ms.min(self.hello_said_ms + HELLO_ANSWER_MAX_MS);
        }
        // What is due and had no room waits for room, and not for a time.
        if self.crash.is_some() && self.crash_at_ms > now_ms {
            deadline_ms = deadline_ms.min(self.crash_at_ms);
        }
        if self.result.is_some() {
            deadline_ms = deadline_ms.min(self.result_again.at_ms);
        }
        if let Some(progress) = &self.progress {
            let again_ms =
                if waits_for_an_answer(progress.state) { self.progress_again.at_ms } else { u64::MAX };
            deadline_ms = deadline_ms.min(again_ms);
        }
        deadline_ms
    }

    /// Cheap, since it is done at every turn: the update's own numbers tell whether anything moved.
    fn look<B: Board>(&mut self, device: &Device<'_, B>) {
        if self.seen != device.sequence {
            self.seen = device.sequence;
            self.face_stale = true;
            self.fetch.restart();
        }
    }

    fn say_hello<B: Board>(
        &mut self,
        now_ms: u64,
        id: DeviceId,
        device: &mut Device<'_, B>,
        mqtt: &mut Mqtt<'_>,
        logs: &Logs<'_>,
    ) -> Result<(), Full> {
        if self.face_stale || self.face.is_none() {
            let face = face(device);
            if self.face.as_ref().is_none_or(|told| face.is_news_after(told)) {
                self.hello_at_ms = self.hello_at_ms.min(self.hello_said_ms + HELLO_CHANGE_MS);
            }
            (self.face, self.face_stale) = (Some(face), false);
        }
        let Some(face) = self.face.as_ref().filter(|_| self.hello_due || now_ms >= self.hello_at_ms) else {
            return Ok(());
        };
        let mut nonce = [0; 16];
        if device.ports.entropy.fill(&mut nonce).is_err() {
            return Ok(());
        }
        let facts = &device.facts;
        let slots: Vec<Slot<'_>, SLOTS_MAX> = face.slots.iter().map(slot).collect();
        let counters = device.counters();
        let last = device.results().last().copied();
        let last_id = last.map(|result| result.deployment.text());
        let mut version = heapless::String::<32>::new();
        let _ = core::fmt::write(&mut version, format_args!("{}", facts.microvisor));
        let hello = HelloUp {
            protocol: PROTOCOL,
            nonce: &nonce,
            boot: Some(boot_id(device.boot_id())),
            connection: self.connection,
            sequence: self.hellos + 1,
            boot_reason: EnumValue::Known(boot_reason(device.boot_reason())),
            hardware_id: &facts.hardware_id,
            board: &facts.board,
            microvisor_version: &version,
            slots: Repeated::from_slice(&slots),
            app_floor: face.floor.unwrap_or_default(),
            keyset_version: face.keyset_version,
            time_bound_s: device.time_bound_s(),
            counters: Some(msg::Counters {
                uptime_ms: now_ms,
                app_crashes: counters.app_crashes,
                app_starts: counters.app_starts,
                log_dropped: u32::try_from(logs.current().dropped()).unwrap_or(u32::MAX),
                directives_refused: counters.directives_refused,
                blocks_refused: counters.blocks_refused,
                ..Default::default()
            }),
            last_result: last.as_ref().zip(last_id.as_ref()).map(|(result, id)| result_message(result, id)),
            microvisor_floor: face.microvisor_floor,
            challenge: self.challenge.as_ref().map_or(&[], |challenge| challenge),
            ..Default::default()
        };
        mqtt.publish(&Topic::up(id, Channel::Hello).text(), Qos::AtLeastOnce, &hello)?;
        self.hellos += 1;
        self.hello_due = false;
        self.hello_said_ms = now_ms;
        // Spread over an eighth of the period, so that a fleet that came up together does not stay together.
        let jitter_ms =
            u64::from(u16::from_le_bytes([nonce[0], nonce[1]])) * (HELLO_PERIOD_MS / 8) / (1 << 16);
        let until_ms = if device.needs_answer() { HELLO_TRIAL_MS } else { HELLO_PERIOD_MS - jitter_ms };
        self.hello_at_ms = now_ms + until_ms;
        device.hello_sent(Nonce(nonce));
        Ok(())
    }

    fn say_results<B: Board>(
        &mut self,
        now_ms: u64,
        id: DeviceId,
        device: &Device<'_, B>,
        mqtt: &mut Mqtt<'_>,
    ) -> Result<(), Full> {
        let Some(newest) = device.results().last() else {
            self.result = None;
            return Ok(());
        };
        let name = (newest.boot, newest.sequence);
        if self.result != Some(name) {
            self.result_again = Again::default();
        } else if now_ms < self.result_again.at_ms {
            return Ok(());
        }
        for result in device.results() {
            mqtt.publish(
                &Topic::up(id, Channel::Update).text(),
                Qos::AtLeastOnce,
                &result_message(result, &result.deployment.text()),
            )?;
        }
        self.result = Some(name);
        self.result_again.said(now_ms);
        Ok(())
    }

    fn say_crashes<B: Board>(
        &mut self,
        now_ms: u64,
        id: DeviceId,
        device: &Device<'_, B>,
        mqtt: &mut Mqtt<'_>,
    ) -> Result<(), Full> {
        let reports = device.crashes();
        let Some(newest) = reports.held().last() else {
            self.crash = None;
            return Ok(());
        };
        if self.crash != Some(newest.name) {
            let paced_ms = self.crash_said_ms.map_or(0, |said_ms| said_ms + CRASH_SAY_MS);
            (self.crash, self.crash_again, self.crash_at_ms) =
                (Some(newest.name), Again::default(), paced_ms);
        }
        if now_ms < self.crash_at_ms {
            return Ok(());
        }
        for report in reports.held() {
            let is_ours = report.name.boot == device.boot_id();
            let dropped = if is_ours { reports.dropped() } else { report.dropped };
            let memory = device.crash_memory();
            let missed = if is_ours { memory.missed() } else { 0 };
            say_crash(id, report, dropped, (memory.bytes_of(report.name), missed), mqtt)?;
        }
        self.crash_again.said(now_ms);
        (self.crash_said_ms, self.crash_at_ms) = (Some(now_ms), self.crash_again.at_ms);
        Ok(())
    }

    /// A chunk of the memory of a crash, or the question how much of it there is.
    #[inline(never)]
    fn say_memory<B: Board>(
        &mut self,
        now_ms: u64,
        id: DeviceId,
        device: &mut Device<'_, B>,
        mqtt: &mut Mqtt<'_>,
    ) -> Result<(), Full> {
        let Some(kept) = device.crash_memory().held() else {
            self.memory.restart();
            return Ok(());
        };
        let Some(chunk) = self.memory.due(now_ms, kept.name, kept.total()) else { return Ok(()) };
        let (name, total) = (kept.name, kept.total());
        let mut pieces = [0; 8 * CRASH_MEMORY_PIECES_MAX];
        let words = kept.pieces.iter().flat_map(|piece| [piece.at, piece.bytes]);
        let length = 8 * kept.pieces.len();
        for (bytes, word) in pieces.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut data = [0; CRASH_MEMORY_CHUNK_BYTES_MAX];
        let data = &mut data[..chunk.bytes as usize];
        if device.read_crash_memory(chunk.offset, data).is_err() {
            // Then it is held no more.
            return Ok(());
        }
        let memory = CrashMemoryUp {
            boot: Some(boot_id(name.boot)),
            sequence: name.sequence,
            total,
            pieces: &pieces[..length],
            offset: chunk.offset,
            data,
            ..Default::default()
        };
        let message = CrashUp { memory: Some(memory), ..Default::default() };
        mqtt.publish(&Topic::up(id, Channel::Crash).text(), Qos::AtMostOnce, &message)?;
        self.memory.said(now_ms, chunk);
        Ok(())
    }

    fn say_progress<B: Board>(
        &mut self,
        now_ms: u64,
        id: DeviceId,
        device: &Device<'_, B>,
        mqtt: &mut Mqtt<'_>,
    ) -> Result<(), Full> {
        let moved = self.progress.is_none() || self.progress_seen != device.sequence;
        let steps = device.state == State::Fetching && now_ms >= self.progress_at_ms + PROGRESS_STEP_MS;
        let again = waits_for_an_answer(device.state) && now_ms >= self.progress_again.at_ms;
        if device.state == State::Idle || !(moved || steps || again) {
            return Ok(());
        }
        let Some(progress) = device.progress() else { return Ok(()) };
        self.progress_seen = device.sequence;
        if !self.is_progress_due(now_ms, &progress) {
            self.progress_at_ms = now_ms;
            return Ok(());
        }
        // A final state is a result, and said as one.
        if let Some(state) = progress_state(progress.state) {
            let deployment = progress.deployment.text();
            let message = UpdateUp {
                boot: Some(boot_id(device.boot_id())),
                sequence: progress.sequence,
                deployment: &deployment,
                manifest_digest: &progress.manifest.0,
                state: EnumValue::Known(state),
                bytes_done: progress.bytes_done,
                bytes_total: progress.bytes_total,
                attempts: u32::from(progress.attempts),
                ..Default::default()
            };
            mqtt.publish(&Topic::up(id, Channel::Update).text(), Qos::AtLeastOnce, &message)?;
        }
        let before = self.progress.map(|before| (before.deployment, before.state));
        if before != Some((progress.deployment, progress.state)) {
            self.progress_again = Again::default();
        }
        self.progress = Some(progress);
        self.progress_at_ms = now_ms;
        self.progress_again.said(now_ms);
        Ok(())
    }

    fn is_progress_due(&self, now_ms: u64, progress: &Progress) -> bool {
        let Some(before) = &self.progress else { return true };
        if (before.deployment, before.state) != (progress.deployment, progress.state) {
            return true;
        }
        if waits_for_an_answer(progress.state) && now_ms >= self.progress_again.at_ms {
            return true;
        }
        let step = progress.bytes_total * PROGRESS_STEP_PERCENT / 100;
        now_ms >= self.progress_at_ms + PROGRESS_STEP_MS
            && progress.bytes_done != before.bytes_done
            && (progress.bytes_done >= before.bytes_done + step || progress.bytes_done < before.bytes_done)
    }
}

/// One crash report. Its registers are made here: few bytes, once in a while.
#[inline(never)]
fn say_crash(
    id: DeviceId,
    report: &Report,
    dropped: u32,
    (memory_bytes, memory_missed): (u32, u32),
    mqtt: &mut Mqtt<'_>,
) -> Result<(), Full> {
    let mut registers = [0; 4 * CRASH_REGISTERS];
    for (bytes, word) in registers.chunks_exact_mut(4).zip(report.crash.registers) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let known = report.crash.registers_known;
    let message = crash_message(report, dropped, if known == 0 { &[] } else { &registers });
    let message = CrashUp { memory_bytes, memory_missed, ..message };
    mqtt.publish(&Topic::up(id, Channel::Crash).text(), Qos::AtLeastOnce, &message)
}

/// The next telemetry message, if there is one; whether it was said.
#[inline(never)]
fn say_telemetry<B: Board>(
    id: DeviceId,
    device: &mut Device<'_, B>,
    mqtt: &mut Mqtt<'_>,
) -> Result<bool, Full> {
    device.telemetry.settle(|packet| mqtt.is_in_flight(packet));
    let Some(next) = device.telemetry.next() else { return Ok(false) };
    let message = TelemetryUp {
        boot: Some(boot_id(device.boot)),
        sequence: next.sequence,
        uptime_us: next.uptime_us,
        content_type: next.content_type,
        data: next.data,
        dropped: device.telemetry.dropped(),
        ..Default::default()
    };
    mqtt.publish(&Topic::up(id, Channel::Telemetry).text(), Qos::AtLeastOnce, &message)?;
    device.telemetry.sent(mqtt.packet_id());
    Ok(true)
}

/// What is due of a debug session: a person waits for it, and it is bounded by what that person asked for.
#[inline(never)]
fn say_debug(
    now_ms: u64,
    id: DeviceId,
    boot: BootId,
    mqtt: &mut Mqtt<'_>,
    stub: &mut Stub<'_>,
) -> Result<(), Full> {
    while let Some(said) = stub.due(now_ms) {
        let topic = Topic::up(id, Channel::Debug(said.relay())).text();
        let session = said.session().text();
        let message = said.message(&session, boot_id(boot), stub.frame(&said));
        mqtt.publish(&topic, Qos::AtMostOnce, &message)?;
        stub.said(now_ms, &said);
    }
    Ok(())
}

/// A batch of records, if one is due.
fn say_logs(now_ms: u64, id: DeviceId, mqtt: &mut Mqtt<'_>, logs: &mut Logs<'_>) -> Result<(), Full> {
    let Some(ring) = logs.due(now_ms) else { return Ok(()) };
    let Some(batch) = ring.batch(LOG_BATCH_BYTES_MAX) else { return Ok(()) };
    // Fields may come in any order and pieces: the records are in their wire form already.
    let head = LogUp {
        boot: Some(boot_id(ring.boot())),
        lost_up_to: batch.lost_up_to,
        dropped: ring.dropped(),
        ..Default::default()
    };
    let head_bytes = head.encoded_len();
    let length = head_bytes + batch.records.len();
    mqtt.publish_with(&Topic::up(id, Channel::Log).text(), Qos::AtMostOnce, length, |payload| {
        let (mut front, records) = payload.split_at_mut(head_bytes);
        records.copy_from_slice(batch.records);
        head.encode(&mut front).map_err(|_| Full)
    })?;
    let last = batch.last;
    logs.sent(now_ms, last);
    Ok(())
}

/// The will: an `up/hello` that names the connection and carries no nonce.
pub fn will(boot: BootId, connection: u32, buffer: &mut [u8; WILL_BYTES_MAX]) -> &[u8] {
    let hello = HelloUp { boot: Some(boot_id(boot)), connection, ..Default::default() };
    msg::encode(&hello, buffer).unwrap_or_default()
}

/// Bytes of a will, at most.
pub const WILL_BYTES_MAX: usize = 32;

fn face<B: Board>(device: &Device<'_, B>) -> Face {
    Face {
        slots: device.slots(),
        keyset_version: device.keyset_version(),
        floor: device.floor(),
        microvisor_floor: device.microvisor_floor(),
    }
}
