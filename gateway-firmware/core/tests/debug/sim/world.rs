//! A device's agent with a session, called as a developer's end calls it.

use gateway_core::debug::{Access, Agent, Scene, WATCH_FRAME_BYTES_MAX, Watcher};
use wire::Digest;
use wire::limits::DEBUG_FRAME_BYTES_MAX;
use wire::manifest::Version;
use wire::msg::{
    self, CrashKind, DebugAnswer, DebugCall, DebugGo, DebugProblem, DebugRange, DebugRead, DebugRegister,
    DebugState, DebugStopReason, DebugTarget, DebugWrite, EnumValue, Enumeration, Message as _, Repeated,
};

use super::{Machine, SimProbe};

/// Room for an answer: a frame without what the session's encryption adds.
pub(crate) const ROOM: usize = DEBUG_FRAME_BYTES_MAX - 25;
/// … to a watcher.
const WATCH_ROOM: usize = WATCH_FRAME_BYTES_MAX - 25;

/// What a developer's end asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub describe: bool,
    pub writes: Vec<(u32, Vec<u8>)>,
    pub registers: Vec<(u32, u32)>,
    pub plant: Option<Vec<u32>>,
    pub hardware: Vec<u32>,
    pub starts: u32,
    pub go: DebugGo,
    pub range: (u32, u32),
    pub ranges: Vec<(u32, u32)>,
    /// `then_at` and `then_sp`.
    pub then: (u32, u32),
    pub catch_faults: bool,
    pub stack_bytes: u32,
    pub reads: Vec<(u32, u32)>,
}

impl Call {
    pub(crate) fn go(go: DebugGo) -> Call {
        Call { go, ..Call::default() }
    }

    pub(crate) fn read(at: u32, length: u32) -> Call {
        Call { reads: vec![(at, length)], ..Call::default() }
    }

    pub(crate) fn plant(at: &[u32]) -> Call {
        Call { plant: Some(at.to_vec()), ..Call::default() }
    }

    /// Of the hardware, and none planted.
    pub(crate) fn hardware(at: &[u32]) -> Call {
        Call { plant: Some(Vec::new()), hardware: at.to_vec(), ..Call::default() }
    }

    pub(crate) fn write(at: u32, bytes: &[u8]) -> Call {
        Call { writes: vec![(at, bytes.to_vec())], ..Call::default() }
    }

    pub(crate) fn bytes(&self, number: u32) -> Vec<u8> {
        let writes: Vec<_> = self
            .writes
            .iter()
            .map(|(address, data)| DebugWrite { address: *address, data, ..Default::default() })
            .collect();
        let registers: Vec<_> = self
            .registers
            .iter()
            .map(|(number, value)| DebugRegister { number: *number, value: *value, ..Default::default() })
            .collect();
        let reads: Vec<_> = self
            .reads
            .iter()
            .map(|(address, length)| DebugRead { address: *address, length: *length, ..Default::default() })
            .collect();
        let ranges: Vec<_> = self
            .ranges
            .iter()
            .map(|(from, to)| DebugRange { from: *from, to: *to, ..Default::default() })
            .collect();
        let call = DebugCall {
            number,
            describe: self.describe,
            writes: Repeated::from_slice(&writes),
            registers: Repeated::from_slice(&registers),
            plant: self.plant.is_some(),
            go: EnumValue::Known(self.go),
            range_from: self.range.0,
            range_to: self.range.1,
            ranges: Repeated::from_slice(&ranges),
            then_at: self.then.0,
            then_sp: self.then.1,
            starts: self.starts,
            catch_faults: self.catch_faults,
            stack_bytes: self.stack_bytes,
            reads: Repeated::from_slice(&reads),
            ..Default::default()
        };
        // Packed, and behind the others: fields may come in any order.
        let mut bytes = encoded(&call);
        for (field, all) in [(6, self.plant.as_deref().unwrap_or_default()), (15, &self.hardware)] {
            let mut packed = Vec::new();
            for at in all {
                varint(*at, &mut packed);
            }
            if !packed.is_empty() {
                varint(field << 3 | 2, &mut bytes);
                varint(packed.len() as u32, &mut bytes);
                bytes.extend(packed);
            }
        }
        bytes
    }
}

fn varint(mut value: u32, into: &mut Vec<u8>) {
    while value > 0x7f {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

pub(crate) fn encoded<'m>(message: &impl msg::Message<'m>) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len()];
    let mut cursor = &mut bytes[..];
    message.encode(&mut cursor).unwrap();
    bytes
}

/// A stop as a developer's end is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub number: u32,
    pub reason: DebugStopReason,
    pub registers: Vec<u32>,
    pub stack_at: u32,
    pub stack: Vec<u8>,
    pub fault: CrashKind,
    pub cfsr: u32,
    pub uptime_us: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub call: u32,
    pub state: DebugState,
    pub starts: u32,
    pub stop: Option<Stopped>,
    pub data: Vec<Vec<u8>>,
    pub problem: DebugProblem,
    pub problem_at: u32,
    pub target: Option<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub version: String,
    pub manifest: Vec<u8>,
    pub regions: usize,
    pub read_only: bool,
    pub read_bytes_max: u32,
    pub hold_s: u32,
    pub hardware_breakpoints_max: u32,
}

impl Told {
    pub(crate) fn decode(bytes: &[u8]) -> Told {
        let answer = DebugAnswer::decode(bytes).unwrap();
        Told {
            call: answer.call,
            state: known(answer.state),
            starts: answer.starts,
            stop: answer.stop.map(|stop| Stopped {
                number: stop.number,
                reason: known(stop.reason),
                registers: stop
                    .registers
                    .chunks_exact(4)
                    .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
                    .collect(),
                stack_at: stop.stack_at,
                stack: stop.stack.to_vec(),
                fault: known(stop.fault),
                cfsr: stop.cfsr,
                uptime_us: stop.uptime_us,
            }),
            data: answer.data.iter().map(|data| data.unwrap().data.to_vec()).collect(),
            problem: known(answer.problem),
            problem_at: answer.problem_at,
            target: answer.target.map(|target: DebugTarget<'_>| Target {
                version: target.version.to_owned(),
                manifest: target.manifest_digest.to_vec(),
                regions: target.regions.iter().map(Result::unwrap).count(),
                read_only: target.read_only,
                read_bytes_max: target.read_bytes_max,
                hold_s: target.hold_s,
                hardware_breakpoints_max: target.hardware_breakpoints_max,
            }),
        }
    }

    pub(crate) fn reason(&self) -> DebugStopReason {
        self.stop.as_ref().map_or(DebugStopReason::Unspecified, |stop| stop.reason)
    }

    pub(crate) fn pc(&self) -> u32 {
        self.stop.as_ref().unwrap().registers[15]
    }

    pub(crate) fn refused(&self) -> (DebugProblem, u32) {
        (self.problem, self.problem_at)
    }
}

fn known<E: Enumeration>(value: EnumValue<E>) -> E {
    match value {
        EnumValue::Known(value) => value,
        EnumValue::Unknown(value) => panic!("{value}"),
    }
}

/// One device, as far as a session is concerned.
#[derive(Debug)]
pub(crate) struct World {
    pub agent: Agent,
    pub probe: SimProbe,
    pub number: u32,
    pub watcher: Watcher,
    /// Calls of the watcher's.
    pub watched: u32,
    pub now_ms: u64,
    pub starts: u32,
    pub updating: bool,
    pub can_start: bool,
    pub hold_s: u32,
    pub room: usize,
    /// Which version runs.
    pub version: u8,
}

impl World {
    /// A program that runs, and a session that has just begun.
    pub(crate) fn new(program: &[u16]) -> World {
        World::with(Machine::new(program))
    }

    pub(crate) fn with(machine: Machine) -> World {
        let mut world = World {
            agent: Agent::new(),
            probe: SimProbe::new(machine),
            number: 0,
            watcher: Watcher::default(),
            watched: 0,
            now_ms: 1000,
            starts: 1,
            updating: false,
            can_start: true,
            hold_s: 60,
            room: ROOM,
            version: 7,
        };
        world.before_start();
        world.agent.started(&mut world.probe);
        world.agent.begin(&mut world.probe);
        world
    }

    /// The same, halted before its first instruction.
    pub(crate) fn halted(program: &[u16]) -> World {
        World::halted_with(Machine::new(program))
    }

    pub(crate) fn halted_with(machine: Machine) -> World {
        let mut world = World::with(machine);
        world.probe.budget = 0;
        let told = world.call(&Call::go(DebugGo::Halt)).unwrap();
        assert_eq!((told.state, told.reason()), (DebugState::Halted, DebugStopReason::Halt));
        world.probe.budget = 1000;
        world
    }

    fn with_scene<R>(&mut self, does: impl FnOnce(&mut Agent, &Scene<'_>, &mut SimProbe) -> R) -> R {
        let scene = Scene {
            now_ms: self.now_ms,
            starts: self.starts,
            can_start: self.can_start,
            updating: self.updating,
            manifest: Some(Digest([self.version; 32])),
            version: "1.2.3",
            image: Some(Digest([8; 32])),
            image_bytes: 16384,
            hold_s: self.hold_s,
            microvisor: Version { major: 1, minor: 2, patch: 3 },
            board: "sim",
        };
        does(&mut self.agent, &scene, &mut self.probe)
    }

    pub(crate) fn call(&mut self, call: &Call) -> Option<Told> {
        self.number += 1;
        let bytes = call.bytes(self.number);
        self.take(&bytes, Access::Write)
    }

    /// The watcher calls.
    pub(crate) fn watch(&mut self, call: &Call) -> Told {
        self.watched += 1;
        self.watch_bytes(&call.bytes(self.watched))
    }

    pub(crate) fn watch_bytes(&mut self, call: &[u8]) -> Told {
        let mut watcher = core::mem::take(&mut self.watcher);
        let room = core::mem::replace(&mut self.room, WATCH_ROOM);
        let told = self.take(call, Access::Read(&mut watcher)).unwrap();
        (self.watcher, self.room) = (watcher, room);
        told
    }

    /// What the watcher is told by itself.
    pub(crate) fn show(&mut self) -> Option<Told> {
        let mut watcher = core::mem::take(&mut self.watcher);
        let mut out = vec![0xa5; WATCH_ROOM];
        let length = self.with_scene(|agent, scene, probe| agent.show(&mut watcher, scene, probe, &mut out));
        self.watcher = watcher;
        length.map(|length| Told::decode(&out[..length]))
    }

    pub(crate) fn take(&mut self, call: &[u8], access: Access<'_>) -> Option<Told> {
        let mut out = vec![0xa5; self.room];
        let length =
            self.with_scene(|agent, scene, probe| agent.take(call, access, scene, probe, &mut out))?;
        Some(Told::decode(&out[..length]))
    }

    pub(crate) fn poll(&mut self) -> Option<Told> {
        let mut out = vec![0xa5; self.room];
        let length = self.with_scene(|agent, scene, probe| agent.poll(scene, probe, &mut out))?;
        Some(Told::decode(&out[..length]))
    }

    /// The device looks, and there is no place for a frame.
    pub(crate) fn look(&mut self) {
        self.with_scene(|agent, scene, probe| agent.look(scene, probe));
    }

    /// The answer to a `go`, as soon as it comes.
    pub(crate) fn goes(&mut self, call: &Call) -> Told {
        let told = self.call(call);
        told.or_else(|| (0..200).find_map(|_| self.poll())).unwrap()
    }

    pub(crate) fn end(&mut self) {
        self.agent.end(&mut self.probe);
    }

    /// The device starts the application anew.
    pub(crate) fn restart(&mut self, machine: Machine) {
        self.stop();
        self.starts += 1;
        self.before_start();
        self.probe.start(machine);
        self.agent.started(&mut self.probe);
    }

    pub(crate) fn before_start(&mut self) {
        self.agent.before_start(Some(Digest([self.version; 32])), self.starts, &mut self.probe);
    }

    /// The device stops the application.
    pub(crate) fn stop(&mut self) {
        self.agent.stopping(&mut self.probe);
        self.probe.held = None;
        self.probe.ended = true;
    }

    /// The program in memory now, breakpoints and all.
    pub(crate) fn code(&self) -> &[u8] {
        &self.probe.machine.code
    }
}
