//! Faults: one of the application's ends the application, one of ours is noted and ends everything.

use core::fmt::Write as _;
use core::panic::PanicInfo;

use chip::kept::DEATH_WORDS;
use chip::map::app;
use chip::nvic;
use chip::scb::{self, Faults};
use chip::special::{control_ns, ipsr, msp_ns, psp, psp_ns};
use chip::tt;
use chip::uart::Uart;
use gateway_core::ports::BootReason;

use crate::exceptions::Context;
use crate::shared::Shared;
use crate::stacks::{Stack, is_seal};
use crate::{application, schedule};

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

/// What kind of fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Something forbidden by both worlds or escalated, a breakpoint among it.
    Hard,
    Memory,
    Bus,
    Usage,
    /// It reached for what is not the application's.
    Secure,
    /// A return to a caller that never was, or calls without a return.
    ForgedReturn,
    /// No fault: it made calls in a handler until nobody else had a turn.
    Unyielding,
    Other,
}

/// How an application ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRecord {
    pub kind: FaultKind,
    pub at_us: u64,
    pub faults: Faults,
    /// r4 to r11.
    pub registers: [u32; 8],
    pub sp: u32,
    pub exc_return: u32,
    /// None: its stack pointer was not in its memory, or what lies there is not what the processor wrote.
    pub frame: Option<Frame>,
}

static LAST: Shared<Option<FaultRecord>> = Shared::new(None);

/// The last fault of the application, once.
pub(crate) fn take() -> Option<FaultRecord> {
    LAST.with(Option::take)
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

/// The application ends by this.
fn end_app(context: &mut Context, exception: u32, faults: Faults, forged: bool) {
    let record = record(context, kind(exception, forged), faults);
    LAST.with(|last| *last = Some(record));
    scb::forget_waiting_faults();
    application::crashed();
    schedule::app_faulted(context);
}

/// The application, in a call, ends by this, which is no fault.
pub(crate) fn note(context: &Context, kind: FaultKind) {
    let record = record(context, kind, Faults::default());
    LAST.with(|last| *last = Some(record));
    application::crashed();
}

fn kind(exception: u32, forged: bool) -> FaultKind {
    match exception {
        _ if forged => FaultKind::ForgedReturn,
        HARD_FAULT => FaultKind::Hard,
        4 => FaultKind::Memory,
        5 => FaultKind::Bus,
        USAGE_FAULT => FaultKind::Usage,
        SECURE_FAULT => FaultKind::Secure,
        _ => FaultKind::Other,
    }
}

/// The application made up a return: to a secure caller or an interrupted secure thread that never was. The processor
/// says that secure code was interrupted then; none was: the application had the core, and no handler of ours runs. Or it
/// made calls, interrupted them and never went back to them, until the stack they are on was full.
fn forged_return(context: &Context, exception: u32, faults: &Faults) -> bool {
    const INVER: u32 = 1 << 1;
    const INVIS: u32 = 1 << 2;
    const INVPC: u32 = 1 << 18;
    const STKOF: u32 = 1 << 20;
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

fn record(context: &Context, kind: FaultKind, faults: Faults) -> FaultRecord {
    let in_call = matches!(kind, FaultKind::ForgedReturn | FaultKind::Unyielding);
    let sp = app_sp(context);
    FaultRecord {
        kind,
        at_us: chip::clock::now_us(),
        faults,
        registers: context.registers,
        sp,
        exc_return: context.exc_return,
        frame: if in_call || stacking_failed(&faults) { None } else { app_frame(sp) },
    }
}

/// MSTKERR, STKERR, or a lazy or stacking access that was refused: the frame was not written.
fn stacking_failed(faults: &Faults) -> bool {
    const MSTKERR: u32 = 1 << 4;
    const STKERR: u32 = 1 << 12;
    faults.cfsr & (MSTKERR | STKERR) != 0
}

/// Where the processor stacked the application's frame: by CONTROL_NS and the mode, not by EXC_RETURN.SPSEL, which is
/// the secure world's.
pub(crate) fn app_sp(context: &Context) -> u32 {
    const SPSEL: u32 = 1 << 1;
    if context.of_thread() && control_ns() & SPSEL != 0 { psp_ns() } else { msp_ns() }
}

/// The frame there, if the application itself could read it: a stack pointer is only what the application says.
pub(crate) fn app_frame(sp: u32) -> Option<Frame> {
    const BYTES: u32 = size_of::<Frame>() as u32;
    let in_ram = (app::RAM_AT..=app::RAM_AT + app::RAM_BYTES - BYTES).contains(&sp);
    if !in_ram || sp & 3 != 0 || !tt::all_reachable(sp, BYTES, false, false) {
        return None;
    }
    // SAFETY: aligned, whole in the application's RAM, in which no Rust object of ours lies.
    Some(unsafe { (sp as *const Frame).read_volatile() })
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
