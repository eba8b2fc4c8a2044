//! The device under a debugger: its agent, and what the agent may know of it.
//!
//! A session holds nothing up. What runs is measured, stopped and started as if there were none; the agent is only told before.

use noise::PublicKey;

use super::{Device, Next};
use crate::debug::{Access, Agent, Deed, Scene, Watcher};
use crate::ports::{App as _, AppStatus, Board, Clock as _, Life, Ports, Probe as _, StartReason};
use crate::supervise::Phase;
use crate::update::State;

impl<B: Board> Device<'_, B> {
    /// A session's first frame was verified.
    pub fn debug_begin(&mut self, key: PublicKey) {
        self.debugger = Some(key);
        self.agent.begin(&mut self.ports.probe);
    }

    /// The session is over.
    pub fn debug_end(&mut self) {
        self.debugger = None;
        self.agent.end(&mut self.ports.probe);
    }

    /// Takes a session's call. `Some(n)`: the first n bytes of `out` are the answer. None: the next stop answers.
    pub fn debug_take(&mut self, call: &[u8], access: Access<'_>, out: &mut [u8]) -> Option<usize> {
        self.debugs(|agent, scene, ports| agent.take(call, access, scene, &mut ports.probe, out))
    }

    /// What there is to tell a session by itself.
    pub fn debug_poll(&mut self, out: &mut [u8]) -> Option<usize> {
        self.debugs(|agent, scene, ports| agent.poll(scene, &mut ports.probe, out))
    }

    /// What there is to tell one who only watches.
    pub fn debug_show(&mut self, watcher: &mut Watcher, out: &mut [u8]) -> Option<usize> {
        self.debugs(|agent, scene, ports| agent.show(watcher, scene, &mut ports.probe, out))
    }

    /// When `debug_poll` is wanted again at the latest.
    pub fn debug_deadline(&self) -> Next {
        next(self.agent.deadline_ms())
    }

    /// The oldest deed of a session's not taken yet, for the log.
    pub fn debug_done(&mut self) -> Option<Deed> {
        self.agent.take_done()
    }

    /// The application is about to be started: under a debugger only if its manifest names the developer.
    pub(crate) fn before_start(&mut self) {
        let keys = self.running.as_ref().map(|running| &running.debug_keys);
        if self.debugger.is_some_and(|key| keys.is_none_or(|keys| !keys.contains(&key))) {
            self.debug_end();
        }
        let manifest = self.running.as_ref().map(|running| self.ledger.slots[running.slot].manifest);
        self.agent.before_start(manifest, self.counters.app_starts, &mut self.ports.probe);
    }

    /// Does what the agent has due, whether or not there is room to tell of it.
    pub(crate) fn poll_debug(&mut self, now_ms: u64) -> Next {
        self.debugs(|agent, scene, ports| agent.look(scene, &mut ports.probe));
        if self.agent.take_restart() {
            self.restart_for_debugger(now_ms);
            return Next::Now;
        }
        next(self.agent.due_ms())
    }

    /// How the application is. While a debugger holds it, it neither hangs nor has it ended.
    pub(crate) fn app_status(&mut self) -> AppStatus {
        let mut status = self.ports.app.status();
        if self.is_held() {
            status.life = Life::Running;
        }
        status
    }

    /// A debugger holds the application.
    pub(crate) fn is_held(&mut self) -> bool {
        self.ports.probe.held().is_some()
    }

    /// Stops the application, without a breakpoint of ours in it.
    pub(crate) fn stop_app(&mut self) {
        self.agent.stopping(&mut self.ports.probe);
        self.ports.app.stop();
    }

    /// At once, and by the way of every other start: a trial's is counted.
    fn restart_for_debugger(&mut self, now_ms: u64) {
        if matches!(self.life.phase(), Phase::Off) {
            return;
        }
        self.stop_app();
        self.report_late_crash();
        self.why = StartReason::Restart;
        self.life.wait(now_ms);
    }

    /// Borrowed apart: the agent, what it may know, and the ports.
    fn debugs<R>(&mut self, does: impl FnOnce(&mut Agent, &Scene<'_>, &mut Ports<B>) -> R) -> R {
        let running = self.running.as_ref();
        let slot = running.map(|running| &self.ledger.slots[running.slot]);
        let scene = Scene {
            now_ms: self.ports.clock.now_ms(),
            starts: self.counters.app_starts,
            can_start: !matches!(self.life.phase(), Phase::Off),
            updating: self.state == State::Installing,
            manifest: slot.map(|slot| slot.manifest),
            version: slot.map_or("", |slot| &slot.version),
            image: running.map(|running| running.area_digest),
            image_bytes: running.map_or(0, |running| running.image.bytes),
            hold_s: running.map_or(0, |running| running.crash.debug_hold_s),
            microvisor: self.facts.microvisor,
            board: &self.facts.board,
        };
        does(self.agent, &scene, &mut self.ports)
    }
}

fn next(at_ms: u64) -> Next {
    match at_ms {
        0 => Next::Now,
        u64::MAX => Next::Never,
        at_ms => Next::At(at_ms),
    }
}
