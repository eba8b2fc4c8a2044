//! gdb's packets, and gdb itself, against a device that is a model: what it answers, what that costs, and what lies and noise come to.

mod fuzz;
mod over;
mod quiet;
mod watching;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proto::device::v1::{DebugAnswer, DebugCall, DebugData, DebugGo, DebugProblem, DebugStop, DebugTarget};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::debug::exec;
use crate::debug::gdbs::{Server, listen, over_tcp};
use crate::debug::link::{self, Gone};
use crate::debug::machine::{Kind, Machine, NEWS_MAX};
use crate::debug::model::{BYTES, CODE, COUNTER, ELF, Model, RAM, Shared, TICKS, UART, lock, start};
use crate::debug::program::Program;
use crate::debug::quiet::Quiet;
use crate::debug::record::{self, Recorder};
use crate::debug::server::{Gdb, Left, serve};
use crate::debug::target::Debugged;
use crate::debug::timeline::{Line, Timeline, Wishes};
use crate::debug::transcript;

const PATIENCE: Duration = Duration::from_secs(30);
const TWICE: u32 = 0x0020_0024;
const ADD: u32 = 0x0020_0008;

#[derive(Clone, Copy, Default)]
struct Options {
    plain: bool,
    no_elf: bool,
    /// Between signs of life, and until it is over.
    quiet: Option<(Duration, Option<Duration>)>,
}

/// gdb's side of a session with a model.
struct Bench {
    runtime: Runtime,
    model: Shared,
    tell: Told,
    to: Option<mpsc::Sender<Vec<u8>>>,
    from: mpsc::Receiver<Vec<u8>>,
    heard: Vec<u8>,
    outcome: Option<oneshot::Receiver<Result<Left, Gone>>>,
}

/// And what the device says by itself.
type Told = mpsc::Sender<Result<DebugAnswer, Gone>>;

fn debugged(runtime: &Runtime, model: &Shared, options: Options) -> Result<(Debugged, Told), Gone> {
    recorded(runtime, model, options, None)
}

fn recorded(
    runtime: &Runtime,
    model: &Shared,
    options: Options,
    recorder: Option<&Recorder>,
) -> Result<(Debugged, Told), Gone> {
    let (mut near, far) = link::link();
    let tell = far.answers.clone();
    start(model, far);
    if let Some(recorder) = recorder {
        near = recorder.between(near).unwrap();
    }
    let mut machine = runtime.block_on(Machine::open(near, options.plain))?;
    if let Some((keep_alive, limit)) = options.quiet {
        machine.set_quiet(Quiet::new(keep_alive, limit, Instant::now()));
    }
    if !options.no_elf && !options.plain {
        machine.set_program(Program::of(ELF).unwrap());
    }
    Ok((Debugged { machine, facts: vec![("device", "dv1".into())], lost: None }, tell))
}

impl Bench {
    fn new(options: Options) -> Bench {
        Bench::with(Model::new(), options)
    }

    fn with(model: Model, options: Options) -> Bench {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let model = Shared::new(model.into());
        let (mut debugged, tell) = debugged(&runtime, &model, options).unwrap();
        let (to, server_from) = mpsc::channel(64);
        let (server_to, from) = mpsc::channel(64);
        let (left, outcome) = oneshot::channel();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || {
            let _ = left.send(serve(&mut debugged, Gdb { from: server_from, to: server_to }, &handle, false));
        });
        Bench { runtime, model, tell, to: Some(to), from, heard: Vec::new(), outcome: Some(outcome) }
    }

    fn send(&self, bytes: &[u8]) {
        let _ = self.to.as_ref().unwrap().blocking_send(bytes.to_vec());
    }

    /// The next packet; none: the server has closed.
    fn packet(&mut self) -> Option<String> {
        loop {
            let start = self.heard.iter().position(|byte| *byte == b'$');
            let end = self.heard.iter().position(|byte| *byte == b'#');
            if let (Some(start), Some(end)) = (start, end)
                && self.heard.len() >= end + 3
            {
                let body = self.heard[start + 1..end].to_vec();
                self.heard.drain(..end + 3);
                return Some(String::from_utf8(unpacked(&body)).unwrap());
            }
            let (runtime, from) = (&self.runtime, &mut self.from);
            let more = runtime.block_on(async { tokio::time::timeout(PATIENCE, from.recv()).await });
            self.heard.extend(more.expect("the server hangs")?);
        }
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(framed(packet.as_bytes()).as_slice());
        self.packet().expect("an answer")
    }

    /// Lets it go on until it stops; what was on the console comes first.
    fn go(&mut self, packet: &str) -> (String, String) {
        self.send(framed(packet.as_bytes()).as_slice());
        self.stopped()
    }

    fn stopped(&mut self) -> (String, String) {
        let mut console = String::new();
        loop {
            let packet = self.packet().expect("a stop");
            match packet.strip_prefix('O').filter(|hex| *hex != "K") {
                Some(hex) => console.push_str(&String::from_utf8(hex::decode(hex).unwrap()).unwrap()),
                None => return (console, packet),
            }
        }
    }

    fn monitor(&mut self, command: &str) -> String {
        let (console, ok) = self.go(&format!("qRcmd,{}", hex::encode(command)));
        assert_eq!(ok, "OK");
        console
    }

    fn word(&mut self, at: u32) -> u32 {
        let hex = self.ask(&format!("m{at:x},4"));
        u32::from_le_bytes(hex::decode(&hex).unwrap_or_else(|_| panic!("{hex}")).try_into().unwrap())
    }

    fn registers(&mut self) -> Vec<u32> {
        let bytes = hex::decode(self.ask("g")).unwrap();
        bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    fn pc(&mut self) -> u32 {
        self.registers()[15]
    }

    fn round_trips(&mut self) -> u64 {
        let text = self.monitor("cache");
        text.trim_start_matches("off\n").split(' ').next().unwrap().parse().unwrap()
    }

    /// What an action costs.
    fn cost(&mut self, action: impl FnOnce(&mut Bench)) -> u64 {
        let before = self.round_trips();
        action(self);
        self.round_trips() - before
    }

    fn outcome(&mut self) -> Result<Left, Gone> {
        self.to = None;
        self.outcome_while_connected()
    }

    fn outcome_while_connected(&mut self) -> Result<Left, Gone> {
        let outcome = self.outcome.take().unwrap();
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, outcome).await })
            .expect("it hangs")
            .unwrap()
    }

    fn calls(&self) -> Vec<DebugCall> {
        lock(&self.model).calls.clone()
    }

    fn wait_until(&self, is_so: impl Fn(&Model) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(&lock(&self.model)) {
            assert!(Instant::now() < until, "it never comes");
            std::thread::yield_now();
        }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    [b"$", body, format!("#{sum:02x}").as_bytes()].concat()
}

/// Without run-length encoding.
fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut plain: Vec<u8> = Vec::new();
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match (*byte, plain.last().copied()) {
            (b'*', Some(last)) => {
                let count = bytes.next().unwrap() - 29;
                plain.extend(std::iter::repeat_n(last, count.into()));
            }
            (byte, _) => plain.push(byte),
        }
    }
    plain
}

#[test]
fn gdb_finds_a_halted_application_with_its_registers_and_memory() {
    let mut bench = Bench::new(Options::default());
    assert!(bench.ask("qSupported:multiprocess+;swbreak+;vContSupported+").contains("swbreak+"));
    assert!(bench.ask("?").starts_with("T05"));
    let registers = bench.registers();
    assert_eq!((registers.len(), registers[13]), (20, RAM + BYTES));
    assert_eq!(bench.ask("p13"), "00", "PRIMASK is a byte");
    let xml = bench.ask("qXfer:features:read:target.xml:0,fff");
    assert!(
        xml.starts_with('m') && xml.contains("org.gnu.gdb.arm.m-profile") && xml.contains("arm.m-system")
    );
    let map = bench.ask("qXfer:memory-map:read::0,ffb");
    assert!(map.contains(r#"start="0x28200000" length="0x10000""#) && !map.contains("rom"), "{map}");
    assert_eq!(bench.ask("m100,4"), "E0e");
    assert_eq!(bench.ask(&format!("m{:x},8", RAM + BYTES - 4)), "00000000", "as much as there is");
    assert!(bench.ask("vCont?").contains(";r"));
    assert_eq!(bench.ask("Z1,200000,2"), "", "none of the hardware's");
    assert!(bench.monitor("info").contains("of the hardware  0 of 0"));
    assert_eq!(bench.ask("D"), "OK");
    assert_eq!(bench.outcome(), Ok(Left::Detached));
}

#[test]
fn a_variable_that_changed_between_stops_is_read_fresh() {
    let mut bench = Bench::new(Options::default());
    assert_eq!((bench.word(COUNTER), bench.word(TICKS)), (0, 0));
    // Written by the program, by an interrupt, and by something that is neither.
    assert_eq!(bench.ask("Z0,200074,2"), "OK");
    for stop in 1..=3 {
        lock(&bench.model).poke(RAM + 0x8000, &[stop]);
        bench.go("vCont;c");
        assert_eq!(bench.word(TICKS), u32::from(stop));
        let counter = lock(&bench.model).word(COUNTER);
        assert_eq!(bench.word(COUNTER), counter);
        assert_eq!(bench.word(RAM + 0x8000), u32::from(stop));
    }
    assert_eq!(bench.word(COUNTER), 7);
    // Code that changed itself, where nobody says that it is read-only.
    let mut bench = Bench::new(Options { no_elf: true, ..Options::default() });
    assert_eq!(bench.word(CODE), 0xf82b_f000);
    bench.go("vCont;s");
    lock(&bench.model).poke(CODE, &[1, 2, 3, 4]);
    // Read with the stop, before it was changed behind everybody's back; at the next stop it is seen.
    bench.go("vCont;s");
    assert_eq!(bench.word(CODE), 0x0403_0201);
}

#[test]
fn a_write_is_done_at_once_and_voids_what_was_read() {
    let mut bench = Bench::new(Options::default());
    assert_eq!(bench.word(COUNTER), 0);
    lock(&bench.model).poke(COUNTER + 0x20, &[9]);
    assert_eq!(bench.word(COUNTER + 0x20), 0, "kept while it stands");
    assert_eq!(bench.ask(&format!("M{COUNTER:x},4:01020304")), "OK");
    assert_eq!((bench.word(COUNTER), bench.word(COUNTER + 0x20)), (0x0403_0201, 9));
    assert_eq!(lock(&bench.model).word(COUNTER), 0x0403_0201);
    assert_eq!(bench.ask("M100,1:00"), "E0e");
    assert_eq!(bench.ask(&format!("M{:x},2:0000", RAM + BYTES - 1)), "E0e", "whole or not at all");
    // Code that the debugger wrote is not the ELF file's any more.
    assert_eq!(bench.word(CODE), 0xf82b_f000);
    assert_eq!(bench.ask(&format!("M{CODE:x},4:00bf00bf")), "OK");
    assert_eq!(bench.word(CODE), 0xbf00_bf00);
}

#[test]
fn reading_ahead_stays_in_the_region_and_out_of_peripherals() {
    let mut bench = Bench::new(Options::default());
    for at in [RAM, RAM + BYTES - 4, CODE + BYTES - 4, CODE + 0x94] {
        bench.word(at);
    }
    lock(&bench.model).calls.retain(|call| !call.reads.is_empty());
    for read in bench.calls().iter().flat_map(|call| &call.reads) {
        let end = read.address + read.length;
        let within = |at: u32| at <= read.address && end <= at + BYTES;
        assert!(within(RAM) || within(CODE), "{read:?}");
    }
    // Of a peripheral exactly what was asked for, each time.
    let before = bench.calls().len();
    bench.ask(&format!("m{UART:x},4"));
    bench.ask(&format!("m{UART:x},4"));
    let calls = bench.calls();
    let reads: Vec<_> =
        calls[before..].iter().flat_map(|call| &call.reads).map(|read| (read.address, read.length)).collect();
    assert_eq!(reads, [(UART, 4), (UART, 4)]);
}

/// What gdb 13 asks after a stop to show where it is, with one frame more.
fn look(bench: &mut Bench) {
    let registers = bench.registers();
    let (pc, sp) = (registers[15], registers[13]);
    for (at, bytes) in [(pc, 2), (pc & !0xf, 16), (sp, 64), (sp + 64, 16), (CODE, 4)] {
        let at = at.min(RAM + BYTES - 4);
        bench.ask(&format!("m{at:x},{bytes:x}"));
    }
}

#[test]
fn actions_cost_a_round_trip_and_plain_forwarding_many() {
    let mut costs = Vec::new();
    for plain in [false, true] {
        let mut bench = Bench::new(Options { plain, ..Options::default() });
        let to_breakpoint = bench.cost(|bench| {
            bench.ask(&format!("Z0,{TWICE:x},2"));
            let (_, stop) = bench.go("vCont;c");
            assert!(stop.contains("swbreak"), "{stop}");
            look(bench);
            bench.ask(&format!("z0,{TWICE:x},2"));
        });
        assert_eq!(bench.pc(), TWICE);
        let stepi = bench.cost(|bench| {
            bench.go("vCont;s:p1.1;c:p1.-1");
            look(bench);
        });
        let step = bench.cost(|bench| {
            bench.go("vCont;r200024,20002c:p1.1");
            look(bench);
        });
        assert_eq!(bench.pc(), 0x20_002c);
        // Into `add`, to the end of it, and on to the next line: gdb lets it go on three times, the device needs to be told twice.
        let next = bench.cost(|bench| {
            bench.go("vCont;r20002c,20003c:p1.1");
            look(bench);
            bench.ask("Z0,200038,2");
            bench.go("vCont;c");
            bench.registers();
            bench.ask("z0,200038,2");
            bench.go("vCont;r20002c,20003c:p1.1");
            look(bench);
        });
        assert_eq!(bench.pc(), 0x20_003c);
        bench.ask(&format!("Z0,{ADD:x},2"));
        bench.go("vCont;c");
        bench.ask(&format!("z0,{ADD:x},2"));
        let finish = bench.cost(|bench| {
            bench.ask("Z0,200046,2");
            bench.go("vCont;c");
            look(bench);
            bench.ask("z0,200046,2");
        });
        assert_eq!(bench.pc(), 0x20_0046);
        let backtrace = bench.cost(look);
        let print = bench.cost(|bench| assert_eq!(bench.word(COUNTER), 0));
        // The second time it comes with the stop.
        bench.go("vCont;s");
        let print_again = bench.cost(|bench| assert_eq!(bench.word(COUNTER), 0));
        costs.push([to_breakpoint, stepi, step, next, finish, backtrace, print, print_again]);
    }
    let [cached, plain] = [costs[0], costs[1]];
    assert_eq!(cached, [1, 1, 1, 2, 1, 0, 1, 0]);
    assert!(cached.iter().zip(&plain).take(6).all(|(cached, plain)| plain >= &(5 * cached)), "{plain:?}");
}

#[test]
fn breakpoints_are_said_with_the_go_and_only_when_they_changed() {
    let mut bench = Bench::new(Options::default());
    bench.ask(&format!("Z0,{TWICE:x},2"));
    bench.ask(&format!("Z0,{ADD:x},2"));
    assert!(lock(&bench.model).planted().is_empty());
    bench.go("vCont;c");
    assert_eq!(lock(&bench.model).planted().len(), 2);
    for at in [TWICE, ADD] {
        bench.ask(&format!("z0,{at:x},2"));
        bench.ask(&format!("Z0,{at:x},2"));
    }
    bench.go("vCont;c");
    bench.ask(&format!("z0,{TWICE:x},2"));
    bench.go("vCont;c");
    let goes: Vec<_> = bench.calls().into_iter().filter(|call| call.go() == DebugGo::Continue).collect();
    let said: Vec<_> = goes.iter().map(|call| (call.plant, call.breakpoints.len())).collect();
    assert_eq!(said, [(true, 2), (false, 0), (true, 1)]);
    assert_eq!(bench.ask("Z0,200025,2"), "E0e", "an odd address");
    assert_eq!(bench.ask(&format!("Z0,{UART:x},2")), "E0e");
    for n in 0..31 {
        assert_eq!(bench.ask(&format!("Z0,{:x},2", CODE + 0x100 + 2 * n)), "OK");
    }
    assert_eq!(bench.ask("Z0,200300,2"), "E07");
}

#[test]
fn breakpoints_of_the_hardware_are_as_many_as_the_board_has_and_write_nothing() {
    let mut bench = Bench::with(Model::with_comparators(2), Options::default());
    assert!(bench.ask("qSupported:swbreak+;hwbreak+").contains("hwbreak+"));
    let code = bench.word(TWICE);
    for at in [TWICE, ADD] {
        assert_eq!(bench.ask(&format!("Z1,{at:x},2")), "OK");
    }
    assert_eq!(bench.ask("Z1,200074,2"), "E07");
    assert_eq!(bench.ask(&format!("Z1,{TWICE:x},2")), "OK", "the same again");
    assert_eq!(bench.ask("Z1,200025,2"), "E0e", "an odd address");
    assert_eq!(bench.ask(&format!("Z0,{ADD:x},2")), "OK", "one of each kind at one place");
    let (_, stop) = bench.go("vCont;c");
    assert!(stop.contains("hwbreak"), "{stop}");
    assert_eq!((bench.pc(), bench.word(TWICE)), (TWICE, code));
    assert_eq!(lock(&bench.model).hardware.len(), 2);
    assert!(bench.monitor("info").contains("of the hardware  2 of 2"));
    let (_, stop) = bench.go("vCont;c");
    assert!(stop.contains("swbreak") && bench.pc() == ADD, "{stop}");
    assert_eq!(bench.ask(&format!("z1,{ADD:x},2")), "OK");
    assert_eq!(bench.ask(&format!("z1,{ADD:x},2")), "OK", "one that is not there is as well removed");
    bench.go("vCont;c");
    assert_eq!(lock(&bench.model).hardware.len(), 1);
    assert_eq!(bench.ask("D"), "OK");
    assert_eq!(bench.outcome(), Ok(Left::Detached));
    bench.wait_until(|model| model.hardware.is_empty());
}

#[test]
fn when_gdb_leaves_the_application_goes_on_without_breakpoints() {
    let mut bench = Bench::new(Options::default());
    bench.ask(&format!("Z0,{TWICE:x},2"));
    bench.go("vCont;c");
    assert_eq!(lock(&bench.model).planted().len(), 1);
    let before = bench.calls().len();
    // Without a word: its connection is gone.
    assert_eq!(bench.outcome(), Ok(Left::Disconnected));
    bench.wait_until(|model| model.calls.len() > before);
    let last = bench.calls().pop().unwrap();
    assert_eq!((last.go(), last.plant, last.breakpoints.len()), (DebugGo::Continue, true, 0));
}

#[test]
fn registers_are_set_with_the_next_go_and_the_special_ones_at_once() {
    let mut bench = Bench::new(Options::default());
    bench.pc();
    let calls = bench.calls().len();
    assert_eq!(bench.ask("P0=2a000000"), "OK");
    assert_eq!(bench.ask(&format!("Pf={}", hex::encode(TWICE.to_le_bytes()))), "OK");
    assert_eq!((bench.calls().len(), bench.pc()), (calls, TWICE));
    assert_eq!(bench.ask("P14=ff"), "OK", "BASEPRI");
    assert_eq!(bench.calls().len(), calls + 1);
    assert_eq!(bench.ask("p14"), "ff");
    bench.go("vCont;s");
    assert_eq!(bench.pc(), TWICE + 2);
    assert_eq!(bench.registers()[0], 0x2a);
    let all = bench.ask("g");
    assert_eq!(bench.ask(&format!("G{all}")), "OK");
    assert_eq!(bench.calls().len(), calls + 2, "nothing changed");
}

#[test]
fn ctrl_c_halts_what_runs_and_a_fault_is_told_in_words() {
    let mut bench = Bench::new(Options::default());
    bench.send(&framed(b"vCont;c"));
    bench.send(&[3]);
    assert_eq!(bench.stopped().1, "S02");
    assert!(bench.monitor("halt-reason").contains("as asked"));
    assert_eq!(bench.monitor("fault"), "no fault holds it\n");
    bench.ask(&format!("Pf={}", hex::encode(0x20_0058u32.to_le_bytes())));
    let (console, stop) = bench.go("vCont;c");
    assert_eq!(stop, "S04");
    assert!(console.contains("UNDEFINSTR") && console.contains("0x00200058"), "{console}");
    assert!(bench.monitor("fault").contains("UNDEFINSTR"));
}

#[test]
fn an_application_that_is_started_anew_is_seen_anew() {
    let mut bench = Bench::new(Options::default());
    assert_eq!(bench.ask("Z0,200074,2"), "OK");
    bench.go("vCont;c");
    let round_trips = bench.round_trips();
    assert!(bench.monitor("reset").contains("before its first instruction"));
    assert_eq!((bench.pc(), bench.word(COUNTER)), (CODE, 0));
    // The ELF file is compared anew, in passing; then it answers again.
    assert!(bench.monitor("info").contains("what the device runs"));
    assert_eq!(bench.round_trips() - round_trips, 2);
    let (_, stop) = bench.go("vRun;");
    assert!(stop.starts_with("T05"), "{stop}");
    assert_eq!(bench.pc(), CODE);
}

#[test]
fn an_application_that_ends_and_comes_back_while_gdb_waits_is_waited_for() {
    let mut bench = Bench::with(
        lying(|call, answers| {
            if call.go() == DebugGo::Continue {
                let stop = answers.first_mut().unwrap();
                let word =
                    |state, starts| DebugAnswer { call: stop.call, state, starts, ..DebugAnswer::default() };
                let (ended, anew) = (word(3, stop.starts), word(1, stop.starts + 1));
                stop.starts += 1;
                answers.splice(0..0, [ended, anew]);
            }
        }),
        Options::default(),
    );
    assert_eq!(bench.word(TICKS), 0);
    assert_eq!(bench.ask(&format!("Z0,{TWICE:x},2")), "OK");
    let (console, stop) = bench.go("vCont;c");
    assert!(
        stop.contains("swbreak") && console.contains("has ended") && console.contains("started anew"),
        "{console}"
    );
    // What was asked for with the stop came with it.
    assert_eq!(bench.cost(|bench| assert_eq!(bench.word(TICKS), 1)), 0);
    assert_eq!(bench.pc(), TWICE);
}

#[test]
fn another_version_is_told_by_its_name_and_has_the_breakpoints_from_the_next_go_on() {
    let mut is_first = true;
    let mut bench = Bench::with(
        lying(move |call, answers| {
            if call.go() == DebugGo::Continue && std::mem::take(&mut is_first) {
                let stop = answers.first_mut().unwrap();
                let target = DebugTarget {
                    manifest_digest: vec![8; 32],
                    version: "1.3.0".into(),
                    ..Model::new().target()
                };
                let anew = DebugAnswer {
                    call: stop.call,
                    state: 1,
                    starts: stop.starts + 1,
                    target: Some(target),
                    ..DebugAnswer::default()
                };
                stop.starts += 1;
                answers.insert(0, anew);
            }
        }),
        Options::default(),
    );
    lock(&bench.model).starts = 1;
    assert_eq!(bench.ask(&format!("Z0,{TWICE:x},2")), "OK");
    let (console, _) = bench.go("vCont;c");
    assert!(console.contains("started anew") && console.contains("another version, 1.3.0"), "{console}");
    assert!(bench.monitor("info").contains("1.3.0"));
    bench.go("vCont;s");
    let goes: Vec<_> = bench.calls().into_iter().filter(|call| call.plant).collect();
    assert_eq!(goes.iter().map(|call| call.breakpoints.len()).collect::<Vec<_>>(), [1, 1], "said again");
    assert_eq!(goes.iter().map(|call| call.starts).collect::<Vec<_>>(), [1, 2], "and of which start");
}

#[test]
fn what_was_under_way_when_it_was_started_anew_is_not_done_and_gdb_is_told() {
    let mut is_first = true;
    let mut bench = Bench::with(
        lying(move |call, answers| {
            if call.go() == DebugGo::Continue && std::mem::take(&mut is_first) {
                let problem = DebugProblem::StartedAnew.into();
                let refused =
                    DebugAnswer { call: call.number, state: 1, starts: 2, problem, ..DebugAnswer::default() };
                *answers = vec![refused];
            } else {
                answers.iter_mut().for_each(|answer| answer.starts = if is_first { 1 } else { 2 });
            }
        }),
        Options::default(),
    );
    bench.send(&framed(b"vCont;c"));
    let until = |bench: &mut Bench, what: &str| {
        let said = bench.packet().unwrap();
        let text = hex::decode(said.strip_prefix('O').expect("no stop")).unwrap();
        assert!(String::from_utf8(text).unwrap().contains(what), "{said}");
    };
    until(&mut bench, "was started anew\n");
    until(&mut bench, "not done: the application was started anew meanwhile");
    // It is not stopped for a gdb whose developer may be gone; one who is there stops it.
    bench.send(&[3]);
    let (_, stop) = bench.stopped();
    assert!(stop.starts_with("S02"), "{stop}");
    bench.pc();
    bench.go("vCont;s");
    let goes = bench.calls().into_iter().rfind(|call| call.go() != DebugGo::Unspecified);
    assert_eq!(goes.unwrap().starts, 2);
    // Who leaves lets go of whatever runs by then.
    assert_eq!(bench.ask("D"), "OK");
    assert_eq!(bench.outcome(), Ok(Left::Detached));
    bench.wait_until(|model| model.calls.last().is_some_and(|call| call.go() == DebugGo::Continue));
    assert_eq!(bench.calls().last().unwrap().starts, 0);
}

#[test]
fn a_gdb_at_its_prompt_does_nothing_to_a_start_that_it_was_not_told_of() {
    let mut bench = Bench::new(Options::default());
    assert_eq!(bench.ask(&format!("Z0,{TWICE:x},2")), "OK");
    bench.go("vCont;c");
    let target =
        DebugTarget { manifest_digest: vec![8; 32], version: "1.3.0".into(), ..Model::new().target() };
    let call = {
        let mut model = lock(&bench.model);
        (model.starts, model.running) = (2, true);
        model.reset();
        model.calls.last().unwrap().number
    };
    let anew = DebugAnswer { call, state: 1, starts: 2, target: Some(target), ..DebugAnswer::default() };
    bench.tell.blocking_send(Ok(anew)).unwrap();
    // It is heard before the next of these.
    while !bench.monitor("halt-reason").contains("was started anew") {}
    let before = bench.calls().len();
    assert!(bench.ask("g").starts_with("xxxxxxxx"), "they are not known");
    for (packet, answer) in
        [("P0=07000000", "E74"), (&format!("M{COUNTER:x},1:07"), "E74"), ("Z0,200074,2", "OK")]
    {
        assert_eq!(bench.ask(packet), answer);
    }
    assert_eq!(bench.calls().len(), before, "nothing was said to the device");
    // Let go it is told, and nothing is planted in the new one but by who halts it then.
    bench.send(&framed(b"vCont;c"));
    bench.send(&[3]);
    let (console, stop) = bench.stopped();
    assert!(console.contains("started anew") && console.contains("another version, 1.3.0"), "{console}");
    assert!(stop.starts_with("S02"), "{stop}");
    let goes: Vec<_> = bench.calls()[before..].iter().map(|call| (call.go(), call.plant)).collect();
    assert_eq!(goes, [(DebugGo::Halt, false)]);
    bench.go("vCont;c");
    assert_eq!(lock(&bench.model).planted().len(), 2);
}

#[test]
fn ctrl_c_twice_and_a_stop_that_crosses_it_are_one_stop() {
    let mut bench = Bench::new(Options::default());
    assert_eq!(bench.word(TICKS), 0);
    for _ in 0..3 {
        bench.send(&framed(b"vCont;c"));
        bench.send(&[3]);
        bench.send(&[3]);
        assert_eq!(bench.stopped().1, "S02");
        bench.pc();
    }
    let fresh = lock(&bench.model).word(TICKS);
    assert_eq!((bench.word(TICKS), fresh), (3, 3));
    // It stops by itself; the halt comes too late.
    bench.ask(&format!("Z0,{TWICE:x},2"));
    bench.send(&framed(b"vCont;c"));
    bench.send(&[3]);
    bench.stopped();
    assert_eq!(bench.pc(), TWICE);
    bench.go("vCont;s");
    assert_eq!(bench.pc(), TWICE + 2);
}

#[test]
fn monitor_says_what_there_is() {
    let mut bench = Bench::new(Options::default());
    for command in
        ["help", "halt-reason", "fault", "uptime", "info", "cache", "cache flush", "nonsense \u{1b}"]
    {
        let said = bench.monitor(command);
        assert!(said.ends_with('\n') && !said.contains('\u{1b}'), "{command}: {said}");
    }
    assert_eq!(bench.monitor("uptime"), "1.500000 s\n");
    let info = bench.monitor("info");
    assert!(info.contains("dv1") && info.contains("0x28200000 0x10000 ram"), "{info}");
}

/// The device may say as much as it likes of starts and ends.
#[test]
fn news_that_nobody_takes_is_bounded() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let model = Shared::new(Model::new().into());
    let (mut debugged, _told) = debugged(&runtime, &model, Options::default()).unwrap();
    let machine = &mut debugged.machine;
    for starts in 2..1000 {
        machine.hear(DebugAnswer { call: 1, state: 3, starts, ..DebugAnswer::default() }).unwrap();
        machine.hear(DebugAnswer { call: 1, state: 1, starts, ..DebugAnswer::default() }).unwrap();
    }
    assert_eq!(machine.take_news().len(), NEWS_MAX);
}

fn lying(lie: impl FnMut(&DebugCall, &mut Vec<DebugAnswer>) + Send + 'static) -> Model {
    let mut model = Model::new();
    model.lie = Some(Box::new(lie));
    model
}

/// How a session ends in which the device lies from its third call on.
fn outcome_of(mut lie: impl FnMut(&mut DebugAnswer) + Send + 'static) -> Result<Left, Gone> {
    let mut count = 0;
    let mut bench = Bench::with(
        lying(move |_, answers| {
            count += 1;
            if count > 2 {
                answers.iter_mut().for_each(&mut lie);
            }
        }),
        Options { no_elf: true, ..Options::default() },
    );
    for packet in ["m28200000,4", "vCont;s", "g", "m28200010,4", "m28204000,4"] {
        bench.send(&framed(packet.as_bytes()));
    }
    while bench.packet().is_some_and(|packet| !packet.starts_with("X1d")) {
        if bench.to.as_ref().is_some_and(|to| to.is_closed()) {
            break;
        }
    }
    bench.outcome()
}

#[test]
fn a_device_that_lies_ends_the_session_and_nothing_else() {
    type Lie = Box<dyn FnMut(&mut DebugAnswer) + Send>;
    let lies: Vec<(&str, Lie)> = vec![
        ("another number", Box::new(|answer| answer.call += 1000)),
        ("an older number", Box::new(|answer| answer.call = 0)),
        ("too much memory", Box::new(|answer| answer.data.push(DebugData { data: vec![0; 4000] }))),
        (
            "too little",
            Box::new(|answer| {
                if let Some(data) = answer.data.first_mut() {
                    data.data = vec![0; 3];
                } else {
                    answer.data.push(DebugData::default());
                    answer.data.push(DebugData::default());
                }
            }),
        ),
        (
            "too few registers",
            Box::new(|answer| answer.stop = Some(DebugStop { registers: vec![0; 76], ..stop(answer) })),
        ),
        (
            "too much stack",
            Box::new(|answer| answer.stop = Some(DebugStop { stack: vec![0; 1025], ..stop(answer) })),
        ),
        (
            "a stop that is none",
            Box::new(|answer| {
                answer.stop = Some(stop(answer));
                answer.state = 1;
            }),
        ),
        (
            "regions without end",
            Box::new(|answer| {
                let region =
                    proto::device::v1::DebugRegion { address: u32::MAX, length: u32::MAX, memory: 2 };
                answer.target = Some(DebugTarget { regions: vec![region], ..DebugTarget::default() });
            }),
        ),
    ];
    for (name, lie) in lies {
        match outcome_of(lie) {
            Err(Gone::Nonsense(why)) => assert!(!why.is_empty()),
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn stop(answer: &DebugAnswer) -> DebugStop {
    answer.stop.clone().unwrap_or_else(|| DebugStop { registers: vec![0; 80], ..DebugStop::default() })
}

#[test]
fn a_gdb_that_waits_is_told_why_nothing_comes_any_more() {
    let mut bench = Bench::with(
        lying(|call, answers| {
            if call.go() == DebugGo::Continue {
                *answers = vec![DebugAnswer { call: 999, ..DebugAnswer::default() }];
            }
        }),
        Options::default(),
    );
    let (console, stop) = bench.go("vCont;c");
    assert!(console.contains("what cannot be") && stop.starts_with("X1d"), "{console} {stop}");
    assert!(matches!(bench.outcome(), Err(Gone::Nonsense(_))));
}

#[test]
fn a_plain_forwarder_sends_a_call_for_each_request() {
    let mut bench = Bench::new(Options { plain: true, no_elf: true, ..Options::default() });
    bench.pc();
    let calls = bench.calls().len();
    for packet in ["g", "m28200000,4", "m28200000,4", "Z0,200074,2", "z0,200074,2", "P0=01000000"] {
        bench.ask(packet);
    }
    // Setting a register asks what it was.
    assert!((6..=7).contains(&(bench.calls().len() - calls)), "{}", bench.calls().len() - calls);
}

fn rsp() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "g",
        "?",
        "qSupported:multiprocess+;swbreak+",
        "m28200000,40",
        "m200000,ffff",
        "mffffffff,ffffffff",
        "M28200000,2:0102",
        "vCont;c",
        "vCont;s",
        "vCont;r200000,200010:p1.1",
        "Z0,200074,2",
        "z0,200074,2",
        "Z0,200074,4",
        "qRcmd,696e666f",
        "qXfer:features:read:target.xml:0,fff",
        "qXfer:memory-map:read::fffffffffff,fff",
        "P0=00000000",
        "P16=00",
        "p13",
        "G00",
        "Hg0",
        "qfThreadInfo",
        "vRun;",
        "X28200000,0:",
        "!",
        "qAttached:1",
        "vKill;1",
    ]);
    let packet = (known, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(packet, change)| {
            let mut body = packet.as_bytes().to_vec();
            if let Some((place, byte)) = change {
                let place = place.index(body.len());
                body[place] = byte;
            }
            framed(&body)
        },
    );
    prop_oneof![8 => packet, 1 => prop::collection::vec(any::<u8>(), 0..40), 1 => Just(vec![3]), 1 => Just(b"+".to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_gdb_sends_it_is_served_or_left(packets in prop::collection::vec(rsp(), 1..12)) {
        let mut bench = Bench::new(Options::default());
        for packet in packets {
            bench.send(&packet);
        }
        // What runs is halted, so that there is an end to it; then gdb is gone.
        bench.send(&[3]);
        bench.to = None;
        while bench.packet().is_some() {}
        bench.outcome().unwrap();
    }

    #[test]
    fn whatever_a_device_says_is_an_answer_or_the_end(noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut count = 0;
        let mut bench = Bench::with(lying(move |_, answers| {
            use prost::Message as _;
            count += 1;
            for answer in answers.iter_mut().filter(|_| count > 1) {
                let mut bytes = answer.encode_to_vec();
                for (place, byte) in &noise {
                    if !bytes.is_empty() {
                        let place = place.index(bytes.len());
                        bytes[place] = *byte;
                    }
                }
                // What cannot be read ends the session before it gets here.
                *answer = DebugAnswer::decode(&bytes[..]).unwrap_or(DebugAnswer { call: u32::MAX, ..DebugAnswer::default() });
            }
        }), Options::default());
        for packet in ["g", "m28200000,40", "vCont;s", "g", "m28204000,4", "M28200000,1:00", "vCont;s"] {
            bench.send(&framed(packet.as_bytes()));
        }
        bench.to = None;
        // A call may have got no answer that counts: nobody waits longer for it than the session lasts.
        let (runtime, from) = (&bench.runtime, &mut bench.from);
        runtime.block_on(async {
            while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(300), from.recv()).await {}
        });
    }
}

/// gdb itself, in batch mode; what it printed.
fn gdb(model: &Shared, commands: &[&str]) -> String {
    recorded_gdb(model, commands, None)
}

/// The same, with a transcript.
fn recorded_gdb(model: &Shared, commands: &[&str], recorder: Option<Recorder>) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (debugged, _) = recorded(&runtime, model, Options::default(), recorder.as_ref()).unwrap();
    runtime.block_on(async {
        let program = crate::gdb::find(None).expect("`cargo dev setup` installs gdb-multiarch");
        let listener = listen(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hardware_breakpoints = debugged.machine.about().hardware_breakpoints_max;
        let server = Server::start(debugged, false, recorder).unwrap();
        let elf = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/debug/program.elf");
        let mut command = tokio::process::Command::new(program);
        command.args(["-nx", "-batch"]).kill_on_drop(true).stdin(std::process::Stdio::null());
        command.args(exec::arguments(Some(std::path::Path::new(elf)), port, hardware_breakpoints));
        for line in commands {
            command.args(["-ex", line]);
        }
        let both = async {
            let (served, output) = tokio::join!(over_tcp(server, &listener, false), command.output());
            served.unwrap();
            output.unwrap()
        };
        let output = tokio::time::timeout(PATIENCE, both).await.expect("gdb hangs");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    })
}

#[test]
fn gdb_itself_debugs_the_model() {
    let model = Shared::new(Model::new().into());
    let said = gdb(
        &model,
        &[
            "break twice",
            "continue",
            "backtrace",
            "info locals",
            "next",
            "print one",
            "step",
            "step",
            "backtrace",
            "finish",
            "print counter",
            "print $primask",
            "set var counter = 77",
            "print counter",
            "print add(20, 22)",
            "x/2i $pc",
            "delete",
            "until 34",
            "info registers control",
            "monitor halt-reason",
            "monitor cache",
            "detach",
        ],
    );
    for expected in [
        "Breakpoint 1, twice (n=1)",
        "#1  0x00200070 in main () at program.c",
        "$1 = 2",
        "#2  0x00200070 in main",
        "Value returned is $2 = 3",
        "$3 = 0",
        "$4 = 0",
        "$5 = 77",
        "$6 = 42",
        "movs\tr3, r0",
        "control        0x0",
    ] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn gdb_itself_sets_breakpoints_of_the_hardware_where_there_are_any() {
    let commands = ["hbreak twice", "continue", "info breakpoints", "continue", "print n", "detach"];
    let with = gdb(&Shared::new(Model::with_comparators(4).into()), &commands);
    for expected in ["Hardware assisted breakpoint 1 at", "Breakpoint 1, twice (n=1)", "already hit 1 time"] {
        assert!(with.contains(expected), "`{expected}` is missing in:\n{with}");
    }
    let without = gdb(&Shared::new(Model::new().into()), &["hbreak twice", "detach"]);
    assert!(without.contains("No hardware breakpoint support in the target"), "{without}");
}

#[test]
fn gdb_itself_watches_in_software() {
    let said =
        gdb(&Shared::new(Model::new().into()), &["watch counter", "continue", "print counter", "detach"]);
    for expected in ["Watchpoint 1: counter", "Old value = 0", "New value = 3", "$1 = 3"] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
}

#[test]
fn gdb_itself_starts_the_application_anew_and_sees_a_fault() {
    let model = Shared::new(Model::new().into());
    let said = gdb(
        &model,
        &["tbreak main", "run", "print counter", "set var $pc = crash", "continue", "monitor fault", "kill"],
    );
    for expected in
        ["Temporary breakpoint 1, main ()", "[holdfast] fault (usage)", "SIGILL", "crash () at program.c"]
    {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
}

#[test]
fn an_action_of_gdbs_own_costs_what_was_promised() {
    let model = Shared::new(Model::new().into());
    // (what is done, how many times gdb lets it go on for that)
    let actions = [
        ("continue", 1),
        ("backtrace", 0),
        ("info locals", 0),
        ("print n", 0),
        ("stepi", 1),
        // Into a function: to its first instruction, and past what it begins with.
        ("step", 2),
        ("step", 1),
        ("finish", 1),
        ("next", 1),
        // Over one: into it, and out of it to the end of the line.
        ("next", 2),
        ("print counter", 1),
        ("tbreak program.c:32", 0),
        ("continue", 1),
        ("print counter", 0),
        ("info registers", 0),
        // What follows the program is not in its file.
        ("x/8i $pc", 1),
        ("set var counter = 5", 1),
        ("break add", 0),
        ("continue", 1),
        // Off the breakpoint first: that is how gdb does it.
        ("continue", 2),
    ];
    let mut commands = vec!["tbreak twice", "monitor cache"];
    for (action, _) in actions {
        commands.extend([action, "monitor cache"]);
    }
    let said = gdb(&model, &commands);
    let counts: Vec<u64> =
        said.lines().filter_map(|line| line.split_once(" round trips, ")?.0.parse().ok()).collect();
    let costs: Vec<u64> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let named: Vec<_> =
        actions.iter().zip(&costs).map(|((action, most), cost)| (*action, *most, *cost)).collect();
    assert_eq!(costs.len(), actions.len(), "{said}");
    assert!(named.iter().all(|(_, most, cost)| cost <= most), "{named:?}");
}

/// What a transcript says of memory that nobody else should read.
const SECRET: u32 = 0x5ec2_e7aa;

fn lines(file: &[u8], wishes: Wishes) -> Vec<Line> {
    let (records, end) = transcript::tests::read(file, &transcript::tests::owner());
    assert!(end.is_ok(), "{end:?}");
    let mut places = crate::crash::Places::open(ELF.to_vec()).unwrap();
    let mut timeline = Timeline::new(wishes);
    let mut lines: Vec<Line> =
        records.iter().flat_map(|record| timeline.take(record, &mut |at| places.at(at))).collect();
    lines.push(timeline.cost());
    lines
}

#[test]
fn a_session_of_gdbs_own_is_replayed_as_it_was_and_its_transcript_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.hft");
    let recorder = record::tests::recorder(&path);
    let model = Shared::new(Model::new().into());
    let set = format!("set var counter = {SECRET:#x}");
    let commands = [
        "break twice",
        "continue",
        "print counter",
        &set,
        "print counter",
        "delete",
        "stepi",
        "monitor halt-reason",
        "detach",
    ];
    let said = recorded_gdb(&model, &commands, Some(recorder.clone()));
    assert!(
        said.contains("Breakpoint 1, twice (n=1)") && said.contains(&format!("{}", SECRET as i32)),
        "{said}"
    );
    recorder.finish(Ok(())).unwrap();
    let file = std::fs::read(&path).unwrap();

    let told = |wishes| -> Vec<String> {
        lines(&file, wishes).iter().map(|line| format!("{} {}", line.event, line.text)).collect()
    };
    let plain = told(Wishes::default());
    // In this order, with whatever lies between.
    let mut rest = plain.iter();
    for expected in [
        "begin ",
        "target application 1.2.0 (manifest 0707",
        "gdb_came gdb 1",
        "halt ",
        "stop halted at ",
        "breakpoints 0x0020002c in twice (/fixture/program.c:",
        "continue ",
        "stop breakpoint at 0x0020002c in twice (/fixture/program.c:",
        "read 0x28200000 ",
        "write 0x28200000 4 B",
        "breakpoints none",
        "step one instruction",
        "stop stepped to ",
        "continue ",
        "gdb_left gdb 1: it let go of the application",
        "end as the developer wished",
        "cost ",
    ] {
        assert!(
            rest.any(|line| line.starts_with(expected)),
            "`{expected}` is missing in:\n{}",
            plain.join("\n")
        );
    }
    let secret = hex::encode(SECRET.to_le_bytes());
    assert!(!plain.join("\n").contains(&secret), "nobody wished to see it");
    let all = told(Wishes { data: true, packets: true });
    assert!(all.iter().any(|line| line.starts_with("write ") && line.ends_with(&secret)), "{all:#?}");
    assert!(all.iter().any(|line| line.starts_with("gdb_said $") && line.contains("vCont;c")), "{all:#?}");
    assert!(all.iter().any(|line| line.starts_with("gdb_told $") && line.contains("swbreak")), "{all:#?}");
    // What gdb got last is there too.
    assert!(
        all.iter().rposition(|line| line.starts_with("gdb_told $OK"))
            > all.iter().position(|line| line.starts_with("gdb_said $D"))
    );

    // As bytes, as digits, and as base64 of any alignment: neither memory nor protocol.
    use base64::Engine as _;
    let encoded = |bytes: &[u8]| {
        let inner = |skip: usize| {
            let text =
                base64::engine::general_purpose::STANDARD_NO_PAD.encode([&vec![0; skip][..], bytes].concat());
            text[(8 * skip).div_ceil(6)..text.len() - 1].to_owned().into_bytes()
        };
        [bytes.to_vec(), hex::encode(bytes).into_bytes(), inner(0), inner(1), inner(2)]
    };
    let code = &crate::image::flatten(ELF, BYTES as usize).unwrap()[..16];
    for plain in [&SECRET.to_le_bytes()[..], code, b"vCont;c", b"qSupported", b"1.2.0", b"monitor"] {
        for needle in encoded(plain) {
            let is_there = file.windows(needle.len()).any(|window| window == needle);
            assert!(!is_there, "{plain:02x?} is in the file");
        }
    }
}
