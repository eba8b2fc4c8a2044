//! Faults: held before they end the application, or not.

use gateway_core::crash::Crash;
use gateway_core::ports::{App as _, Forbidden, Held, Life, Probe as _};
use wire::msg::CrashKind;

use crate::bench::{Bench, PC};
use crate::program::{WAY_AT, Way, entry, undefined};

pub(crate) fn run(bench: &mut Bench) {
    bench.probe.attach();
    bench.begin(Way::Undefined);
    bench.rest(2_000);
    bench.expect_life("a fault that nobody catches ends it", Life::Crashed);
    let _ = bench.application.take_crash();

    bench.probe.catch_faults(true);
    caught(bench, Way::Undefined, CrashKind::Usage, |bench| bench.probe.resume(false));
    caught(bench, Way::SecureRead, CrashKind::Secure, |bench| bench.probe.resume(true));
    caught(bench, Way::Undefined, CrashKind::Usage, |bench| bench.probe.detach());
    bench.probe.attach();
    bench.probe.catch_faults(true);
    // Stopped, it has ended by its fault all the same, and is reported.
    begin_fault(bench, Way::Undefined, CrashKind::Usage);
    bench.application.stop();
    bench.expect_life("a stopped one", Life::Stopped);
    expect_crash(bench, CrashKind::Usage);

    bench.begin(Way::Forged);
    bench.rest(2_000);
    bench.expect_held("a made-up return is not held", None);
    bench.expect_life("a made-up return ends it", Life::Crashed);
    expect_crash(bench, CrashKind::ForgedReturn);

    // A call that never comes back to its caller: a halt makes it fault, which is caught.
    bench.begin(Way::ToVeneer);
    bench.rest(2_000);
    bench.expect_life("a call without end", Life::Running);
    let us = bench.halt();
    bench.expect("a call without end is held", us.is_some_and(|us| us < 5_000), format_args!("{us:?}"));
    bench.application.stop();
    let _ = bench.application.take_crash();
    bench.probe.catch_faults(false);
    bench.section("faults");
}

fn begin_fault(bench: &mut Bench, way: Way, kind: CrashKind) {
    // A breakpoint that came before is none of the fault's.
    bench.start_held();
    bench.poke(WAY_AT, way as u32);
    let was = bench.plant(entry());
    bench.probe.resume(false);
    bench.await_held();
    bench.expect_held("a breakpoint before a fault", Some(Held::Breakpoint));
    bench.unplant(entry(), was);
    bench.probe.resume(false);
    bench.await_held();
    bench.expect_held("a fault is held", Some(Held::Fault(kind)));
    bench.expect_life("one that is held at a fault runs", Life::Running);
}

fn caught(bench: &mut Bench, way: Way, kind: CrashKind, let_go: fn(&mut Bench)) {
    begin_fault(bench, way, kind);
    bench.rest(20_000);
    bench.expect_held("a fault is held on", Some(Held::Fault(kind)));
    let status = bench.probe.fault();
    let told = status.is_some_and(|status| status.cfsr | status.sfsr != 0);
    bench.expect("a fault is told", told, format_args!("{status:x?}"));
    if way == Way::SecureRead {
        let alone = status.is_some_and(|status| status.hfsr == 0);
        bench.expect("a fault is told alone", alone, format_args!("{status:x?}"));
    }
    let registers = bench.registers();
    if way == Way::Undefined {
        bench.expect("where it faulted", registers[PC] == undefined(), format_args!("{registers:x?}"));
    }
    let set = bench.probe.set_register(4, !registers[4]);
    bench.expect("one that ends is not changed", set == Err(Forbidden), format_args!("set"));
    let crash = bench.application.take_crash();
    bench.expect("it has not ended", crash.is_none(), format_args!("{crash:x?}"));
    let_go(bench);
    bench.expect_held("a fault is let go", None);
    bench.expect_life("it ends when it is let go", Life::Crashed);
    bench.rest(1_000);
    expect_crash(bench, kind);
    let status = bench.probe.fault();
    bench.expect("a fault is over", status.is_none(), format_args!("{status:x?}"));
}

fn expect_crash(bench: &mut Bench, kind: CrashKind) {
    let crash: Option<Crash> = bench.application.take_crash();
    let right = crash.as_ref().is_some_and(|crash| crash.kind == kind);
    bench.expect("it is reported", right, format_args!("{crash:x?}"));
    let again = bench.application.take_crash();
    bench.expect("it is reported once", again.is_none(), format_args!("{again:x?}"));
}
