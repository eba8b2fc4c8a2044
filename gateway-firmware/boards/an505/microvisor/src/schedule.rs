//! Two threads on one core: the supervisor's and the application's.
//!
//! `abi::turn` decides who runs; this does it, in handlers of one priority: the one-shot SysTick, PendSV, and the
//! Ethernet controller's. A thread is what a handler's [`Context`] holds and four special registers. While the
//! supervisor runs, BASEPRI keeps the application's interrupts off, so that none of them lands in the supervisor's
//! frames; they wait for a slice at most.
//!
//! An application that a debugger holds cannot run, and nothing about it is judged: it neither hangs nor is it paused. It is held
//! only in its own code. A call that a halt finds it in ends first, from a handler too: its last step plants a breakpoint where it
//! goes back to (`probe::trap`), unless a look at the application in between finds it in its own code.
//!
//! While the application is in a call from one of its handlers, whose frames share the handlers' stack, it keeps the core: for
//! long only if it wants to, and then it is ended.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::turn::{Standing, Supervisor, Who, decide, retry_cycles};
use chip::map::secure;
use chip::special::{
    basepri, faultmask_ns, primask_ns, psp, psplim, set_basepri, set_psp, set_psplim, undisturbed, wait,
};
use chip::{clock, nvic, scb, systick};
use gateway_core::ports::Held;
use wire::msg::CrashKind;

use crate::application::{self, HUNG_US, TRIAL_US};
use crate::exceptions::{Context, LAN, exc_return};
use crate::fault::{self, Frame};
use crate::probe::{self, trap};
use crate::shared::Shared;
use crate::stacks::Stack;
use crate::world::NO_APP_INTERRUPTS;

/// How the core was shared since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// The application ran for so long.
    pub app_us: u64,
    /// The supervisor ran for so long while the application could have.
    pub supervisor_us: u64,
    /// Times the core went from the application to the supervisor.
    pub pauses: u64,
    /// The longest time from there and back.
    pub app_pause_max_us: u32,
    /// The longest time interrupts of the application's were kept from it, as far as this side sees: its longest pause. A
    /// call that is paused adds itself, less than 100 us; what an interrupt really waited its handler can tell.
    pub ns_irq_wait_max_us: u32,
}

/// A thread that does not run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread {
    pub(crate) registers: [u32; 8],
    pub(crate) exc_return: u32,
    pub(crate) psp: u32,
    pub(crate) psplim: u32,
    pub(crate) basepri: u32,
}

/// The application is to be held as soon as it is in its own code. Every call of its looks at this.
static HALT: AtomicBool = AtomicBool::new(false);

fn halt_waits() -> bool {
    HALT.load(Ordering::Relaxed)
}

/// How the application begins once the first few instructions that are not its own are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    pub(crate) sp: u32,
    /// As in its vectors: with the bit that says Thumb.
    pub(crate) pc: u32,
}

/// So often an application is looked at that is to be held and is in a call, or whose interrupts a debugger holds off: one that
/// waits for an interrupt then goes on by this one.
const LOOK_US: u64 = 200;

/// What is found out about an application that does not answer.
#[derive(Debug, Clone, Copy)]
struct Trial {
    since_us: u64,
    answered: bool,
}

#[derive(Debug)]
struct State {
    current: Who,
    since_us: u64,
    /// The application can run.
    app: bool,
    supervisor: Supervisor,
    /// Something happened that the supervisor has not looked at.
    woken: bool,
    /// Times in a row that a call from a handler kept the core.
    kept: u32,
    /// Since when.
    kept_since_us: u64,
    /// When the application's slice is over and the supervisor, which works, has its turn.
    turn_us: Option<u64>,
    /// How much later than that it came, the last time.
    late_us: u64,
    /// Whoever is not `current`.
    other: Thread,
    /// When the application was last seen to do what a sound one does: see `application::answers`.
    answered_us: u64,
    /// It has not answered for too long. Since then its interrupts are held off: a handler that ends now goes back to a thread, and
    /// then it was not this handler that hung.
    trial: Option<Trial>,
    /// A debugger holds it: it cannot run.
    held: Option<Held>,
    /// Its frame while it is held, once a debugger has changed anything: below a stack is nothing but what a debugger may write there.
    frame: Option<Frame>,
    /// Until it is held again its interrupts are held off.
    masked: bool,
    /// It has not run yet.
    beginning: Option<Beginning>,
    statistics: Statistics,
    on_lan: fn(),
}

static STATE: Shared<State> = Shared::new(State {
    current: Who::Supervisor,
    since_us: 0,
    app: false,
    supervisor: Supervisor::Ready,
    woken: false,
    kept: 0,
    kept_since_us: 0,
    turn_us: None,
    late_us: 0,
    other: Thread { registers: [0; 8], exc_return: 0, psp: 0, psplim: 0, basepri: 0 },
    answered_us: 0,
    trial: None,
    held: None,
    frame: None,
    masked: false,
    beginning: None,
    statistics: Statistics {
        app_us: 0,
        supervisor_us: 0,
        pauses: 0,
        app_pause_max_us: 0,
        ns_irq_wait_max_us: 0,
    },
    on_lan: || {},
});

/// Becomes the supervisor's thread.
pub fn start(supervisor: extern "C" fn() -> !) -> ! {
    let (handler, gateway, own) = (Stack::handler(), Stack::gateway(), Stack::supervisor());
    [handler, gateway, own].into_iter().for_each(Stack::seal);
    // SAFETY: from here on nothing of this thread's past is used: its stack becomes the handlers', empty; the supervisor
    // begins on its own stack, empty and sealed, within its limit.
    unsafe {
        asm!(
            "msr basepri, {mask}",
            "msr psplim, {limit}",
            "msr psp, {top}",
            "msr control, {process_stack}",
            "isb",
            "msr msp, {handlers}",
            "bx {supervisor}",
            mask = in(reg) NO_APP_INTERRUPTS,
            limit = in(reg) own.limit,
            top = in(reg) own.top(),
            process_stack = in(reg) 2,
            handlers = in(reg) handler.top(),
            supervisor = in(reg) supervisor,
            options(noreturn),
        )
    }
}

/// Leaves the core to the application, or asleep, until this time or until [`wake`]. By the supervisor only.
///
/// It returns at once when something happened since it last returned.
pub fn idle(until_us: Option<u64>) {
    let go_on = STATE.with(|state| {
        if !state.woken {
            state.supervisor = Supervisor::Sleeps { until_us };
        }
        core::mem::take(&mut state.woken)
    });
    if go_on {
        return;
    }
    // Now the core goes to an application that can run; if there is none, a timer is set and this goes on.
    scb::pend_switch();
    loop {
        // Between the look and the sleep nothing may happen unseen: masked interrupts end the sleep all the same.
        let awake = undisturbed(|| {
            let awake = STATE.with(|state| state.supervisor == Supervisor::Ready);
            if !awake {
                wait();
            }
            awake
        });
        if awake {
            return;
        }
    }
}

/// Something happened that the supervisor has to look at. From anywhere.
pub fn wake() {
    STATE.with(|state| state.woken = true);
    scb::pend_switch();
}

/// From now on the Ethernet controller's interrupts call this and then wake the supervisor. The hook ends what the
/// controller asks for; its interrupt pin must have been set up, or it asks for ever.
pub fn on_lan(hook: fn()) {
    STATE.with(|state| state.on_lan = hook);
    nvic::enable(chip::map::irq::LAN9118);
}

/// How the core was shared since the start, or since the statistics were last taken anew.
pub fn statistics() -> Statistics {
    STATE.with(|state| state.statistics)
}

/// Begins the statistics anew.
pub fn restart_statistics() {
    STATE.with(|state| state.statistics = Statistics::default());
}

/// The application runs from now on, like this, unless a debugger wants it held. By the supervisor only.
pub(crate) fn run_app(thread: Thread, beginning: Beginning) {
    STATE.with(|state| {
        (state.other, state.app, state.beginning) = (thread, true, Some(beginning));
        state.goes_on();
        if probe::holds_start() {
            state.hold(Held::Start);
        } else if halt_waits() {
            state.hold(Held::Asked);
        }
    });
    scb::pend_switch();
}

/// The application does not run any more. By the supervisor only.
pub(crate) fn end_app() {
    STATE.with(State::ends);
}

/// The application is to be held. By the supervisor only.
pub(crate) fn halt_app() {
    STATE.with(|state| {
        let halt = state.held.is_none();
        HALT.store(halt, Ordering::Relaxed);
        if halt && state.app && Context::of(&state.other).of_app() {
            state.hold(Held::Asked);
        }
    });
}

/// Why the application is held.
pub(crate) fn app_held() -> Option<Held> {
    STATE.with(|state| state.held)
}

/// What it is held with, whether that is before it ran, and its frame if that is not on its stack. By the supervisor only.
pub(crate) fn with_held<R>(
    f: impl FnOnce(&mut Thread, Option<Beginning>, &mut Option<Frame>) -> R,
) -> Option<R> {
    STATE.with(|state| state.held.map(|_| f(&mut state.other, state.beginning, &mut state.frame)))
}

/// Nobody wants it held: it goes on, with its interrupts kept from it until it is held again, or ends if a fault held it. By the
/// supervisor only.
pub(crate) fn resume_app(masked: bool) {
    let held = STATE.with(|state| {
        trap::lift();
        let held = state.held.take();
        HALT.store(false, Ordering::Relaxed);
        state.masked = masked && held.is_some();
        if let Some(frame) = state.frame.take().filter(|_| !matches!(held, None | Some(Held::Fault(_)))) {
            fault::set_app_frame(fault::app_sp(&Context::of(&state.other)), frame);
        }
        match held {
            Some(Held::Fault(_)) => {
                state.ends();
                state.woken = true;
            }
            Some(_) => state.goes_on(),
            None => {}
        }
        state.mask_app();
        held
    });
    if matches!(held, Some(Held::Fault(_))) {
        fault::end_held();
    }
    scb::pend_switch();
}

/// The application has come upon a breakpoint instruction, there: holds it, and the supervisor goes on. False: that is nobody's.
pub(crate) fn at_breakpoint(context: &mut Context, pc: u32) -> bool {
    let why = if trap::is_at(pc) { Held::Asked } else { Held::Breakpoint };
    let holds = why == Held::Asked || probe::attached();
    if holds {
        hold_app(context, why);
    }
    holds
}

/// The application's exception holds it: the supervisor goes on.
pub(crate) fn hold_app(context: &mut Context, why: Held) {
    STATE.with(|state| {
        state.hold(why);
        state.decide(context);
    });
}

/// A call of the application's is over but for going back there. One that goes back to a veneer, and so never to the application, could
/// not be held: it faults.
pub(crate) fn leaves_call(return_to: &mut u32) {
    if !halt_waits() {
        return;
    }
    undisturbed(|| {
        // Nobody may want it any more.
        if halt_waits() && !trap::set(*return_to & !1) {
            let to_veneer = (*return_to).wrapping_sub(secure::GATEWAY_AT) < secure::GATEWAY_BYTES;
            *return_to = if to_veneer { 0 } else { *return_to };
        }
    });
}

/// The application hangs: in one handler or with its interrupts off, or in handlers that begin anew without end.
pub(crate) fn hang() -> Option<CrashKind> {
    STATE.with(|state| {
        let Trial { since_us, answered } = state.trial.filter(|_| state.app)?;
        let over = clock::now_us() >= since_us + TRIAL_US;
        over.then_some(if answered { CrashKind::InterruptFlood } else { CrashKind::Hung })
    })
}

/// When to look at an application that does not answer.
pub(crate) fn trial_ends_us() -> Option<u64> {
    STATE.with(|state| state.trial.filter(|_| state.app).map(|trial| trial.since_us + TRIAL_US))
}

/// The application's thread as it stands. By the supervisor only, so that it does not run.
pub(crate) fn app_context() -> Context {
    STATE.with(|state| Context::of(&state.other))
}

/// SysTick, PendSV and the Ethernet controller.
pub(crate) extern "C" fn scheduled(context: &mut Context, exception: u32) {
    if exception == LAN {
        let hook = STATE.with(|state| state.on_lan);
        hook();
        STATE.with(|state| state.woken = true);
    }
    STATE.with(|state| state.decide(context));
}

/// The core is the application's, in its own code or in a call. For fault handlers.
pub(crate) fn app_has_core() -> bool {
    STATE.with(|state| state.app && state.current == Who::App)
}

/// The application's last exception: it has ended, the supervisor goes on.
pub(crate) fn app_faulted(context: &mut Context) {
    STATE.with(|state| {
        state.ends();
        state.woken = true;
        state.decide(context);
    });
}

impl State {
    fn ends(&mut self) {
        trap::lift();
        (self.app, self.held, self.frame, self.masked, self.beginning) = (false, None, None, false, None);
    }

    /// From now on it cannot run.
    fn hold(&mut self, why: Held) {
        trap::lift();
        HALT.store(false, Ordering::Relaxed);
        (self.held, self.frame, self.masked, self.trial, self.woken) = (Some(why), None, false, None, true);
    }

    /// Holds off the interrupts of an application that does not run, or does not any more. In a call the mask is the call's, which
    /// puts back what was before it.
    fn mask_app(&mut self) {
        let off = self.trial.is_some() || self.masked;
        if off || Context::of(&self.other).of_app() {
            self.other.basepri = if off { NO_APP_INTERRUPTS } else { 0 };
        }
    }

    /// It can run, and begins to be judged.
    fn goes_on(&mut self) {
        let now_us = clock::now_us();
        (self.since_us, self.answered_us, self.trial) = (now_us, now_us, None);
    }

    fn decide(&mut self, context: &mut Context) {
        if self.app && self.current == Who::App && !context.of_app() && !context.of_thread() {
            let now_us = clock::now_us();
            if self.kept == 0 {
                self.kept_since_us = now_us;
            }
            match retry_cycles(self.kept, now_us.saturating_sub(self.kept_since_us)) {
                Some(cycles) => {
                    self.kept += 1;
                    return systick::after_cycles(cycles);
                }
                None => {
                    fault::note(context, CrashKind::Unyielding);
                    self.ends();
                    self.woken = true;
                }
            }
        }
        self.kept = 0;
        if halt_waits() && self.app && self.current == Who::App && context.of_app() {
            self.hold(Held::Asked);
        }
        let now_us = clock::now_us();
        let supervisor = if self.woken { Supervisor::Ready } else { self.supervisor };
        let (current, since_us, app) = (self.current, self.since_us, self.app && self.held.is_none());
        if current == Who::App {
            self.late_us = self.turn_us.map_or(0, |turn_us| now_us.saturating_sub(turn_us));
        }
        let late_us = self.late_us;
        let turn = decide(Standing { current, since_us, app, supervisor, late_us }, now_us);
        if turn.woken && self.supervisor != Supervisor::Ready {
            (self.supervisor, self.woken) = (Supervisor::Ready, false);
        }
        if turn.who != self.current {
            self.switch(context, now_us);
        }
        self.turn_us = turn.until_us.filter(|_| turn.woken && turn.who == Who::App);
        let look_us = ((halt_waits() || self.masked) && turn.who == Who::App).then_some(now_us + LOOK_US);
        match turn.until_us.into_iter().chain(look_us).min() {
            Some(until_us) => {
                // From here, for deciding and switching took their time: a slice has that in it.
                let us = until_us.saturating_sub(clock::now_us());
                systick::after(u32::try_from(us).unwrap_or(systick::LONGEST_US));
            }
            None => systick::stop(),
        }
    }

    fn switch(&mut self, context: &mut Context, now_us: u64) {
        self.account(context, now_us);
        // Word by word: a `memcpy` made small takes longer than all the rest.
        for (ours, theirs) in self.other.registers.iter_mut().zip(&mut context.registers) {
            core::mem::swap(ours, theirs);
        }
        core::mem::swap(&mut self.other.exc_return, &mut context.exc_return);
        let next = (self.other.psp, self.other.psplim, self.other.basepri);
        (self.other.psp, self.other.psplim, self.other.basepri) = (psp(), psplim(), basepri());
        if self.current == Who::Supervisor {
            self.mask_app();
        }
        // SAFETY: a handler runs on the handler stack; these are the next thread's own, as it left them or as
        // `application` made them.
        unsafe {
            set_psplim(0);
            set_psp(next.0);
            set_psplim(next.1);
            set_basepri(next.2);
        }
    }

    fn account(&mut self, context: &Context, now_us: u64) {
        let had_us = now_us.saturating_sub(self.since_us);
        match self.current {
            Who::App => {
                self.statistics.app_us += had_us;
                self.statistics.pauses += 1;
                let answers = application::answers(context, primask_ns() | faultmask_ns());
                match &mut self.trial {
                    _ if self.held.is_some() => {}
                    Some(trial) => trial.answered |= answers,
                    None if answers => self.answered_us = now_us,
                    None if now_us.saturating_sub(self.answered_us) > HUNG_US => {
                        self.trial = Some(Trial { since_us: now_us, answered: false });
                    }
                    None => {}
                }
                self.current = Who::Supervisor;
            }
            Who::Supervisor => {
                self.statistics.supervisor_us += had_us;
                let pause_us = u32::try_from(had_us).unwrap_or(u32::MAX);
                // The first turn of an application is no end of a pause.
                if self.statistics.pauses > 0 {
                    let longest = &mut self.statistics.app_pause_max_us;
                    *longest = pause_us.max(*longest);
                    self.statistics.ns_irq_wait_max_us = *longest;
                }
                self.current = Who::App;
                self.beginning = None;
            }
        }
        self.since_us = now_us;
    }
}

const _: () = assert!(exc_return::TO_APP_THREAD & exc_return::SECURE == 0);
