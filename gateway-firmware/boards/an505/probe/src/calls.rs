//! What the calls with a memory of their own do: handles, rings, requests, and what is wrong with them.

use core::arch::asm;
use core::cell::UnsafeCell;

use abi::Status;
use abi::call::Arguments;
use abi::listener::{NETWORK_REQUESTS_MAX, SYSTEM_NOTIFICATIONS_MAX};
use holdfast::raw;

use crate::map::irq;
use crate::report::Report;

pub(crate) const REQUEST_NETWORK: u8 = 8;
pub(crate) const CLOSE_NOTIFICATIONS: u8 = 10;
pub(crate) const SETUP_NOTIFICATIONS: u8 = 16;
pub(crate) const RELEASE_NETWORK: u8 = 26;
pub(crate) const TRIGGER: u8 = 28;
pub(crate) const NETWORK_STATUS: u8 = 29;
pub(crate) const OPEN_SYSTEM: u8 = 60;
pub(crate) const CLOSE_SYSTEM: u8 = 61;
pub(crate) const PUBLISH: u8 = 129;
const ISPR: u32 = 0xE000_E200;
const ICPR: u32 = 0xE000_E280;

/// Memory of the probe's that only its address is used of.
#[repr(C, align(64))]
struct Words<const COUNT: usize>(UnsafeCell<[u32; COUNT]>);

// SAFETY: one thread uses it, by volatile reads and writes.
unsafe impl<const COUNT: usize> Sync for Words<COUNT> {}

impl<const COUNT: usize> Words<COUNT> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; COUNT]))
    }

    fn at(&self) -> u32 {
        self.0.get() as u32
    }
}

/// The ring that is open all the time, the one that is tried out, and what a call is given besides.
static OPEN: Words<16> = Words::new();
static TRIED: Words<16> = Words::new();
static GIVEN: Words<8> = Words::new();
static HANDLE: Words<1> = Words::new();

/// The interrupts of the two.
const OPEN_IRQ: u32 = irq::SPARE[1];
const TRIED_IRQ: u32 = irq::SPARE[0];

/// Handles that are good for as long as the matrix runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) centre: u32,
    pub(crate) request: u32,
}

impl Standing {
    pub(crate) fn start(report: &mut Report) -> Standing {
        let centre = opened(report, SETUP_NOTIFICATIONS, &[OPEN_IRQ, OPEN.at(), 64]);
        let request = opened(report, REQUEST_NETWORK, &[1, centre, 7]);
        Standing { centre, request }
    }

    /// Puts into memory what makes this call a good one; a handle that is to be closed is opened for it.
    pub(crate) fn prepare(self, slot: u8, at: u32) {
        match slot {
            REQUEST_NETWORK => put(at, &[1, 0, 0]),
            SETUP_NOTIFICATIONS => put(at, &[TRIED_IRQ, TRIED.at(), 64]),
            OPEN_SYSTEM => put(at, &[self.centre, 9, 1]),
            CLOSE_NOTIFICATIONS => put(at, &[ask(SETUP_NOTIFICATIONS, &[TRIED_IRQ, TRIED.at(), 64]).1]),
            RELEASE_NETWORK => put(at, &[ask(REQUEST_NETWORK, &[1, 0, 0]).1]),
            CLOSE_SYSTEM => put(at, &[ask(OPEN_SYSTEM, &[self.centre, 9, 1]).1]),
            // A content type.
            PUBLISH => put(at, &[0x6161_6161; 4]),
            _ => {}
        }
    }

    /// Closes what this call, or the preparation for it, opened.
    pub(crate) fn tidy(self, slot: u8, handle: u32) {
        let closes = match slot {
            SETUP_NOTIFICATIONS | CLOSE_NOTIFICATIONS => CLOSE_NOTIFICATIONS,
            REQUEST_NETWORK | RELEASE_NETWORK => RELEASE_NETWORK,
            OPEN_SYSTEM | CLOSE_SYSTEM => CLOSE_SYSTEM,
            _ => return,
        };
        close(closes, handle);
    }
}

/// All that is not about pointers.
pub(crate) fn run(report: &mut Report, standing: Standing, lent_at: u32) {
    rings(report, standing, lent_at);
    handles(report, standing);
    bounds(report, standing);
    records(report);
    values(report);
}

fn rings(report: &mut Report, standing: Standing, lent_at: u32) {
    let mut setup = |what: &str, setup: [u32; 3], want: Status| {
        let (status, handle) = ask(SETUP_NOTIFICATIONS, &setup);
        report.expect_equal(format_args!("a ring {what}"), status, want.code());
        close(CLOSE_NOTIFICATIONS, handle);
    };
    for line in [irq::LAN9118, 0, 63, 72, irq::COUNT, 496, u32::MAX] {
        setup("for an interrupt that is not its own", [line, TRIED.at(), 64], Status::InvalidInterrupt);
    }
    setup("for an interrupt that has one", [OPEN_IRQ, TRIED.at(), 64], Status::InvalidInterrupt);
    setup("in another", [TRIED_IRQ, OPEN.at() + 32, 32], Status::BufferAlreadyInUse);
    setup("in the log", [TRIED_IRQ, lent_at + 512, 32], Status::BufferAlreadyInUse);
    setup("for a timer's interrupt", [irq::TIMER1, TRIED.at(), 64], Status::Okay);
    let log = call(36, [OPEN.at() & !511, 1024, 0, 0]);
    report.expect_equal(format_args!("a log in a ring"), log, Status::ParameterFault.code());
    let centre = standing.centre;
    report.expect(format_args!("a handle is a number that says nothing"), centre != 0 && centre > 64);
}

fn handles(report: &mut Report, standing: Standing) {
    let stale = ask(REQUEST_NETWORK, &[1, 0, 0]).1;
    close(RELEASE_NETWORK, stale);
    let wrong = [0, 1, u32::MAX, stale];
    for handle in wrong.into_iter().chain([standing.request]) {
        let trigger = call(TRIGGER, [handle, 1, 2, 0]);
        report.expect_equal(format_args!("a notification for nobody"), trigger, Status::InvalidHandle.code());
        let system = ask(OPEN_SYSTEM, &[handle, 0, 0]).0;
        report.expect_equal(format_args!("system events for nobody"), system, Status::InvalidHandle.code());
        let closed = close(CLOSE_NOTIFICATIONS, handle);
        report.expect_equal(format_args!("closing what is not open"), closed, Status::InvalidHandle.code());
        let closed = close(CLOSE_SYSTEM, handle);
        report.expect_equal(format_args!("closing what is not open"), closed, Status::InvalidHandle.code());
    }
    for handle in wrong.into_iter().chain([standing.centre]) {
        let status = call(NETWORK_STATUS, [handle, GIVEN.at(), 0, 0]);
        report.expect_equal(format_args!("the network of nobody"), status, Status::InvalidHandle.code());
        let closed = close(RELEASE_NETWORK, handle);
        report.expect_equal(format_args!("releasing what is not held"), closed, Status::InvalidHandle.code());
    }
    for version in [0, 2, u32::MAX] {
        let status = ask(REQUEST_NETWORK, &[version, 0, 0]).0;
        let want = Status::UnsupportedStructureVersion.code();
        report.expect_equal(format_args!("a request of another version"), status, want);
    }
    let status = ask(REQUEST_NETWORK, &[1, standing.request, 0]).0;
    report.expect_equal(format_args!("a request that tells nobody"), status, Status::ParameterFault.code());
    let status = ask(OPEN_SYSTEM, &[standing.centre, 0, 2]).0;
    report.expect_equal(format_args!("a source that is none"), status, Status::ParameterFault.code());
}

fn bounds(report: &mut Report, standing: Standing) {
    let mut held = [0; NETWORK_REQUESTS_MAX];
    // One is held all the time.
    for handle in held.iter_mut().skip(1) {
        *handle = ask(REQUEST_NETWORK, &[1, 0, 0]).1;
    }
    let more = ask(REQUEST_NETWORK, &[1, 0, 0]).0;
    report.expect_equal(format_args!("more requests than there may be"), more, Status::ParameterFault.code());
    let counted = call(25, [GIVEN.at(), GIVEN.at() + 4, 0, 0]);
    report.expect_equal(format_args!("reasons"), counted, 0);
    let count = get(GIVEN.at() + 4);
    report.expect_equal(format_args!("the count of requests"), count, NETWORK_REQUESTS_MAX as u32);
    let released = held.iter().skip(1).all(|handle| close(RELEASE_NETWORK, *handle) == 0);
    report.expect(format_args!("all requests are released"), released);

    let mut held = [0; SYSTEM_NOTIFICATIONS_MAX];
    for (index, handle) in held.iter_mut().enumerate() {
        *handle = ask(OPEN_SYSTEM, &[standing.centre, 0, index as u32 % 2]).1;
    }
    let more = ask(OPEN_SYSTEM, &[standing.centre, 0, 0]).0;
    report.expect_equal(format_args!("more listeners than there may be"), more, Status::Unavailable.code());
    let closed = held.iter().all(|handle| close(CLOSE_SYSTEM, *handle) == 0);
    report.expect(format_args!("all listeners are closed"), closed);
    let different = held.iter().enumerate().all(|(index, one)| !held[..index].contains(one));
    report.expect(format_args!("handles differ"), different);
}

/// A record lies where it belongs, its interrupt waits, and the ring goes round.
fn records(report: &mut Report) {
    let (word, bit) = (TRIED_IRQ / 32 * 4, 1 << (TRIED_IRQ % 32));
    put(TRIED.at(), &[0; 16]);
    let centre = opened(report, SETUP_NOTIFICATIONS, &[TRIED_IRQ, TRIED.at(), 64]);
    for tag in 0..5 {
        put(ICPR + word, &[bit]);
        let before_us = now_us();
        report.expect_equal(format_args!("a notification"), call(TRIGGER, [centre, 77, tag, 0]), 0);
        let at = TRIED.at() + 16 * (tag % 4);
        let us = u64::from(get(at)) | u64::from(get(at + 4)) << 32;
        report.expect(format_args!("its time"), us >= before_us && us <= now_us());
        report.expect_equal(format_args!("its type"), get(at + 8), 77);
        report.expect_equal(format_args!("its tag"), get(at + 12), tag);
        report.expect_equal(format_args!("its interrupt"), get(ISPR + word) & bit, bit);
    }
    report.expect_equal(format_args!("what was not read is overwritten"), get(TRIED.at() + 12), 4);
    forbidden(report, centre);
    report.expect_equal(format_args!("closing it"), close(CLOSE_NOTIFICATIONS, centre), 0);
    report.expect_equal(format_args!("an interrupt that is pended stays so"), get(ISPR + word) & bit, bit);
    put(ICPR + word, &[bit]);
}

/// Its own MPU takes the ring from the application after it was lent: the record comes all the same, and nothing else.
fn forbidden(report: &mut Report, centre: u32) {
    const CTRL: u32 = 0xE000_ED94;
    let region = [0, TRIED.at() | 0b10 << 1 | 1, (TRIED.at() + 63) & !0x1f | 1];
    for (register, value) in [CTRL + 4, CTRL + 8, CTRL + 12].into_iter().zip(region) {
        put(register, &[value]);
    }
    put(CTRL, &[0b101]);
    barrier();
    let status = call(TRIGGER, [centre, 78, 9, 0]);
    put(CTRL, &[0]);
    barrier();
    report.expect_equal(format_args!("a notification into a ring that it closed to itself"), status, 0);
    report.expect_equal(format_args!("the record there"), get(TRIED.at() + 16 + 8), 78);
}

fn values(report: &mut Report) {
    for (slot, name) in [(59, "an LED"), (64, "a restart")] {
        let status = call(slot, [2, 0, 0, 0]);
        report.expect_equal(
            format_args!("{name} of a mode that is none"),
            status,
            Status::ParameterFault.code(),
        );
    }
    put(GIVEN.at(), &[u32::from_le_bytes(*b"a/ b"), u32::from_le_bytes(*b"a/\0b")]);
    for at in [GIVEN.at(), GIVEN.at() + 4] {
        let status = publish([at, 4, GIVEN.at(), 4]);
        report.expect_equal(
            format_args!("a content type that cannot be seen"),
            status,
            Status::ParameterFault.code(),
        );
    }
    report.expect_equal(format_args!("telemetry without a content type"), publish([0, 0, GIVEN.at(), 4]), 0);
    report.expect_equal(format_args!("why it runs"), call(63, [GIVEN.at(), 0, 0, 0]), 0);
    report.expect_equal(format_args!("the reason"), get(GIVEN.at()), 0);
}

/// Publishes as soon as there is room.
pub(crate) fn publish(passed: Arguments) -> u32 {
    const TRIES_MAX: u32 = 200_000;
    let limited = Status::RateLimited.code();
    (0..TRIES_MAX).map(|_| call(PUBLISH, passed)).find(|status| *status != limited).unwrap_or(limited)
}

fn opened(report: &mut Report, slot: u8, given: &[u32]) -> u32 {
    let (status, handle) = ask(slot, given);
    report.expect_equal(format_args!("slot {slot} opens"), status, 0);
    handle
}

/// A call that is given a structure and gives a handle.
fn ask(slot: u8, given: &[u32]) -> (u32, u32) {
    put(GIVEN.at(), given);
    put(HANDLE.at(), &[0]);
    let status = call(slot, [GIVEN.at(), HANDLE.at(), 0, 0]);
    (status, get(HANDLE.at()))
}

fn close(slot: u8, handle: u32) -> u32 {
    put(HANDLE.at(), &[handle]);
    call(slot, [HANDLE.at(), 0, 0, 0])
}

fn now_us() -> u64 {
    call(2, [GIVEN.at(), 0, 0, 0]);
    u64::from(get(GIVEN.at())) | u64::from(get(GIVEN.at() + 4)) << 32
}

fn call(slot: u8, passed: Arguments) -> u32 {
    // SAFETY: what a call may write is memory that is used by address only, or the test finds out.
    unsafe { raw::call(slot, passed) }
}

pub(crate) fn put(at: u32, words: &[u32]) {
    for (index, word) in words.iter().enumerate() {
        // SAFETY: the probe's own memory, used by address only, or a register of the application's.
        unsafe { holdfast::board::write(at + 4 * index as u32, *word) };
    }
}

pub(crate) fn get(at: u32) -> u32 {
    // SAFETY: as above.
    unsafe { holdfast::board::read(at) }
}

fn barrier() {
    // SAFETY: barriers touch nothing.
    unsafe { asm!("dsb", "isb") };
}
