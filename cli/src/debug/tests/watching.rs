//! Sessions that only watch, and registers that nobody knows.

use super::*;

fn watcher() -> Bench {
    let mut model = Model::new();
    model.read_only = true;
    Bench::with(model, Options::default())
}

impl Bench {
    /// The device says this by itself.
    fn told(&self, what: impl FnOnce(&mut Model) -> DebugAnswer) {
        let answer = what(&mut lock(&self.model));
        self.tell.blocking_send(Ok(answer)).unwrap();
    }

    fn knows_no_registers(&mut self) -> bool {
        // But for pc, without which gdb could not be here.
        let registers = self.ask("g");
        registers == format!("{}00000000{}", "x".repeat(8 * 15), "x".repeat(8 * 4))
    }
}

#[test]
fn a_watcher_is_shown_every_stop_and_asks_for_nothing_but_memory() {
    let mut bench = watcher();
    assert!(bench.ask("?").starts_with("T05") && bench.knows_no_registers());
    assert_eq!((bench.ask("pd"), bench.ask("pf")), ("xxxxxxxx".into(), "00000000".into()));
    // It runs: each look is a new one.
    assert_eq!(bench.cost(|bench| assert_eq!((bench.word(COUNTER), bench.word(COUNTER)), (0, 0))), 2);
    lock(&bench.model).poke(COUNTER, &[7]);
    assert_eq!(bench.word(COUNTER), 7);
    for go in ["vCont;c", "vCont;s", "vCont;r200024,20002c:p1.1"] {
        bench.send(&framed(go.as_bytes()));
        bench.told(|model| model.others_run_to(TWICE));
        let (console, stop) = bench.stopped();
        assert!(stop == "S00" && console.contains("breakpoint at 0x00200024"), "{console} {stop}");
        assert_eq!(bench.pc(), TWICE);
    }
    // It stands: the stack came with it, and what was read is kept.
    assert_eq!(bench.cost(look), 0);
    bench.word(COUNTER);
    assert_eq!(bench.cost(|bench| assert!(bench.word(COUNTER) > 0)), 0);
    bench.told(|model| model.others_let_go());
    assert_eq!(bench.cost(|bench| assert!(bench.word(COUNTER) > 0)), 1);
    assert!(bench.knows_no_registers());
    assert!(bench.calls().iter().all(|call| call.go() == DebugGo::Unspecified && !call.plant));
}

#[test]
fn a_stop_that_a_watcher_was_not_shown_is_shown_when_it_waits() {
    let mut bench = watcher();
    assert!(bench.knows_no_registers());
    bench.told(|model| model.others_run_to(TWICE));
    assert_eq!(bench.go("vCont;c").1, "S00");
    assert_eq!(bench.pc(), TWICE);
    // One that is over is not; the newest is.
    bench.told(|model| model.others_run_to(ADD));
    bench.told(|model| model.others_let_go());
    bench.told(|model| model.others_run_to(TWICE));
    assert_eq!(bench.go("vCont;c").1, "S00");
    assert_eq!(bench.pc(), TWICE);
    bench.told(|model| model.others_run_to(ADD));
    bench.told(|model| model.others_let_go());
    bench.send(&framed(b"vCont;c"));
    bench.told(|model| model.others_run_to(ADD + 2));
    assert_eq!(bench.stopped().1, "S00");
    assert_eq!(bench.pc(), ADD + 2);
}

#[test]
fn a_watcher_sees_at_once_where_it_stands() {
    let mut model = Model::new();
    model.others_run_to(TWICE);
    model.read_only = true;
    let mut bench = Bench::with(model, Options::default());
    assert_eq!(bench.pc(), TWICE);
    // That is not the next stop.
    bench.send(&framed(b"vCont;c"));
    bench.send(&[3]);
    let (console, stop) = bench.stopped();
    assert_eq!((console.as_str(), stop.as_str()), ("", "S02"));
    assert_eq!(bench.pc(), TWICE);
}

#[test]
fn a_watcher_that_waits_gets_its_prompt_back() {
    let mut bench = watcher();
    bench.send(&framed(b"vCont;c"));
    bench.send(&[3]);
    let (console, stop) = bench.stopped();
    assert!(stop == "S02" && console.contains("the application runs"), "{console}");
    assert!(bench.knows_no_registers());
    assert!(bench.calls().iter().all(|call| call.go() == DebugGo::Unspecified));
}

#[test]
fn a_session_that_only_watches_changes_nothing() {
    let mut bench = watcher();
    for stands in [false, true] {
        if stands {
            bench.told(|model| model.others_run_to(TWICE));
            bench.go("vCont;c");
        }
        assert_eq!(bench.ask(&format!("M{RAM:x},1:01")), "E1e");
        assert_eq!(bench.ask("Z0,200074,2"), "E1e");
        assert!(bench.ask("P0=01000000").starts_with('E'));
        assert!(bench.monitor("reset").contains("only watches"));
    }
    assert_eq!(bench.ask("D"), "OK");
    assert_eq!(bench.outcome(), Ok(Left::Detached));
    let is_harmless = |call: &DebugCall| {
        let changes = !call.writes.is_empty() || !call.registers.is_empty() || call.plant;
        !changes && call.go() == DebugGo::Unspecified
    };
    assert!(bench.calls().iter().all(is_harmless));
}

#[test]
fn gdb_itself_watches() {
    let mut model = Model::new();
    model.read_only = true;
    let model = Shared::new(model.into());
    let mut has_stopped = false;
    lock(&model).others = Some(Box::new(move |model: &mut Model, call: &DebugCall| {
        // Once its memory was looked at while it ran, somebody's breakpoint halts it.
        let is_look = call.reads.iter().any(|read| read.address == COUNTER);
        (is_look && !std::mem::replace(&mut has_stopped, true)).then(|| model.others_run_to(TWICE + 8))
    }));
    let said = gdb(
        &model,
        &[
            "info registers r0",
            "print counter",
            "continue",
            "backtrace",
            "info locals",
            "print n",
            "print counter = 5",
            "set var $r0 = 5",
            "break add",
            "continue",
            "delete",
            "monitor halt-reason",
            "monitor reset",
            "detach",
        ],
    );
    for expected in [
        "<unavailable>",
        "$1 = 0",
        "[holdfast] breakpoint at 0x0020002c",
        "twice (n=1)",
        "#1  0x00200070 in main () at program.c",
        "$2 = 1",
        "Cannot access memory at address 0x28200000",
        "Could not write register",
        "Cannot insert breakpoint 1",
        "not started anew: this session only watches",
    ] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
}

/// What runs off its stack: nobody knows its registers.
fn overflowing() -> Model {
    lying(|call, answers| {
        for answer in answers.iter_mut().filter(|_| call.number > 2) {
            if let Some(stop) = &mut answer.stop {
                (stop.registers, stop.stack) = (Vec::new(), Vec::new());
                (stop.reason, stop.fault) = (5, 5);
            }
        }
    })
}

#[test]
fn registers_that_are_not_known_are_not_zero() {
    let mut bench = Bench::with(overflowing(), Options::default());
    bench.pc();
    let (console, _) = bench.go("vCont;s");
    assert!(console.contains("not known"), "{console}");
    assert!(bench.knows_no_registers());
    assert_eq!(bench.ask("p13"), "xx", "PRIMASK");
    assert!(bench.ask("P0=01000000").starts_with('E'));
    assert_eq!(bench.word(RAM + 0x4000), 0, "memory is read as ever");
    bench.go("vCont;s");
}

#[test]
fn gdb_itself_shows_registers_that_are_not_known_as_unavailable() {
    let model = Shared::new(overflowing().into());
    let said =
        gdb(&model, &["stepi", "info registers r0", "info registers sp", "print counter", "stepi", "detach"]);
    assert!(said.matches("<unavailable>").count() >= 2 && said.contains("$1 = 0"), "{said}");
}
