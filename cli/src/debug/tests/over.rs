//! `next` over a call: what gdb sees of a device that is further than gdb is.

use super::*;

/// `two = add(one, 1)` in `twice`: its range, and where `add` comes back to.
const LINE: &str = "vCont;r20002c,20003c:p1.1";
const BACK: u32 = 0x20_0038;
const END: u32 = 0x20_003c;

/// In `add`, with the breakpoint planted that gdb goes over it with.
fn in_call(model: Model) -> Bench {
    let mut bench = Bench::with(model, Options::default());
    bench.ask(&format!("Z0,{TWICE:x},2"));
    bench.go("vCont;c");
    bench.ask(&format!("z0,{TWICE:x},2"));
    bench.go("vCont;r200024,20002c:p1.1");
    bench.go(LINE);
    assert_eq!(bench.pc(), ADD);
    assert_eq!(bench.ask(&format!("Z0,{BACK:x},2")), "OK");
    bench
}

/// In `twice` again, where the device does not stay.
fn at_first(model: Model) -> Bench {
    let mut bench = in_call(model);
    assert!(bench.go("vCont;c").1.contains("swbreak"));
    assert_eq!(bench.pc(), BACK);
    bench
}

fn is_asked(bench: &Bench) -> bool {
    bench.calls().iter().rev().find(|call| call.go() == DebugGo::Continue).unwrap().then_at != 0
}

/// Keeps the second stop of such a `go` to itself, as if the application had not come so far; what is halted then says why.
fn never_second(reason: proto::device::v1::DebugStopReason) -> Model {
    let mut is_kept = false;
    lying(move |call, answers| {
        if answers.len() > 1 {
            (*answers, is_kept) = (vec![answers.remove(0)], true);
        } else if call.go() == DebugGo::Halt && is_kept {
            let stop = answers.first_mut().and_then(|answer| answer.stop.as_mut()).unwrap();
            (stop.reason, is_kept) = (reason.into(), false);
        }
    })
}

#[test]
fn the_second_stop_is_there_when_gdb_asks_for_it() {
    let mut bench = at_first(Model::new());
    let (asked, calls) = (is_asked(&bench), bench.calls().len());
    assert!(asked);
    let registers = bench.registers();
    bench.ask(&format!("z0,{BACK:x},2"));
    assert_eq!(bench.registers(), registers, "nothing is seen of it before");
    assert_eq!(bench.go(LINE).1, "S05");
    assert_eq!((bench.pc(), bench.calls().len()), (END, calls));
    // The breakpoint that was taken away is said to be away with the next `go`.
    bench.go("vCont;s");
    let last = bench.calls().pop().unwrap();
    assert!(last.plant && last.breakpoints.is_empty() && lock(&bench.model).planted().is_empty());
}

#[test]
fn where_the_stack_is_another_it_stays_and_is_stepped_as_ever() {
    // As in a function that calls itself: somebody else's return comes first.
    let mut bench = in_call(Model::new());
    lock(&bench.model).push_stack(16);
    assert!(bench.go("vCont;c").1.contains("swbreak"));
    assert!(is_asked(&bench));
    assert_eq!(bench.pc(), BACK);
    let calls = bench.calls().len();
    bench.ask(&format!("z0,{BACK:x},2"));
    bench.go(LINE);
    assert_eq!((bench.pc(), bench.calls().len()), (END, calls + 1));
}

#[test]
fn it_is_not_asked_for_where_gdb_might_want_to_stay() {
    // A person was shown where it is, and `finish`es.
    let mut bench = in_call(Model::new());
    bench.ask("qfThreadInfo");
    bench.go("vCont;c");
    assert!(!is_asked(&bench));
    // A breakpoint of the person's own is there.
    let mut bench = Bench::new(Options::default());
    bench.ask(&format!("Z0,{TWICE:x},2"));
    bench.ask(&format!("Z0,{BACK:x},2"));
    bench.go("vCont;c");
    bench.go("vCont;r200024,20002c:p1.1");
    bench.go(LINE);
    assert_eq!(bench.pc(), ADD);
    bench.go("vCont;c");
    assert!(!is_asked(&bench));
    // More was planted than that, registers or memory were set.
    let changes = [format!("Z0,{:x},2", ADD + 2), "P0=2a000000".into(), format!("M{RAM:x},1:01")];
    for change in changes {
        let mut bench = in_call(Model::new());
        assert_eq!(bench.ask(&change), "OK");
        bench.go("vCont;c");
        assert!(!is_asked(&bench), "{change}");
    }
}

#[test]
fn a_breakpoint_in_what_is_stepped_over_is_stopped_at() {
    let mut bench = Bench::new(Options::default());
    bench.ask(&format!("Z0,{TWICE:x},2"));
    bench.go("vCont;c");
    bench.ask(&format!("Z0,{:x},2", ADD + 4));
    bench.go("vCont;r200024,20002c:p1.1");
    bench.go(LINE);
    bench.ask(&format!("Z0,{BACK:x},2"));
    assert!(bench.go("vCont;c").1.contains("swbreak"));
    assert_eq!((bench.pc(), is_asked(&bench)), (ADD + 4, true));
    assert!(bench.go("vCont;c").1.contains("swbreak"));
    assert_eq!((bench.pc(), is_asked(&bench)), (BACK, false));
}

#[test]
fn memory_that_is_not_here_is_read_where_it_stands_then_and_that_stop_is_told_next() {
    let mut bench = at_first(Model::new());
    let sp = bench.registers()[13];
    assert_eq!(bench.ask(&format!("m{sp:x},4")).len(), 8, "the stack came with the first");
    let round_trips = bench.cost(|bench| assert_eq!(bench.word(RAM + 0x4000), 0));
    assert_eq!((round_trips, bench.pc()), (1, END));
    // gdb would set it by what it saw at the first.
    assert_eq!(bench.ask("P0=2a000000"), "E10");
    assert_eq!(bench.ask(&format!("M{RAM:x},1:01")), "OK");
    let calls = bench.calls().len();
    assert_eq!(bench.go("vCont;c").1, "S05");
    assert_eq!((bench.pc(), bench.calls().len()), (END, calls));
    assert_eq!(bench.ask("P0=2a000000"), "OK");
    bench.go("vCont;s");
    assert_eq!(bench.calls().len(), calls + 1);
}

#[test]
fn a_second_stop_that_does_not_come_is_made_to_and_is_a_step_to_gdb() {
    use proto::device::v1::DebugStopReason;
    let mut bench = at_first(never_second(DebugStopReason::Halt));
    assert_eq!(bench.word(RAM + 0x4000), 0);
    assert_eq!(bench.calls().iter().filter(|call| call.go() == DebugGo::Halt).count(), 2);
    bench.ask(&format!("z0,{BACK:x},2"));
    assert_eq!(bench.go(LINE).1, "S05");
    // So is a breakpoint that gdb has taken away.
    let mut bench = at_first(lying(|_, answers| {
        if let [_, second] = &mut answers[..] {
            let stop = second.stop.as_mut().unwrap();
            stop.reason = DebugStopReason::Breakpoint.into();
            stop.registers[60..64].copy_from_slice(&BACK.to_le_bytes());
        }
    }));
    bench.ask(&format!("z0,{BACK:x},2"));
    assert_eq!(bench.go(LINE).1, "S05");
}

#[test]
fn ctrl_c_between_the_two_halts_it() {
    use proto::device::v1::DebugStopReason;
    // Before gdb lets it go on, and after.
    for is_before in [true, false] {
        let mut bench = at_first(never_second(DebugStopReason::Halt));
        let packets = [framed(LINE.as_bytes()), vec![3]];
        let [go, interrupt] = packets;
        if is_before {
            bench.send(&interrupt);
            bench.send(&go);
        } else {
            bench.send(&go);
            bench.send(&interrupt);
        }
        assert_eq!(bench.stopped().1, "S02", "before: {is_before}");
        bench.pc();
    }
    // It stops by itself; the halt comes too late, and is no second one.
    let mut bench = at_first(Model::new());
    bench.ask(&format!("z0,{BACK:x},2"));
    bench.send(&[3]);
    assert_eq!(bench.go(LINE).1, "S05");
    assert_eq!(bench.pc(), END);
    bench.go("vCont;s");
    assert_eq!(bench.pc(), END + 2);
}

#[test]
fn a_gdb_that_leaves_between_the_two_lets_it_go() {
    let mut bench = at_first(Model::new());
    assert_eq!(bench.ask("D"), "OK");
    assert_eq!(bench.outcome(), Ok(Left::Detached));
    let is_let_go = |bench: &Bench| {
        let last = bench.calls().pop().unwrap();
        (last.go(), last.plant, last.breakpoints.len()) == (DebugGo::Continue, true, 0)
    };
    let until = Instant::now() + PATIENCE;
    while !is_let_go(&bench) {
        assert!(Instant::now() < until, "it is not let go");
        std::thread::yield_now();
    }
}

#[test]
fn an_application_that_ends_between_the_two_is_waited_for() {
    let mut bench = at_first(lying(|_, answers| {
        if let [_, second] = &mut answers[..] {
            let word =
                |state, starts| DebugAnswer { call: second.call, state, starts, ..DebugAnswer::default() };
            let (ended, anew) = (word(3, second.starts), word(1, second.starts + 1));
            second.starts += 1;
            answers.splice(1..1, [ended, anew]);
        }
    }));
    bench.ask(&format!("z0,{BACK:x},2"));
    let (console, stop) = bench.go(LINE);
    assert!(
        stop == "S05" && console.contains("has ended") && console.contains("started anew"),
        "{console} {stop}"
    );
}

#[test]
fn gdb_itself_steps_over_calls_and_sees_what_it_always_saw() {
    let model = Shared::new(Model::new().into());
    let commands = [
        "break twice",
        "continue",
        "next",
        "next",
        "print two",
        "finish",
        "delete",
        "break program.c:10 if a == 6",
        "tbreak twice",
        "continue",
        "next",
        "backtrace 1",
        "next",
        "next",
        "next",
        "print $sp",
    ];
    let said = gdb(&model, &commands);
    for expected in ["$1 = 3", "Value returned is $2 = 3", "Breakpoint 2, add (a="] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
    assert!(lock(&model).calls.iter().any(|call| call.then_at != 0));
    assert!(!said.contains("warning") && !said.contains("SIGTRAP"), "{said}");
}

#[test]
fn gdb_asks_for_the_threads_when_a_person_is_shown_a_stop_and_only_then() {
    let model = Shared::new(Model::new().into());
    let said = gdb(
        &model,
        &["tbreak twice", "continue", "next", "set debug remote 1", "next", "stepi", "set debug remote 0"],
    );
    let count = |packet: &str| said.matches(&format!("Sending packet: {packet}")).count();
    // In between are the stops that gdb passes.
    assert_eq!((count("$qfThreadInfo"), count("$vCont;")), (2, 4), "{said}");
}
