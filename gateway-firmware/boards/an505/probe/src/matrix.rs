//! Every call, every pointer of it, everything that can be wrong with it; and what a call leaves behind.

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::map::{app, flash, register, secure};
use abi::call::{By, Pointer};
use abi::{Access, CALLS, Call, Inner, Kind, Length, Status};
use holdfast::board::{start_sys_tick, stop_sys_tick, sys_tick_left};
use holdfast::raw;

use crate::attempt;
use crate::calls::{self, Standing};
use crate::hostile;
use crate::report::Report;

/// Good memory for any pointer of any call.
#[repr(C, align(1024))]
struct Good(UnsafeCell<[u8; 2048]>);

// SAFETY: only its address is used; the microvisor writes it, one call at a time.
unsafe impl Sync for Good {}

/// What lies there may be a content type.
static GOOD: Good = Good(UnsafeCell::new([0x61; 2048]));
const LOGGING_INIT: u8 = 36;
const RESTART: u8 = 64;

type Arguments = [u32; 4];

/// Checks all of it.
pub(crate) fn run(report: &mut Report) {
    // A log is refused until logging is set up.
    let log = abi::call_at(37).map_or(0, |call| ask(call, good(call, None)));
    report.expect_equal(format_args!("a log before logging is set up"), log, Status::Unavailable.code());
    if let Some(call) = abi::call_at(LOGGING_INIT) {
        ask(call, good(call, None));
    }
    let standing = Standing::start(report);
    for call in CALLS {
        if call.works {
            working(report, call, standing);
        } else {
            let wild = [secure::RAM_AT, 512, secure::RAM_AT, secure::RAM_AT];
            for passed in [good(call, None), wild] {
                report.expect_equal(
                    format_args!("{} is not there", call.name),
                    ask(call, passed),
                    Status::Unavailable.code(),
                );
            }
        }
    }
    calls::run(report, standing, good_at());
    own_mpu(report);
    registers(report);
    report.expect_equal(
        format_args!("registers of an interrupt that follows ours"),
        hostile::left_in_registers(),
        0,
    );
    report.say(format_args!("mvNoOp takes {} cycles", shortest(|| ask_slot(27, [0; 4]))));
    calls::put(good_at(), &[0x6161_6161; 32]);
    // The longest of them: aligned to nothing, and as long as they may be.
    let log = shortest(|| ask_slot(37, [good_at() + 1025, abi::LOG_MESSAGE_BYTES_MAX as u32, 0, 0]));
    let publish = shortest(|| ask_slot(calls::PUBLISH, [good_at() + 1, 64, good_at() + 67, 1024]));
    for (name, cycles) in [("mvServerLog", log), ("hfTelemetryPublish", publish)] {
        report.expect(
            format_args!("{name} takes {cycles} cycles, the supervisor's turn among them"),
            cycles <= CALL_CYCLES_MAX + TURN_CYCLES_MAX,
        );
    }
}

/// What such a call wakes has its slice before the call is over, and two switches.
const TURN_CYCLES_MAX: u32 = 1_900;
/// 100 us.
const CALL_CYCLES_MAX: u32 = 2000;

/// Of some calls that are answered well the one that nothing came between, in cycles of the core's clock.
fn shortest(make: impl Fn() -> u32) -> u32 {
    const CALLS_MADE: usize = 8;
    const TRIES_MAX: u32 = 100;
    let timed = (0..TRIES_MAX).filter_map(|_| {
        start_sys_tick(SYS_TICK_CYCLES);
        until_alone();
        let before = sys_tick_left();
        let status = make();
        let after = sys_tick_left();
        stop_sys_tick();
        (status == 0).then(|| before.saturating_sub(after))
    });
    timed.take(CALLS_MADE).filter(|cycles| *cycles > 0).min().unwrap_or(u32::MAX)
}

/// Until the supervisor sleeps, having taken what waited: it has not paused this for longer than a slice.
fn until_alone() {
    const LOOKS_MAX: u32 = 200_000;
    const PAUSE_CYCLES: u32 = 300;
    const ALONE_CYCLES: u32 = 1_300;
    let (mut since, mut last) = (sys_tick_left(), sys_tick_left());
    for _ in 0..LOOKS_MAX {
        let now = sys_tick_left();
        if last.saturating_sub(now) > PAUSE_CYCLES {
            since = now;
        }
        if since.saturating_sub(now) > ALONE_CYCLES {
            break;
        }
        last = now;
    }
}

const SYS_TICK_CYCLES: u32 = 0xff_ffff;

fn working(report: &mut Report, call: &Call, standing: Standing) {
    let good = |call: &Call| good(call, Some(standing));
    let ask = |call: &Call, passed: Arguments| ask_prepared(call, passed, standing);
    for (index, parameter) in call.parameters.iter().enumerate() {
        match parameter.kind {
            Kind::Value => {}
            Kind::Narrow16 => {
                let mut passed = good(call);
                passed[index] |= 0xdead_0000;
                report.expect_equal(
                    format_args!("{} {} with upper bits", call.name, parameter.name),
                    ask(call, passed),
                    0,
                );
            }
            Kind::Pointer(pointer) => {
                let mut case = |name: &str, at: u32, bytes: Option<u32>, want: Status| {
                    let mut passed = good(call);
                    passed[index] = at;
                    if let (Length::By(by), Some(bytes)) = (pointer.length, bytes) {
                        passed[by.parameter] = bytes;
                    }
                    report.expect_equal(
                        format_args!("{} {} {name}", call.name, parameter.name),
                        ask(call, passed),
                        want.code(),
                    );
                };
                let in_code = in_code(call.slot, index, pointer.access);
                pointers(pointer, in_code, &mut case);
                if let Some(inner) = pointer.inner {
                    let (length, unaligned) = (Length::By(inner.by), Status::ParameterFault);
                    let Inner { access, align, .. } = inner;
                    let within = Pointer { access, length, align, unaligned, inner: None };
                    let mut case = |name: &str, at: u32, bytes: Option<u32>, want: Status| {
                        standing.prepare(call.slot, good_at());
                        calls::put(good_at() + inner.offset, &[at]);
                        calls::put(good_at() + inner.length_offset, &[bytes.unwrap_or(good_bytes(length))]);
                        let status = ask_slot(call.slot, good(call));
                        report.expect_equal(
                            format_args!("{} {}, a pointer in it, {name}", call.name, parameter.name),
                            status,
                            want.code(),
                        );
                    };
                    pointers(within, Status::ParameterFault, &mut case);
                }
            }
        }
    }
    if call.slot != RESTART {
        report.expect_equal(format_args!("{} good", call.name), ask(call, good(call)), 0);
    }
    let from_handler = attempt::call_in_handler(call.slot, good(call));
    let want = if call.from_handler { Status::Okay } else { Status::Unavailable };
    report.expect_equal(format_args!("{} in a handler", call.name), from_handler, want.code());
}

/// What is read of code is no structure: the call says what is wrong with it.
fn in_code(slot: u8, index: usize, access: Access) -> Status {
    match (slot, index, access) {
        (calls::REQUEST_NETWORK, 0, _) => Status::UnsupportedStructureVersion,
        (calls::SETUP_NOTIFICATIONS, 0, _) => Status::InvalidBufferSize,
        (calls::OPEN_SYSTEM | calls::PUBLISH, 0, _) | (_, _, Access::Write) => Status::ParameterFault,
        (_, _, Access::Read) => Status::Okay,
    }
}

/// Everything that can be wrong with a pointer: `case(name, address, length, answer)`.
fn pointers(pointer: Pointer, in_code: Status, case: &mut impl FnMut(&str, u32, Option<u32>, Status)) {
    const END: u32 = app::RAM_AT + app::RAM_BYTES;
    let (align, bytes) = (pointer.align, good_bytes(pointer.length));
    let outside = [
        ("null", 0),
        ("secure RAM", secure::RAM_AT),
        ("secure RAM by its other alias", secure::RAM_AT - 0x1000_0000),
        ("secure code", secure::MICROVISOR_AT + 0x1000),
        ("the gateway page", secure::GATEWAY_AT),
        ("the flash", flash::AT + flash::STORE),
        ("its own RAM by the secure alias", app::RAM_AT + 0x1000_0000),
        ("a hole that only the MPC closes", END),
        ("the last of that hole", app::RAM_AT + app::RAM_SAU_BYTES - bytes),
        ("a peripheral of its own", register::UART_APP),
        ("the stub block", app::STUB_AT),
        ("a register of the core", 0xE000_E000),
        ("the end of the address space", 0u32.wrapping_sub(bytes)),
    ];
    for (name, at) in outside {
        // The first granule of the processor's map may be no multiple of what the call wants.
        if at % align == 0 {
            case(name, at, None, Status::ParameterFault);
        }
    }
    if bytes > align {
        case("crossing into the hole", END - align, None, Status::ParameterFault);
        case("crossing out of secure memory", app::RAM_AT - align, None, Status::ParameterFault);
        case("wrapping", 0u32.wrapping_sub(align), None, Status::ParameterFault);
    }
    case("code", app::CODE_AT, None, in_code);
    if align > 1 {
        case("unaligned", good_at() + 1, None, pointer.unaligned);
        case("half aligned", good_at() + align / 2, None, pointer.unaligned);
    }
    if let Length::By(By { min, max, multiple, too_long, .. }) = pointer.length {
        let none = if min == 0 { Status::Okay } else { Status::InvalidBufferSize };
        case("zero length", good_at(), Some(0), none);
        if min > 0 {
            case("shorter than allowed", good_at(), Some(min - 1), Status::InvalidBufferSize);
        }
        case("longer than allowed", good_at(), Some(max + multiple), too_long);
        if multiple > 1 {
            case("an odd length", good_at(), Some(multiple + 1), Status::InvalidBufferSize);
        }
    }
}

fn good_at() -> u32 {
    GOOD.0.get() as u32
}

fn good_bytes(length: Length) -> u32 {
    match length {
        Length::Fixed(bytes) => bytes,
        // Longer than the alignment asks, so that a range can cross something.
        Length::By(by) => (2 * by.multiple).clamp(by.min, by.max),
    }
}

fn good(call: &Call, standing: Option<Standing>) -> Arguments {
    let mut passed = [0; 4];
    if let Some(Standing { centre, request }) = standing {
        match call.slot {
            calls::TRIGGER => passed[0] = centre,
            calls::NETWORK_STATUS => passed[0] = request,
            _ => {}
        }
    }
    for (index, parameter) in call.parameters.iter().enumerate() {
        if let Kind::Pointer(pointer) = parameter.kind {
            passed[index] = good_at();
            if let Length::By(by) = pointer.length {
                passed[by.parameter] = good_bytes(pointer.length);
            }
        }
    }
    passed
}

fn ask(call: &Call, passed: Arguments) -> u32 {
    ask_slot(call.slot, passed)
}

fn ask_slot(slot: u8, passed: Arguments) -> u32 {
    // SAFETY: what a call may write is `GOOD`, or the test finds out.
    unsafe { raw::call(slot, passed) }
}

/// A call with what it needs in `GOOD`, and what it opened closed again.
fn ask_prepared(call: &Call, passed: Arguments, standing: Standing) -> u32 {
    standing.prepare(call.slot, good_at());
    let to_close = calls::get(good_at());
    let status = if call.slot == calls::PUBLISH { calls::publish(passed) } else { ask(call, passed) };
    let opened = if status == 0 { calls::get(good_at()) } else { to_close };
    standing.tidy(call.slot, opened);
    status
}

/// What the application's own MPU keeps from it, a call does not reach for it either.
fn own_mpu(report: &mut Report) {
    const CTRL: u32 = 0xE000_ED94;
    const RNR: u32 = 0xE000_ED98;
    const RBAR: u32 = 0xE000_ED9C;
    const RLAR: u32 = 0xE000_EDA0;
    const READ_ONLY: u32 = 0b10 << 1;
    const NEVER_EXECUTED: u32 = 1;
    let (closed, after) = (good_at() + 512, good_at() + 544);
    let set = |at: u32, value: u32| {
        // SAFETY: the application's own MPU; the region is memory that only the microvisor writes.
        unsafe { holdfast::board::write(at, value) };
        // SAFETY: a barrier.
        unsafe { asm!("dsb", "isb") };
    };
    set(RNR, 0);
    set(RBAR, closed | READ_ONLY | NEVER_EXECUTED);
    set(RLAR, (after - 1) & !0x1f | 1);
    set(CTRL, 0b101);
    let time = abi::call_at(2).map_or(!0, |call| ask(call, [closed, 0, 0, 0]));
    report.expect_equal(
        format_args!("a result where its own MPU forbids"),
        time,
        Status::ParameterFault.code(),
    );
    let time = abi::call_at(2).map_or(!0, |call| ask(call, [after, 0, 0, 0]));
    report.expect_equal(format_args!("a result beside that"), time, 0);
    // Its ends are open; what is between them is not.
    let init = abi::call_at(LOGGING_INIT).map_or(!0, |call| ask(call, [good_at(), 1024, 0, 0]));
    report.expect_equal(format_args!("a range around that"), init, Status::ParameterFault.code());
    set(CTRL, 0);
}

/// A call leaves nothing of the secure world's in a register, and everything of the caller's where it was.
fn registers(report: &mut Report) {
    let mut after = [0u32; 14];
    // SAFETY: every register it changes is saved on the stack or said to be changed; the call writes no memory.
    unsafe {
        asm!(
            "push {{r4-r11}}",
            "mov r9, {slot}",
            "push {{{after}}}",
            "mov r0, #0xA0",
            "mov r1, #0xA1",
            "mov r2, #0xA2",
            "mov r3, #0xA3",
            "mov r4, #0xA4",
            "mov r5, #0xA5",
            "mov r6, #0xA6",
            "mov r7, #0xA7",
            "mov r8, #0xA8",
            "mov r10, #0xAA",
            "mov r11, #0xAB",
            "mov r12, #0xAC",
            "blx r9",
            "mov r9, r12",
            "pop {{r12}}",
            "stmia r12!, {{r0-r8}}",
            "str r10, [r12], #4",
            "str r11, [r12], #4",
            "str r9, [r12], #4",
            "mrs r0, apsr",
            "str r0, [r12]",
            "pop {{r4-r11}}",
            slot = in(reg) (raw::GATEWAY_AT + 8 * 27) | 1,
            after = in(reg) after.as_mut_ptr(),
            out("r0") _, out("r1") _, out("r2") _, out("r3") _, out("r12") _, out("lr") _,
        );
    }
    let want = [0, 0, 0, 0, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xAA, 0xAB, 0, 0, 0];
    for (index, (got, want)) in after.into_iter().zip(want).enumerate() {
        report.expect_equal(format_args!("register {index} after a call"), got, want);
    }
}
