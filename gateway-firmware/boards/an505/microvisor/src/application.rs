//! The application: put where it runs, started as after a reset, ended whatever it is doing.
//!
//! It runs as a thread of `schedule`. What it said is taken by the supervisor as events; how it is, is a level.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use chip::map::app;
use chip::special::{
    set_basepri_ns, set_control_ns, set_faultmask_ns, set_msp, set_msp_ns, set_msplim_ns, set_primask_ns,
    set_psp_ns, set_psplim_ns,
};
use chip::{nvic, peripherals, scb};
use gateway_core::crash::Crash;
use gateway_core::ports::{App, AppError, AppStatus, Flash, Image, Life, StartReason};

use crate::events;
use crate::exceptions::{Context, exc_return};
use crate::fault::{self, FaultRecord, Frame, app_frame, app_sp};
use crate::gateway;
use crate::schedule::{self, Beginning, Thread};
use crate::stacks::Stack;

/// An application that in all this time was seen only inside its handlers, or with interrupts off, and made no call, hangs.
pub const HUNG_US: u64 = 10_000_000;
/// So long its interrupts are then held off, to tell whether it is one handler that does not end or new ones all the time.
pub const TRIAL_US: u64 = 20_000;
/// Events that are taken in one turn.
pub const EVENTS_MAX: usize = 8;
/// Bytes copied from the store flash at once.
const PIECE_BYTES: usize = 512;
/// Room its first stack has to have, for the frames of handlers that are left behind among it.
const STACK_BYTES_MIN: u32 = 1024;

static LIFE: AtomicU32 = AtomicU32::new(STOPPED);
const STOPPED: u32 = 0;
const RUNNING: u32 = 1;
const CRASHED: u32 = 2;

static HEALTHY: AtomicBool = AtomicBool::new(false);
static HEALTHY_NEWS: AtomicBool = AtomicBool::new(false);
static RESTART_NEWS: AtomicBool = AtomicBool::new(false);
static APPLY: AtomicBool = AtomicBool::new(false);

pub use crate::events::Text;

/// What happened to the application, or what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the supervisor's stack")]
pub enum Event {
    /// It logged this, then.
    Log { at_ms: u64, text: Text },
    /// It called `healthy` for the first time.
    Healthy,
    /// It asked to be started anew, with an update if one waits.
    Restart,
    /// It ended by this.
    Fault(FaultRecord),
}

/// What happened to it, or what it said and nobody took, oldest first. `log`: what it logged is taken too; otherwise it
/// stays in the memory that the application lent. Whoever asks stops after [`EVENTS_MAX`]: an application that says more while it
/// is listened to does not hold up who listens.
pub fn take_event(log: bool) -> Option<Event> {
    fault::take()
        .map(Event::Fault)
        .or_else(|| HEALTHY_NEWS.swap(false, Ordering::Relaxed).then_some(Event::Healthy))
        .or_else(|| RESTART_NEWS.swap(false, Ordering::Relaxed).then_some(Event::Restart))
        .or_else(|| {
            let (at_ms, text) = log.then(events::take_log).flatten()?;
            Some(Event::Log { at_ms, text })
        })
}

/// The application of this board.
#[derive(Debug, Default)]
pub struct Application {
    _one: (),
}

impl App for Application {
    fn start(&mut self, image: Image, flash: &mut dyn Flash, reason: StartReason) -> Result<(), AppError> {
        self.stop();
        copy(image, flash)?;
        gateway::starts(reason);
        start()
    }

    fn stop(&mut self) {
        // One that is held at a fault ends by that.
        fault::end_held();
        schedule::end_app();
        quiet();
        LIFE.store(STOPPED, Ordering::Relaxed);
    }

    fn status(&mut self) -> AppStatus {
        let life = match LIFE.load(Ordering::Relaxed) {
            RUNNING if schedule::hang().is_some() => Life::Hung,
            RUNNING => Life::Running,
            CRASHED => Life::Crashed,
            _ => Life::Stopped,
        };
        AppStatus {
            life,
            healthy: HEALTHY.load(Ordering::Relaxed),
            apply: APPLY.load(Ordering::Relaxed),
            network: gateway::demand(),
        }
    }

    fn update_waits(&mut self) {
        APPLY.store(false, Ordering::Relaxed);
        gateway::update_waits();
    }

    fn tested(&mut self) -> Option<u32> {
        gateway::tested()
    }

    fn take_crash(&mut self) -> Option<Crash> {
        if let (RUNNING, Some(kind)) = (LIFE.load(Ordering::Relaxed), schedule::hang()) {
            schedule::end_app();
            fault::note(&schedule::app_context(), kind);
        }
        fault::take_crash()
    }
}

/// It ended by a fault.
pub(crate) fn crashed() {
    LIFE.store(CRASHED, Ordering::Relaxed);
}

/// It called `healthy`.
pub(crate) fn is_healthy() {
    if !HEALTHY.swap(true, Ordering::Relaxed) {
        HEALTHY_NEWS.store(true, Ordering::Relaxed);
        schedule::wake();
    }
}

/// It asked to be started anew.
pub(crate) fn asks_restart() {
    APPLY.store(true, Ordering::Relaxed);
    RESTART_NEWS.store(true, Ordering::Relaxed);
    schedule::wake();
}

/// Whether the application, interrupted here, does what a sound one does now and then: calls us, runs a thread with
/// interrupts on, or waits for an interrupt.
pub(crate) fn answers(context: &Context, masks: u32) -> bool {
    if !context.of_app() || (context.of_thread() && masks == 0) {
        return true;
    }
    app_frame(app_sp(context)).is_some_and(|frame| waits_before(frame.pc))
}

/// The instruction before this address is WFI or WFE.
fn waits_before(pc: u32) -> bool {
    const WFE: u16 = 0xBF20;
    const WFI: u16 = 0xBF30;
    let at = pc.wrapping_sub(2);
    if at & 1 != 0 || !abi::memory::owns(&crate::world::REGIONS, at, 2, abi::Access::Read) {
        return false;
    }
    // SAFETY: aligned, in memory of the application's.
    let instruction = unsafe { (at as *const u16).read_volatile() };
    instruction == WFI || instruction == WFE
}

/// Puts the image where it runs, and looks whether it is there.
fn copy(image: Image, flash: &mut dyn Flash) -> Result<(), AppError> {
    if image.bytes > app::CODE_BYTES || image.bytes < 8 {
        return Err(AppError);
    }
    let mut piece = [0; PIECE_BYTES];
    for offset in (0..image.bytes).step_by(PIECE_BYTES) {
        let piece = &mut piece[..(image.bytes - offset).min(PIECE_BYTES as u32) as usize];
        flash.read(image.at + offset, piece).map_err(|_| AppError)?;
        // SAFETY: in the application's code, which does not run and in which no Rust object of ours lies.
        let there =
            unsafe { core::slice::from_raw_parts_mut((app::CODE_AT + offset) as *mut u8, piece.len()) };
        there.copy_from_slice(piece);
        if core::hint::black_box(&*there) != piece {
            return Err(AppError);
        }
    }
    Ok(())
}

/// Starts what lies there. Nothing of what ran before is left: not its interrupts, peripherals, masks or MPU.
pub fn start() -> Result<(), AppError> {
    let (stack, entry) = vectors()?;
    schedule::end_app();
    quiet();
    forget();
    set_control_ns(0);
    set_faultmask_ns(0);
    set_basepri_ns(0);
    set_msplim_ns(0);
    set_psplim_ns(0);
    set_psp_ns(0);
    // Until the stub turned SysTick off and forgot it, nothing may interrupt.
    set_primask_ns(1);
    stub::put();
    // SAFETY: this is a thread of ours, and no handler runs: whatever calls from handlers left there is over.
    unsafe { set_msp(Stack::handler().top()) };
    Stack::gateway().seal();

    let mut sp = push(stack, stub::start_frame(entry));
    let mut thread = Thread {
        registers: stub::REGISTERS,
        exc_return: exc_return::TO_APP_THREAD,
        psp: Stack::gateway().top(),
        psplim: Stack::gateway().limit,
        basepri: 0,
    };
    // Handlers that never returned: no write ends an active interrupt, only a return does. Each returns to the next.
    let mut back = exc_return::APP_TO_THREAD;
    for irq in nvic::active_of_app() {
        sp = push(sp, stub::return_frame(back, irq));
        back = exc_return::APP_TO_HANDLER;
        thread.exc_return = exc_return::TO_APP_HANDLER;
    }
    set_msp_ns(sp);
    LIFE.store(RUNNING, Ordering::Relaxed);
    schedule::run_app(thread, Beginning { sp: stack, pc: entry });
    Ok(())
}

/// The stack and the entry that its first two words say, if they can be right.
fn vectors() -> Result<(u32, u32), AppError> {
    // SAFETY: the first words of the application's code.
    let [stack, entry] = unsafe { (app::CODE_AT as *const [u32; 2]).read_volatile() };
    let stack_fits =
        (app::RAM_AT + STACK_BYTES_MIN..=app::RAM_AT + app::RAM_BYTES).contains(&stack) && stack % 8 == 0;
    let entry_fits = (app::CODE_AT + 8..app::CODE_AT + app::CODE_BYTES).contains(&entry) && entry & 1 == 1;
    if stack_fits && entry_fits { Ok((stack, entry)) } else { Err(AppError) }
}

fn quiet() {
    nvic::quiet_app();
    peripherals::quiet();
    nvic::quiet_app();
    scb::reset_app(app::CODE_AT);
}

fn forget() {
    gateway::forget();
    for flag in [&HEALTHY, &HEALTHY_NEWS, &RESTART_NEWS, &APPLY] {
        flag.store(false, Ordering::Relaxed);
    }
}

/// Puts a frame on the application's stack.
fn push(sp: u32, frame: Frame) -> u32 {
    let sp = sp - size_of::<Frame>() as u32;
    // SAFETY: `vectors` saw to it that there is room in the application's RAM, which does not run.
    unsafe { (sp as *mut Frame).write_volatile(frame) };
    sp
}

/// The few instructions that must run in the application's world, and how they are reached.
mod stub {
    use chip::map::app::STUB_AT;

    use crate::fault::Frame;

    /// Turns SysTick off (its alias is closed to us: TRUSTZONE.md), forgets it, cleans up and goes to the entry.
    const START: [u16; 9] = [
        0x600A, // str r2, [r1]     SysTick's CSR = 0
        0x6025, // str r5, [r4]     ICSR = PENDSTCLR
        0x2100, // movs r1, #0
        0x2400, // movs r4, #0
        0x2500, // movs r5, #0
        0xB662, // cpsie i
        0x4718, // bx r3
        0x4770, // bx lr            RETURN_AT
        0xBF00, // nop
    ];
    const RETURN_AT: u32 = STUB_AT + 2 * 7;
    const SYSTICK_CSR: u32 = 0xE000_E010;
    const ICSR: u32 = 0xE000_ED04;
    const PENDSTCLR: u32 = 1 << 25;
    const THUMB: u32 = 1 << 24;

    /// r4 to r11 for `START`.
    pub(super) const REGISTERS: [u32; 8] = [ICSR, PENDSTCLR, 0, 0, 0, 0, 0, 0];

    pub(super) fn put() {
        // SAFETY: the stub block is the application's memory, kept free for this; it does not run.
        unsafe { (STUB_AT as *mut [u16; 9]).write_volatile(START) };
        chip::special::barrier();
    }

    pub(super) fn start_frame(entry: u32) -> Frame {
        Frame { r1: SYSTICK_CSR, r3: entry, lr: !0, pc: STUB_AT, xpsr: THUMB, ..Frame::default() }
    }

    /// A handler of this interrupt, about to return by `lr`.
    pub(super) fn return_frame(lr: u32, irq: u32) -> Frame {
        Frame { lr, pc: RETURN_AT, xpsr: THUMB | (16 + irq), ..Frame::default() }
    }
}
