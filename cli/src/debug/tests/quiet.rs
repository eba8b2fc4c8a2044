//! A device that is to know that somebody is there, and a session that nobody uses.

use super::*;

const SHORT: Duration = Duration::from_millis(5);

fn quiet(keep_alive: Duration, limit: Option<Duration>) -> Bench {
    Bench::new(Options { quiet: Some((keep_alive, limit)), ..Options::default() })
}

/// Waits until the device has heard so often that somebody is there.
fn hears(bench: &Bench, times: usize) {
    let is_empty = |call: &&DebugCall| **call == DebugCall { number: call.number, ..DebugCall::default() };
    bench.wait_until(|model| model.calls.iter().filter(is_empty).count() >= times);
}

#[test]
fn a_device_hears_that_somebody_is_there_while_gdb_says_nothing() {
    let mut bench = quiet(SHORT, None);
    bench.ask(&format!("Z0,{TWICE:x},2"));
    hears(&bench, 5);
    assert_eq!(bench.word(COUNTER), 0);
    // While the application runs, too; its stop is found all the same.
    bench.send(&framed(b"vCont;c"));
    assert!(bench.stopped().1.contains("swbreak"));
    bench.ask(&format!("z0,{TWICE:x},2"));
    bench.send(&framed(b"vCont;c"));
    let heard = bench.calls().len();
    hears(&bench, heard + 5);
    bench.send(&[3]);
    assert_eq!(bench.stopped().1, "S02");
    let numbers: Vec<u32> = bench.calls().iter().map(|call| call.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn a_session_that_gdb_does_not_use_is_over_however_often_the_device_is_told_something() {
    let over = Err(Gone::Ended(link::IDLE.into()));
    let mut bench = quiet(SHORT, Some(20 * SHORT));
    bench.pc();
    assert_eq!(bench.outcome_while_connected(), over);
    // One that waits for its application is told so.
    let mut bench = quiet(SHORT, Some(20 * SHORT));
    let (console, stop) = bench.go("vCont;c");
    assert!(console.contains("nothing was said for too long") && stop.starts_with("X1d"), "{console} {stop}");
    assert_eq!(bench.outcome(), over);
    // And one that never came.
    let model = Shared::new(Model::new().into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = Options { quiet: Some((SHORT, Some(20 * SHORT))), ..Options::default() };
    let (debugged, _told) = debugged(&runtime, &model, options).unwrap();
    runtime.block_on(async {
        let listener = listen(0).await.unwrap();
        let server = Server::start(debugged, false, None).unwrap();
        let served =
            tokio::time::timeout(PATIENCE, over_tcp(server, &listener, false)).await.expect("it hangs");
        assert!(served.unwrap_err().to_string().contains("nothing was said for too long"));
    });
}

/// Otherwise a relay that keeps frames back had one for each time, to keep an application halted with when nobody is here any more.
#[test]
fn a_device_that_does_not_answer_is_told_no_more_that_somebody_is_there() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (near, mut far) = link::link();
    let told = far.answers.clone();
    let opening = std::thread::spawn(move || {
        let described = far.calls.blocking_recv().unwrap();
        let target = Some(proto::device::v1::DebugTarget::default());
        told.blocking_send(Ok(DebugAnswer { call: described.number, target, ..DebugAnswer::default() }))
            .unwrap();
        far
    });
    let mut machine = runtime.block_on(Machine::open(near, false)).unwrap();
    let mut far = opening.join().unwrap();
    machine.set_quiet(Quiet::new(Duration::ZERO, None, Instant::now()));
    (0..5).for_each(|_| machine.tick().unwrap());
    assert_eq!(far.calls.try_recv().unwrap().number, 2);
    assert!(far.calls.try_recv().is_err());
    machine.hear(DebugAnswer { call: 2, state: 1, ..DebugAnswer::default() }).unwrap();
    machine.tick().unwrap();
    assert_eq!(far.calls.try_recv().unwrap().number, 3);
}
