//! A held application's life: nothing accuses it, and it can be started and stopped.

use gateway_core::ports::{App as _, Held, Life, Probe as _};
use microvisor::application::TRIAL_US;
use microvisor::schedule;

use crate::bench::{Bench, PC};
use crate::program::{TICKS_AT, Way, waits};

const HELD_US: u64 = 2_000_000;
/// More than half of what an application may take without an answer.
const LONG_US: u64 = 6_000_000;

pub(crate) fn run(bench: &mut Bench) {
    held_for_long(bench);
    no_hang(bench);
    starts(bench);
    bench.section("life");
}

fn held_for_long(bench: &mut Bench) {
    bench.begin(Way::Ticks);
    bench.rest(100_000);
    let ticks = bench.peek(TICKS_AT);
    bench.expect("ticks before", (95..=101).contains(&ticks), format_args!("{ticks}"));
    schedule::restart_statistics();
    bench.rest(5_000);
    let _ = bench.halt();
    let ticks = bench.peek(TICKS_AT);
    bench.rest(HELD_US);
    let still = bench.peek(TICKS_AT);
    bench.expect("a held one has no ticks", still == ticks, format_args!("{ticks} became {still}"));
    bench.expect_life("a held one runs", Life::Running);
    bench.probe.resume(false);
    bench.rest(100_000);
    let after = bench.peek(TICKS_AT).wrapping_sub(ticks);
    // One waited, and no other is missing.
    bench.expect("ticks after", (99..=102).contains(&after), format_args!("{after}"));
    let pause_us = schedule::statistics().app_pause_max_us;
    bench.expect("being held is no pause", pause_us < 1_000, format_args!("{pause_us} us"));
    bench.say(format_args!("held for {} ms, then {after} ticks in 100 ms", HELD_US / 1000));
}

/// One that is seen with its interrupts off and nothing else for 10 s hangs; being held begins that anew.
fn no_hang(bench: &mut Bench) {
    bench.begin(Way::Primask);
    bench.rest(LONG_US);
    let _ = bench.halt();
    bench.rest(LONG_US);
    bench.expect_life("one that is held does not hang", Life::Running);
    bench.probe.resume(false);
    looked_at_for_long(bench);
    bench.expect_life("one that was held does not hang yet", Life::Running);
    looked_at_for_long(bench);
    bench.expect_life("and then it does", Life::Hung);
    // Found hanging, and held before it was ended: it can still be looked at.
    let us = bench.halt();
    bench.expect("one that hangs is held", us.is_some(), format_args!("never"));
    bench.expect_life("one that hung is held", Life::Running);
    let crash = bench.application.take_crash();
    bench.expect("and not ended", crash.is_none(), format_args!("{crash:x?}"));
    bench.probe.resume(false);
    // Let go while its interrupts are kept from it, it has them again.
    bench.begin(Way::Ticks);
    bench.rest(10_000);
    let _ = bench.halt();
    bench.probe.resume(true);
    let ticks = bench.peek(TICKS_AT);
    bench.rest(10_000);
    let masked = bench.peek(TICKS_AT);
    bench.expect("interrupts are kept from it", masked == ticks, format_args!("{ticks} became {masked}"));
    bench.probe.detach();
    bench.rest(10_000);
    let after = bench.peek(TICKS_AT).wrapping_sub(masked);
    bench.expect("and given back", after >= 9, format_args!("{after} ticks"));
    // A wait ends though what it waits for is kept from it.
    bench.begin(Way::Waits);
    bench.rest(10_000);
    let _ = bench.halt();
    wait_ends(bench);
}

/// Goes on at the WFI, with its interrupts kept from it, until the instruction after it.
fn wait_ends(bench: &mut Bench) {
    bench.probe.attach();
    let set = bench.probe.set_register(PC, waits());
    bench.expect("back to a wait", set.is_ok(), format_args!("forbidden"));
    bench.plant(waits() + 2);
    bench.probe.resume(true);
    let us = bench.await_held();
    bench.expect_held("a wait ends", Some(Held::Breakpoint));
    bench.expect("a wait ends soon", us.is_some_and(|us| us < 1_000), format_args!("{us:?} us"));
    bench.probe.detach();
    bench.application.stop();
}

/// It is looked at whenever it loses the core.
fn looked_at_for_long(bench: &mut Bench) {
    bench.rest(LONG_US);
    bench.rest(2 * TRIAL_US);
    bench.rest(2 * TRIAL_US);
}

fn starts(bench: &mut Bench) {
    bench.begin(Way::Thread);
    bench.rest(1_000);
    let _ = bench.halt();
    bench.application.stop();
    bench.expect_held("a stopped one is not held", None);
    bench.expect_life("a held one is stopped", Life::Stopped);
    // A halt of nothing is one of the next start.
    bench.probe.halt();
    bench.expect_held("nothing is held", None);
    bench.start();
    bench.expect_held("what was to be held is", Some(Held::Asked));
    bench.start();
    bench.expect_held("a start of a held one begins anew", None);
    bench.rest(1_000);
    bench.expect_life("a start of a held one", Life::Running);
    let us = bench.halt();
    bench.expect("it is held again", us.is_some(), format_args!("never"));
    bench.probe.detach();
    bench.expect_held("nobody debugs any more", None);
    bench.rest(1_000);
    bench.expect_life("it goes on", Life::Running);
    bench.application.stop();
}
