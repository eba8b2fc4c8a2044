//! What a transcript says, an event a line: what was asked of the device, what it answered, which gdb came and left.
//!
//! Pure: records in, lines out. Whoever knows an owner's public key can write a transcript, and a device can answer anything: nothing here believes
//! that records fit each other, and what is kept of them is bounded.

use std::collections::VecDeque;

use proto::debug::v1::transcript_record::Event;
use proto::debug::v1::{Role, TranscriptBegin, TranscriptRecord};
use proto::device::v1::{
    DebugAnswer, DebugCall, DebugData, DebugGo, DebugProblem, DebugState, DebugStop, DebugStopReason,
    DebugTarget,
};
use serde_json::{Map, Value, json};

use crate::crash::Place;
use crate::debug::machine::{PC, REGISTERS, SP, Stop, registers, words};
use crate::debug::monitor;
use crate::debug::packets::Packets;

/// Calls that wait for their answer; more are never on their way.
const PENDING_MAX: usize = 64;
/// The registers, in the order of `DebugStop.registers`.
const NAMES: [&str; REGISTERS] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp", "lr", "pc",
    "xpsr", "msp", "psp", "special",
];

/// What is shown besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// The bytes of memory and the registers.
    pub(crate) data: bool,
    /// gdb's protocol.
    pub(crate) packets: bool,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) at_us: u64,
    pub(crate) event: &'static str,
    /// For people. It may hold what a device said.
    pub(crate) text: String,
    /// For programs.
    pub(crate) fields: Map<String, Value>,
}

/// Where in the sources an address is.
pub(crate) type Lookup<'a> = &'a mut dyn FnMut(u32) -> Vec<Place>;

/// A call that waits for its answer.
#[derive(Debug)]
struct Pending {
    number: u32,
    reads: Vec<(u32, u32)>,
    /// Answered when the application stands.
    is_deferred: bool,
}

/// What the session was, so far.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    wishes: Wishes,
    at_us: u64,
    pending: VecDeque<Pending>,
    /// What comes with a stop, and with the next one if it goes on by itself.
    deferred: Vec<(u32, u32)>,
    from_gdb: Packets,
    to_gdb: Packets,
    starts: Option<u32>,
    stop: Option<(u32, u32)>,
    is_absent: bool,
    gdbs: u64,
    calls: u64,
    stops: u64,
    bytes_read: u64,
    bytes_written: u64,
}

impl Timeline {
    pub(crate) fn new(wishes: Wishes) -> Timeline {
        Timeline { wishes, ..Timeline::default() }
    }

    /// The next record's events.
    pub(crate) fn take(&mut self, record: &TranscriptRecord, places: Lookup<'_>) -> Vec<Line> {
        self.at_us = record.at_us;
        let mut told = Vec::new();
        match &record.event {
            Some(Event::Begin(begin)) => told.push(beginning(begin)),
            Some(Event::Call(call)) => self.call(call, places, &mut told),
            Some(Event::Answer(answer)) => self.answer(answer, places, &mut told),
            Some(Event::Program(program)) => {
                let is = if program.is_running { "what the device runs" } else { "not what the device runs" };
                told.push(line(
                    "program",
                    format!("{}, {is}", program.digest),
                    json!({
                        "digest": program.digest, "is_running": program.is_running,
                    }),
                ));
            }
            Some(Event::GdbCame(_)) => {
                self.gdbs += 1;
                (self.from_gdb, self.to_gdb) = (Packets::default(), Packets::default());
                told.push(line("gdb_came", format!("gdb {}", self.gdbs), json!({ "gdb": self.gdbs })));
            }
            Some(Event::GdbLeft(left)) => {
                let text = format!("gdb {}: {}", self.gdbs, left.how);
                told.push(line("gdb_left", text, json!({ "gdb": self.gdbs, "how": left.how })));
            }
            Some(Event::GdbSaid(bytes)) if self.wishes.packets => {
                told.extend(self.from_gdb.take(bytes).into_iter().map(|packet| packed("gdb_said", packet)));
            }
            Some(Event::GdbTold(bytes)) if self.wishes.packets => {
                told.extend(self.to_gdb.take(bytes).into_iter().map(|packet| packed("gdb_told", packet)));
            }
            Some(Event::GdbSaid(_) | Event::GdbTold(_)) => {}
            Some(Event::End(end)) => {
                let text = if end.reason.is_empty() { "as the developer wished" } else { &end.reason };
                told.push(line("end", text.to_owned(), json!({ "reason": end.reason })));
            }
            None => told.push(line("unknown", "of a newer holdfast: not shown".into(), json!({}))),
        }
        told.iter_mut().for_each(|line| line.at_us = record.at_us);
        told
    }

    /// What it cost, up to here.
    pub(crate) fn cost(&self) -> Line {
        let text = format!(
            "{} calls, {} stops; {} B of memory read, {} B written; {} gdb; {}",
            self.calls,
            self.stops,
            self.bytes_read,
            self.bytes_written,
            self.gdbs,
            seconds(self.at_us)
        );
        let fields = json!({
            "calls": self.calls, "stops": self.stops, "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written, "gdbs": self.gdbs,
        });
        Line { at_us: self.at_us, ..line("cost", text, fields) }
    }

    fn call(&mut self, call: &DebugCall, places: Lookup<'_>, told: &mut Vec<Line>) {
        self.calls += 1;
        for write in &call.writes {
            self.bytes_written += write.data.len() as u64;
            told.push(self.memory("write", write.address, write.data.len() as u64, Some(&write.data), ""));
        }
        for register in &call.registers {
            let name = name(register.number);
            told.push(line(
                "set",
                format!("{name} = {:#010x}", register.value),
                json!({ "register": name, "value": register.value }),
            ));
        }
        if call.plant {
            let (planted, hardware) = (&call.breakpoints, &call.hardware_breakpoints);
            let mut at: Vec<String> = planted.iter().map(|at| placed(*at, &places(*at))).collect();
            at.extend(hardware.iter().map(|at| format!("{} of the hardware", placed(*at, &places(*at)))));
            let text = if at.is_empty() { "none".to_owned() } else { at.join(", ") };
            told.push(line("breakpoints", text, json!({ "addresses": planted, "hardware": hardware })));
        }
        let is_deferred = call.go() != DebugGo::Unspecified;
        if is_deferred && call.go() != DebugGo::Halt {
            // Its wishes take the place of those of one before.
            self.pending.retain(|call| !call.is_deferred);
            self.deferred.clear();
        }
        told.extend(going(call));
        let reads = call.reads.iter().map(|read| (read.address, read.length)).collect();
        self.pending.push_back(Pending { number: call.number, reads, is_deferred });
        if self.pending.len() > PENDING_MAX {
            self.pending.pop_front();
        }
    }

    fn answer(&mut self, answer: &DebugAnswer, places: Lookup<'_>, told: &mut Vec<Line>) {
        if self.starts.replace(answer.starts).is_some_and(|starts| starts != answer.starts) {
            told.push(line(
                "started",
                "the application was started anew".into(),
                json!({ "starts": answer.starts }),
            ));
        }
        if let Some(target) = &answer.target {
            told.push(running(target));
        }
        if answer.problem() != DebugProblem::Unspecified {
            let why = words(answer.problem(), answer.problem_at);
            let problem = answer.problem().as_str_name();
            told.push(line(
                "refused",
                why,
                json!({ "problem": problem, "at": answer.problem_at, "call": answer.call }),
            ));
        }
        let is_absent = answer.state() == DebugState::Absent;
        if is_absent && !std::mem::replace(&mut self.is_absent, is_absent) {
            told.push(line("absent", "there is no application now".into(), json!({})));
        }
        self.is_absent = is_absent;
        let stop = answer.stop.as_ref();
        if let Some(stop) = stop
            && self.stop.replace((answer.starts, stop.number)) != Some((answer.starts, stop.number))
        {
            self.stops += 1;
            told.push(self.stopped(stop, places));
            if !stop.stack.is_empty() {
                let at = if stop.stack_at == 0 {
                    registers(&stop.registers).map_or(0, |all| all[SP])
                } else {
                    stop.stack_at
                };
                self.bytes_read += stop.stack.len() as u64;
                told.push(self.memory(
                    "read",
                    at,
                    stop.stack.len() as u64,
                    Some(&stop.stack),
                    " of the stack",
                ));
            }
        }
        self.data(answer, told);
    }

    /// What was read, where that can be told.
    fn data(&mut self, answer: &DebugAnswer, told: &mut Vec<Line>) {
        let asked = self.asked(answer);
        let is_known = asked.len() == answer.data.len();
        for (n, DebugData { data }) in answer.data.iter().enumerate() {
            self.bytes_read += data.len() as u64;
            told.push(match asked.get(n).filter(|_| is_known) {
                Some((at, length)) if data.is_empty() => {
                    let text = format!("{at:#010x} {length} B: it may not be read");
                    line("unreadable", text, json!({ "address": at, "length": length }))
                }
                Some((at, _)) => self.memory("read", *at, data.len() as u64, Some(data), ""),
                None => line(
                    "read",
                    format!("{} B that were not asked for", data.len()),
                    json!({
                        "length": data.len(),
                    }),
                ),
            });
        }
    }

    /// What this answers: the reads of its own call, or of all that waited for the stop.
    fn asked(&mut self, answer: &DebugAnswer) -> Vec<(u32, u32)> {
        let own = self.pending.iter().position(|call| call.number == answer.call && !call.is_deferred);
        if let Some(own) = own {
            return self.pending.remove(own).map(|call| call.reads).unwrap_or_default();
        }
        if answer.stop.is_none() {
            return Vec::new();
        }
        let is_answered = |call: &Pending| call.is_deferred && call.number <= answer.call;
        if self.pending.iter().any(is_answered) {
            self.deferred.clear();
        }
        while let Some(at) = self.pending.iter().position(is_answered) {
            self.deferred.extend(self.pending.remove(at).map(|call| call.reads).unwrap_or_default());
        }
        self.deferred.clone()
    }

    fn stopped(&self, stop: &DebugStop, places: Lookup<'_>) -> Line {
        let registers = registers(&stop.registers);
        let pc = registers.map(|all| all[PC]);
        let reason = DebugStopReason::try_from(stop.reason).unwrap_or(DebugStopReason::Unspecified);
        let said = Stop { reason, registers, said: stop.clone() };
        let place = pc.map_or_else(Vec::new, places);
        let mut text = format!("{}{}", monitor::reason(&said), within(&place));
        let mut fields = json!({
            "reason": reason.as_str_name(), "pc": pc, "places": place, "uptime_us": stop.uptime_us,
        });
        if reason == DebugStopReason::Fault {
            let fault = monitor::fault(&said);
            let fault: Vec<&str> = fault.lines().skip(1).map(str::trim).collect();
            text.push_str(&format!("; {}", fault.join("; ")));
            fields["fault"] = json!(fault);
        }
        if let Some(registers) = registers.filter(|_| self.wishes.data) {
            let shown = NAMES.iter().zip(registers).map(|(name, value)| format!("{name} {value:#x}"));
            text.push_str(&format!("; {}", shown.collect::<Vec<_>>().join(" ")));
            let named = NAMES.iter().zip(registers).map(|(name, value)| ((*name).to_owned(), json!(value)));
            fields["registers"] = Value::Object(named.collect());
        }
        line("stop", text, fields)
    }

    fn memory(&self, event: &'static str, at: u32, length: u64, data: Option<&[u8]>, what: &str) -> Line {
        let mut text = format!("{at:#010x} {length} B{what}");
        let mut fields = json!({ "address": at, "length": length });
        if let Some(data) = data.filter(|_| self.wishes.data) {
            text.push_str(&format!(": {}", hex::encode(data)));
            fields["data"] = hex::encode(data).into();
        }
        line(event, text, fields)
    }
}

fn line(event: &'static str, text: String, fields: Value) -> Line {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Line { at_us: 0, event, text, fields }
}

fn packed(event: &'static str, packet: String) -> Line {
    line(event, packet.clone(), json!({ "packet": packet }))
}

/// Seconds to the microsecond.
pub(crate) fn seconds(us: u64) -> String {
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

fn beginning(begin: &TranscriptBegin) -> Line {
    let role = match begin.role() {
        Role::Watcher => "watcher",
        _ => "writer",
    };
    let began_at = crate::output::time(begin.began_at.as_ref());
    let text = format!(
        "{began_at}: {} debugs {} as {role}, in {}, by holdfast {}",
        begin.who, begin.device, begin.session, begin.version
    );
    line(
        "begin",
        text,
        json!({
            "began_at": began_at, "device": begin.device, "session": begin.session, "who": begin.who, "role": role,
            "version": begin.version,
        }),
    )
}

fn running(target: &DebugTarget) -> Line {
    let manifest = hex::encode(&target.manifest_digest);
    let may = if target.read_only { "; read only" } else { "" };
    let text = format!(
        "application {} (manifest {manifest}) on {}, microvisor {}{may}",
        target.version, target.board, target.microvisor
    );
    line(
        "target",
        text,
        json!({
            "version": target.version, "manifest_digest": manifest, "board": target.board,
            "microvisor": target.microvisor, "read_only": target.read_only,
        }),
    )
}

fn going(call: &DebugCall) -> Option<Line> {
    let (event, mut text) = match call.go() {
        DebugGo::Unspecified => return None,
        DebugGo::Halt => ("halt", String::new()),
        DebugGo::Continue => ("continue", String::new()),
        DebugGo::Step => ("step", "one instruction".to_owned()),
        DebugGo::Range => ("step", format!("out of {}", ranges(call))),
        DebugGo::Restart => ("restart", "anew, before its first instruction".to_owned()),
    };
    let mut fields = json!({ "call": call.number });
    if call.go() == DebugGo::Range {
        fields["from"] = call.range_from.into();
        fields["to"] = call.range_to.into();
        let besides = call.ranges.iter().map(|range| json!({ "from": range.from, "to": range.to }));
        fields["besides"] = besides.collect();
    }
    if call.then_at != 0 {
        let sp = call.then_sp;
        text = format!("to {:#010x} with sp {sp:#010x}, then out of {}", call.then_at, ranges(call));
        fields["then_at"] = call.then_at.into();
        fields["then_sp"] = sp.into();
    }
    Some(line(event, text, fields))
}

fn ranges(call: &DebugCall) -> String {
    let besides = match call.ranges.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("{:#010x} to {:#010x}{besides}", call.range_from, call.range_to)
}

fn name(register: u32) -> String {
    let name = usize::try_from(register).ok().and_then(|number| NAMES.get(number));
    name.map_or_else(|| format!("register {register}"), |name| (*name).to_owned())
}

fn placed(at: u32, places: &[Place]) -> String {
    format!("{at:#010x}{}", within(places))
}

/// The function and line of an address, as far as they are known.
fn within(places: &[Place]) -> String {
    let Some(place) = places.first().filter(|place| !place.function.is_empty()) else { return String::new() };
    let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
    let file = place.file.as_ref().map(|file| format!(" ({file}{line})")).unwrap_or_default();
    format!(" in {}{file}", place.function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::debug::v1::{TranscriptEnd, TranscriptGdbCame};
    use proto::device::v1::{DebugRange, DebugRead, DebugRegister, DebugWrite};

    const ALL: Wishes = Wishes { data: true, packets: true };

    fn told(timeline: &mut Timeline, event: Event) -> Vec<String> {
        let record = TranscriptRecord { at_us: 1_500_000, event: Some(event) };
        let main =
            Place { function: "main".into(), file: Some("main.c".into()), line: Some(7), inlined: false };
        let lines =
            timeline.take(&record, &mut |at| if at == 0x100 { vec![main.clone()] } else { Vec::new() });
        lines.iter().map(|line| format!("{} {}", line.event, line.text)).collect()
    }

    fn reading(number: u32, go: DebugGo, reads: &[(u32, u32)]) -> Event {
        let reads = reads.iter().map(|&(address, length)| DebugRead { address, length }).collect();
        Event::Call(DebugCall { number, go: go.into(), reads, ..DebugCall::default() })
    }

    fn answer(call: u32, data: &[&[u8]], stop: Option<DebugStop>) -> Event {
        let state = if stop.is_some() { DebugState::Halted } else { DebugState::Running };
        let data = data.iter().map(|data| DebugData { data: data.to_vec() }).collect();
        Event::Answer(DebugAnswer {
            call,
            starts: 1,
            state: state.into(),
            data,
            stop,
            ..DebugAnswer::default()
        })
    }

    fn stop(number: u32, pc: u32) -> DebugStop {
        let mut registers = vec![0; 4 * REGISTERS];
        registers[4 * PC..4 * PC + 4].copy_from_slice(&pc.to_le_bytes());
        DebugStop { number, registers, reason: DebugStopReason::Breakpoint.into(), ..DebugStop::default() }
    }

    #[test]
    fn a_call_is_told_action_by_action_in_the_order_in_which_they_are_done() {
        let mut timeline = Timeline::new(Wishes::default());
        let call = DebugCall {
            number: 4,
            writes: vec![DebugWrite { address: 0x2000, data: vec![0xab; 3] }],
            registers: vec![DebugRegister { number: 0, value: 5 }, DebugRegister { number: 77, value: 6 }],
            plant: true,
            breakpoints: vec![0x100, 0x102],
            hardware_breakpoints: vec![0x104],
            go: DebugGo::Range.into(),
            range_from: 0x10,
            range_to: 0x20,
            ranges: vec![DebugRange { from: 0x30, to: 0x40 }],
            ..DebugCall::default()
        };
        assert_eq!(
            told(&mut timeline, Event::Call(call)),
            [
                "write 0x00002000 3 B",
                "set r0 = 0x00000005",
                "set register 77 = 0x00000006",
                "breakpoints 0x00000100 in main (main.c:7), 0x00000102, 0x00000104 of the hardware",
                "step out of 0x00000010 to 0x00000020 and 1 more",
            ]
        );
        assert!(timeline.cost().text.contains("1 calls, 0 stops; 0 B of memory read, 3 B written"));
    }

    #[test]
    fn memory_is_told_with_its_address_when_it_comes_and_its_bytes_only_when_wished() {
        for (wishes, expected) in
            [(Wishes::default(), "read 0x00002000 2 B"), (ALL, "read 0x00002000 2 B: 0102")]
        {
            let mut timeline = Timeline::new(wishes);
            assert!(
                told(&mut timeline, reading(1, DebugGo::Unspecified, &[(0x2000, 2), (0x3000, 4)])).is_empty()
            );
            let read = told(&mut timeline, answer(1, &[&[1, 2], &[]], None));
            assert_eq!(read, [expected, "unreadable 0x00003000 4 B: it may not be read"]);
        }
    }

    #[test]
    fn what_comes_with_a_stop_was_asked_for_by_the_calls_that_let_it_run() {
        let mut timeline = Timeline::new(Wishes::default());
        told(&mut timeline, reading(1, DebugGo::Continue, &[(0x1000, 1)]));
        // Another takes its place, and a halt comes behind that.
        told(&mut timeline, reading(2, DebugGo::Continue, &[(0x2000, 1)]));
        told(&mut timeline, reading(3, DebugGo::Halt, &[(0x3000, 1)]));
        let stopped = told(&mut timeline, answer(3, &[&[1], &[2]], Some(stop(1, 0x100))));
        assert_eq!(
            stopped,
            [
                "stop breakpoint at 0x00000100 in main (main.c:7)",
                "read 0x00002000 1 B",
                "read 0x00003000 1 B"
            ]
        );
        // The same stop in another answer is no other.
        told(&mut timeline, reading(4, DebugGo::Unspecified, &[(0x2000, 1)]));
        assert_eq!(told(&mut timeline, answer(4, &[&[1]], Some(stop(1, 0x100)))), ["read 0x00002000 1 B"]);
        assert!(timeline.cost().text.contains("4 calls, 1 stops; 3 B of memory read"));
    }

    #[test]
    fn what_was_not_asked_for_is_told_without_an_address() {
        let mut timeline = Timeline::new(ALL);
        assert_eq!(told(&mut timeline, answer(9, &[b"abc"], None)), ["read 3 B that were not asked for"]);
        told(&mut timeline, reading(10, DebugGo::Unspecified, &[(0x2000, 1)]));
        assert_eq!(told(&mut timeline, answer(10, &[b"a", b"b"], None)).len(), 2);
    }

    #[test]
    fn starts_ends_refusals_and_faults_are_told() {
        let mut timeline = Timeline::new(Wishes::default());
        told(&mut timeline, answer(1, &[], None));
        let anew = DebugAnswer {
            starts: 2,
            state: DebugState::Absent.into(),
            problem: DebugProblem::ReadOnly.into(),
            ..DebugAnswer::default()
        };
        assert_eq!(
            told(&mut timeline, Event::Answer(anew)),
            [
                "started the application was started anew",
                "refused this session only watches",
                "absent there is no application now"
            ]
        );
        let fault = DebugStop { reason: DebugStopReason::Fault.into(), cfsr: 1 << 16, ..stop(5, 0x100) };
        let fault = told(&mut timeline, answer(2, &[], Some(fault)));
        assert!(fault[1].contains("fault") && fault[1].contains("UNDEFINSTR"), "{fault:?}");
    }

    #[test]
    fn gdbs_are_counted_and_their_packets_shown_when_wished() {
        let mut timeline = Timeline::new(ALL);
        assert_eq!(told(&mut timeline, Event::GdbCame(TranscriptGdbCame {})), ["gdb_came gdb 1"]);
        assert!(told(&mut timeline, Event::GdbSaid(b"+$g#".to_vec())).is_empty());
        assert_eq!(told(&mut timeline, Event::GdbTold(b"$OK#9a".to_vec())), ["gdb_told $OK#9a"]);
        assert_eq!(told(&mut timeline, Event::GdbSaid(b"67".to_vec())), ["gdb_said $g#67"]);
        let mut timeline = Timeline::new(Wishes::default());
        assert!(told(&mut timeline, Event::GdbTold(b"$OK#9a".to_vec())).is_empty());
    }

    #[test]
    fn the_end_says_why() {
        let mut timeline = Timeline::new(ALL);
        let end = |reason: &str| Event::End(TranscriptEnd { reason: reason.into() });
        assert_eq!(told(&mut timeline, end("")), ["end as the developer wished"]);
        assert_eq!(told(&mut timeline, end("lost")), ["end lost"]);
    }

    proptest! {
        #[test]
        fn whatever_records_say_they_are_told(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..40)) {
            use prost::Message as _;
            let mut timeline = Timeline::new(ALL);
            for (n, bytes) in noise.iter().enumerate() {
                let event = match n % 3 {
                    0 => DebugCall::decode(bytes.as_slice()).ok().map(Event::Call),
                    1 => DebugAnswer::decode(bytes.as_slice()).ok().map(Event::Answer),
                    _ => None,
                };
                let whole = TranscriptRecord::decode(bytes.as_slice()).ok();
                for record in whole.into_iter().chain(event.map(|event| TranscriptRecord { at_us: 1, event: Some(event) })) {
                    timeline.take(&record, &mut |_| Vec::new());
                }
            }
            prop_assert!(timeline.pending.len() <= PENDING_MAX);
        }

        #[test]
        fn calls_that_nobody_answers_are_not_kept_for_ever(number in any::<u32>()) {
            let mut timeline = Timeline::new(ALL);
            for n in 0..2 * PENDING_MAX as u32 {
                told(&mut timeline, reading(number.wrapping_add(n), DebugGo::Halt, &[(0, 1)]));
            }
            prop_assert_eq!(timeline.pending.len(), PENDING_MAX);
            // Nor is what they wanted, however often it stands without an answer that fits.
            told(&mut timeline, answer(u32::MAX, &[], Some(stop(1, 0))));
            prop_assert!(timeline.deferred.len() <= PENDING_MAX);
        }
    }
}
