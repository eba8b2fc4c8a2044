//! Faults: one of the application's ends the application, one of ours is noted and ends everything.

use core::fmt::Write as _;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use chip::kept::DEATH_WORDS;
use chip::map::app;
use chip::nvic;
use chip::scb::{self, Faults};
use chip::special::{control_ns, ipsr, msp_ns, msplim_ns, psp, psp_ns, psplim_ns};
use chip::tt;
use chip::uart::Uart;
use gateway_core::crash::{Crash, FaultStatus};
use gateway_core::ports::{BootReason, Held};
use wire::msg::CrashKind;

use crate::exceptions::Context;
use crate::shared::Shared;
use crate::stacks::{Stack, is_seal};
use crate::{application, probe, schedule};

/// What the processor stacks when it takes an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Frame {
    pub r0: u32,
    pub r1: u32,
    pub r2: u32,
    pub r3: u32,
    pub r12: u32,
    pub lr: u32,
    pub pc: u32,
    pub xpsr: u32,
}

pub(crate) const FRAME_BYTES: u32 = size_of::<Frame>() as u32;

/// How an application ended. Its stack is still there: [`crash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRecord {
    pub kind: CrashKind,
    pub at_us: u64,
    pub faults: Faults,
    /// r4 to r11. None: the application was in a call, and they are not its.
    pub registers: Option<[u32; 8]>,
    pub sp: u32,
    pub exc_return: u32,
    /// None: its stack pointer was not in its memory, or what lies there is not what the processor wrote.
    pub frame: Option<Frame>,
}

static LAST: Shared<Option<FaultRecord>> = Shared::new(None);
/// The fault that a debugger holds the application at, before it ends.
static HELD: Shared<Option<FaultRecord>> = Shared::new(None);
/// The supervisor did not say how it ended, nor did the core take it down.
static UNTOLD: AtomicBool = AtomicBool::new(false);
static UNTAKEN: AtomicBool = AtomicBool::new(false);

/// How the application ended, once.
pub(crate) fn take() -> Option<FaultRecord> {
    UNTOLD.swap(false, Ordering::Relaxed).then(|| LAST.with(|last| *last)).flatten()
}

/// The same with what is on its stack, once. Before it is started again, and by the supervisor only.
pub(crate) fn take_crash() -> Option<Crash> {
    UNTAKEN.swap(false, Ordering::Relaxed).then(|| LAST.with(|last| *last)).flatten().map(crash)
}

/// The fault that holds the application.
pub(crate) fn held() -> Option<FaultRecord> {
    HELD.with(|held| *held)
}

/// An application that was held at a fault has ended by it.
pub(crate) fn end_held() {
    if let Some(record) = HELD.with(Option::take) {
        keep(record);
    }
}

fn keep(record: FaultRecord) {
    LAST.with(|last| *last = Some(record));
    UNTOLD.store(true, Ordering::Relaxed);
    UNTAKEN.store(true, Ordering::Relaxed);
    application::crashed();
}

/// Why the secure world ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The processor has fewer regions than the walls need.
    Walls,
    /// A fault of ours: exception number, and where.
    Fault {
        exception: u32,
        pc: u32,
        faults: Faults,
    },
    Panic {
        line: u32,
    },
    /// The watchdog was not fed.
    Watchdog,
}

const NMI: u32 = 2;
const HARD_FAULT: u32 = 3;
const USAGE_FAULT: u32 = 6;
const SECURE_FAULT: u32 = 7;
/// Exceptions below this are faults.
const FAULTS_END: u32 = 8;

/// Every exception that is nobody's business as usual.
pub(crate) extern "C" fn faulted(context: &mut Context, exception: u32) {
    if exception == HARD_FAULT && breakpoint(context).is_some_and(|pc| schedule::at_breakpoint(context, pc)) {
        return scb::forget_hard_fault();
    }
    let faults = Faults::take();
    let forged = !context.of_app() && forged_return(context, exception, &faults);
    if (context.of_app() || forged) && exception != NMI {
        return end_app(context, exception, faults, forged);
    }
    if exception == NMI {
        die(Death::Watchdog);
    }
    die(Death::Fault { exception, pc: stopped_at(context), faults })
}

unsafe extern "C" {
    /// Where a call ends that has not the room it needs.
    fn gateway_full();
}

/// Where secure code was when it was interrupted.
fn stopped_at(context: &Context) -> u32 {
    if context.of_thread() { secure_frame(psp()).pc } else { frame_after(context).pc }
}

/// The handlers' stack is nearly full when a handler of ours begins. Handlers of ours never fill it, so either the
/// application left calls there, and ends; or we fault in faults, and everything does.
pub(crate) extern "C" fn overflowed(context: &mut Context, exception: u32) {
    let faults = Faults::take();
    let ours = exception < FAULTS_END && (scb::handler_under_way() || nvic::handler_under_way());
    if ours || exception == NMI || !schedule::app_has_core() {
        die(Death::Fault { exception, pc: 0, faults });
    }
    end_app(context, exception, faults, true);
}

/// The application ends by this; if a debugger wants to see it, and there is something of the application's own to see, later.
fn end_app(context: &mut Context, exception: u32, faults: Faults, forged: bool) {
    let record = record(context, kind(context, exception, &faults, forged), faults);
    scb::forget_waiting_faults();
    if context.of_app() && !forged && probe::catches_faults() {
        HELD.with(|held| *held = Some(record));
        return schedule::hold_app(context, Held::Fault(record.kind));
    }
    keep(record);
    schedule::app_faulted(context);
}

/// Where the breakpoint instruction is that the application has come upon, if that is what this hard fault is. No debug event is
/// for this world to take on this machine, so that it is escalated, and DFSR is not there: the instruction tells. What the
/// application's own fault registers say of earlier faults is neither asked nor cleared: its handler may be about to read it.
fn breakpoint(context: &Context) -> Option<u32> {
    const FORCED: u32 = 1 << 30;
    const DEBUGEVT: u32 = 1 << 31;
    const THUMB: u32 = 1 << 24;
    let faults = Faults::seen();
    let alone = faults.hfsr & (FORCED | DEBUGEVT) != 0 && (faults.cfsr, faults.sfsr) == (0, 0);
    let frame = stacked(context, &faults).filter(|frame| alone && frame.xpsr & THUMB != 0)?;
    probe::is_breakpoint(frame.pc).then_some(frame.pc)
}

/// The application ends by this, which is no fault. Its context is as the scheduler holds it.
pub(crate) fn note(context: &Context, kind: CrashKind) {
    keep(record(context, kind, Faults::default()));
}

fn kind(context: &Context, exception: u32, faults: &Faults, forged: bool) -> CrashKind {
    const USAGE: u32 = 0xffff_0000;
    const MEMORY: u32 = 0x0000_00ff;
    let sp = app_sp(context);
    // A fault in a handler of faults is more than that fault.
    let twice = stacked(context, faults).is_some_and(|frame| (2..FAULTS_END).contains(&(frame.xpsr & 0x1ff)));
    match exception {
        _ if forged => CrashKind::ForgedReturn,
        _ if faults.cfsr_ns & STKOF != 0 || stacking_failed(faults) || !in_ram(sp) => {
            CrashKind::StackOverflow
        }
        HARD_FAULT if twice => CrashKind::Hard,
        // Its own faults that it has no handler for.
        HARD_FAULT if faults.cfsr_ns & USAGE != 0 => CrashKind::Usage,
        HARD_FAULT if faults.cfsr_ns & MEMORY != 0 => CrashKind::Memory,
        HARD_FAULT => CrashKind::Hard,
        4 => CrashKind::Memory,
        5 => CrashKind::Bus,
        USAGE_FAULT => CrashKind::Usage,
        SECURE_FAULT => CrashKind::Secure,
        _ => CrashKind::Other,
    }
}

/// The application made up a return: to a secure caller or an interrupted secure thread that never was. The processor
/// says that secure code was interrupted then; none was: the application had the core, and no handler of ours runs. Or it
/// made calls, interrupted them and never went back to them, until the stack they are on was full.
fn forged_return(context: &Context, exception: u32, faults: &Faults) -> bool {
    const INVER: u32 = 1 << 1;
    const INVIS: u32 = 1 << 2;
    const INVPC: u32 = 1 << 18;
    if !schedule::app_has_core() || scb::handler_under_way() || nvic::handler_under_way() {
        return false;
    }
    let by_signature = exception == SECURE_FAULT && faults.sfsr & (INVER | INVIS) != 0;
    let by_number =
        exception == HARD_FAULT && faults.cfsr_ns & INVPC != 0 && (faults.cfsr, faults.sfsr) == (0, 0);
    let by_seal = context.of_thread() && is_seal(secure_frame(psp()).pc);
    let full = stopped_at(context) == (gateway_full as *const () as u32 & !1);
    let by_depth = exception == USAGE_FAULT && (faults.cfsr & STKOF != 0 || full);
    by_signature || by_number || by_seal || by_depth
}

fn record(context: &Context, kind: CrashKind, faults: Faults) -> FaultRecord {
    FaultRecord {
        kind,
        at_us: chip::clock::now_us(),
        faults,
        registers: context.of_app().then_some(context.registers),
        sp: app_sp(context),
        exc_return: context.exc_return,
        frame: stacked(context, &faults),
    }
}

/// What the processor stacked of the application, if it could.
fn stacked(context: &Context, faults: &Faults) -> Option<Frame> {
    let sp = app_sp(context);
    // A stack that has run into its limit ends there, and nothing was written below.
    let at_limit = faults.cfsr_ns & STKOF != 0 && sp == app_sp_limit(context);
    if !context.of_app() || at_limit || stacking_failed(faults) { None } else { app_frame(sp) }
}

/// The crash report of a record: everything that is known, and what lies on the stack as far as that is in its RAM.
fn crash(record: FaultRecord) -> Crash {
    const SP: usize = 13;
    let FaultRecord { kind, at_us, faults, registers, sp, exc_return, frame } = record;
    let mut crash = Crash::new(kind, at_us);
    crash.status = status(&faults, exc_return);
    let mut know = |number: usize, value: u32| {
        crash.registers[number] = value;
        crash.registers_known |= 1 << number;
    };
    for (number, value) in (4..).zip(registers.into_iter().flatten()) {
        know(number, value);
    }
    let mut sp = sp;
    if let Some(Frame { r0, r1, r2, r3, r12, lr, pc, xpsr }) = frame {
        let stacked = [(0, r0), (1, r1), (2, r2), (3, r3), (12, r12), (14, lr), (15, pc), (16, xpsr)];
        stacked.into_iter().for_each(|(number, value)| know(number, value));
        sp += stacked_bytes(xpsr);
    }
    know(SP, sp);
    let bytes_max = crash.stack.capacity() as u32;
    // A stack that has just left its RAM: what is on it begins there.
    let left = (1..=bytes_max).contains(&app::RAM_AT.wrapping_sub(sp));
    crash.stack_at = if left { app::RAM_AT } else { sp };
    if in_ram(crash.stack_at) {
        let bytes = (app::RAM_AT + app::RAM_BYTES - crash.stack_at).min(bytes_max);
        // SAFETY: whole in the application's RAM, which does not run and in which no Rust object of ours lies.
        let stack = unsafe { core::slice::from_raw_parts(crash.stack_at as *const u8, bytes as usize) };
        // It fits.
        let _ = crash.stack.extend_from_slice(stack);
    }
    crash
}

/// The registers of a fault as they are reported.
pub(crate) fn status(faults: &Faults, exc_return: u32) -> FaultStatus {
    let Faults { cfsr, hfsr, sfsr, mmfar, bfar, sfar, cfsr_ns } = *faults;
    let cfsr = cfsr | cfsr_ns;
    // An address that is not said to be valid is some other fault's.
    let valid = |status: u32, bit: u32, address: u32| if status >> bit & 1 == 0 { 0 } else { address };
    let (mmfar, bfar, sfar) = (valid(cfsr, 7, mmfar), valid(cfsr, 15, bfar), valid(sfsr, 6, sfar));
    FaultStatus { cfsr, hfsr, sfsr, mmfar, bfar, sfar, exc_return }
}

/// What the processor took of a stack for a frame with this xPSR.
pub(crate) fn stacked_bytes(xpsr: u32) -> u32 {
    FRAME_BYTES + if xpsr & ALIGNED == 0 { 0 } else { 4 }
}

/// xPSR: a word was left out before the frame.
pub(crate) const ALIGNED: u32 = 1 << 9;
/// CONTROL: a thread is on the process stack.
pub(crate) const SPSEL: u32 = 1 << 1;
/// UsageFault: a stack ran into its limit.
const STKOF: u32 = 1 << 20;

fn in_ram(at: u32) -> bool {
    (app::RAM_AT..=app::RAM_AT + app::RAM_BYTES).contains(&at)
}

/// MSTKERR, STKERR, or a lazy or stacking access that was refused: the frame was not written.
fn stacking_failed(faults: &Faults) -> bool {
    const MSTKERR: u32 = 1 << 4;
    const STKERR: u32 = 1 << 12;
    (faults.cfsr | faults.cfsr_ns) & (MSTKERR | STKERR) != 0
}

/// The limit of the stack that [`app_sp`] is of.
fn app_sp_limit(context: &Context) -> u32 {
    if context.of_thread() && control_ns() & SPSEL != 0 { psplim_ns() } else { msplim_ns() }
}

/// Where the processor stacked the application's frame: by CONTROL_NS and the mode, not by EXC_RETURN.SPSEL, which is
/// the secure world's.
pub(crate) fn app_sp(context: &Context) -> u32 {
    if context.of_thread() && control_ns() & SPSEL != 0 { psp_ns() } else { msp_ns() }
}

/// The frame there, if the application itself could read it: a stack pointer is only what the application says. By a handler,
/// of what it has just interrupted: the processor answers for its current mode.
pub(crate) fn app_frame(sp: u32) -> Option<Frame> {
    frame_at(sp).filter(|_| tt::all_reachable(sp, FRAME_BYTES, false, false))
}

/// The same of one that is held, whose frame was written without a fault; a handler's stack need not be reached by the thread below it.
pub(crate) fn frame_at(sp: u32) -> Option<Frame> {
    let in_ram = (app::RAM_AT..=app::RAM_AT + app::RAM_BYTES - FRAME_BYTES).contains(&sp);
    if !in_ram || sp & 3 != 0 {
        return None;
    }
    // SAFETY: aligned, whole in the application's RAM, in which no Rust object of ours lies.
    Some(unsafe { (sp as *const Frame).read_volatile() })
}

/// Puts another frame in the place of one that [`frame_at`] gave.
pub(crate) fn set_app_frame(sp: u32, frame: Frame) {
    // SAFETY: as there; the application does not run.
    unsafe { (sp as *mut Frame).write_volatile(frame) };
}

/// The frame of a thread of ours, on its stack.
fn secure_frame(psp: u32) -> Frame {
    let whole = |stack: Stack| stack.holds(psp) && stack.holds(psp + size_of::<Frame>() as u32);
    if psp & 3 != 0 || !(whole(Stack::gateway()) || whole(Stack::supervisor())) {
        return Frame::default();
    }
    // SAFETY: whole in one of our stacks; the thread that owns it does not run.
    unsafe { (psp as *const Frame).read_volatile() }
}

/// The frame of a handler of ours: after what the entry pushed.
fn frame_after(context: &Context) -> Frame {
    // SAFETY: the processor pushed it there before the entry pushed the context.
    unsafe { (&raw const *context).add(1).cast::<Frame>().read_volatile() }
}

/// Notes why, as far as that can still be done, and resets. The next start finds it: [`last_death`].
pub fn die(death: Death) -> ! {
    let _ = writeln!(Uart::console(), "microvisor: died: {death:x?}");
    chip::kept::note_death(death.words());
    chip::reset::now(if death == Death::Watchdog { BootReason::Watchdog } else { BootReason::Fault })
}

/// How the microvisor ended before this start, if it did by a fault; once.
pub fn last_death() -> Option<Death> {
    Death::from_words(chip::kept::take_death())
}

impl Death {
    fn words(self) -> [u32; DEATH_WORDS] {
        let (mut words, none) = ([0; DEATH_WORDS], Faults::default());
        let (kind, exception, pc, faults) = match self {
            Death::Walls => (1, 0, 0, none),
            Death::Fault { exception, pc, faults } => (2, exception, pc, faults),
            Death::Panic { line } => (3, 0, line, none),
            Death::Watchdog => (4, 0, 0, none),
        };
        let Faults { cfsr, hfsr, sfsr, mmfar, bfar, sfar, cfsr_ns } = faults;
        words[1..].copy_from_slice(&[kind, exception, pc, cfsr, hfsr, sfsr, mmfar, bfar, sfar, cfsr_ns]);
        words[0] = sum(&words);
        words
    }

    fn from_words(words: [u32; DEATH_WORDS]) -> Option<Death> {
        let [sum_of_rest, kind, exception, pc, cfsr, hfsr, sfsr, mmfar, bfar, sfar, cfsr_ns] = words;
        let faults = Faults { cfsr, hfsr, sfsr, mmfar, bfar, sfar, cfsr_ns };
        match kind {
            _ if sum_of_rest != sum(&words) => None,
            1 => Some(Death::Walls),
            2 => Some(Death::Fault { exception, pc, faults }),
            3 => Some(Death::Panic { line: pc }),
            4 => Some(Death::Watchdog),
            _ => None,
        }
    }
}

/// What tells a note from memory that lost power.
fn sum([_, rest @ ..]: &[u32; DEATH_WORDS]) -> u32 {
    rest.iter().fold(0x486F_6C64, |sum: u32, word| sum.rotate_left(5) ^ word)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart::console(), "microvisor: {info}, in exception {}", ipsr());
    die(Death::Panic { line: info.location().map_or(0, |location| location.line()) })
}
