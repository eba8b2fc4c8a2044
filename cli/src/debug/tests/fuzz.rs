//! A gdb that says anything, and a device that does: nothing panics, nothing grows, and nobody is held longer than the session lasts.
//!
//! A device may keep the thread that serves gdb waiting for as long as the session is there: it says nothing, or what is no answer to what was
//! asked. That is not the end of it by itself, for one that comes back after an hour says nothing meanwhile, too. There is always a way out:
//! gdb's own `remotetimeout`, the end of the gdb that `--exec` started, Ctrl-C at the terminal of `holdfast debug` otherwise, and the session's
//! `--total`. Each ends the session, and that ends the wait: this is what the tests hold it to.

use super::*;
use crate::debug::machine::Go;
use crate::debug::server::wait_idly;

/// Quick to say what fails, instead of trying for hours what fails only after `PATIENCE`.
fn few(cases: u32) -> ProptestConfig {
    ProptestConfig { max_shrink_time: 20_000, ..ProptestConfig::with_cases(cases) }
}

/// What goes to the server before gdb is gone.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let any_body = prop::collection::vec(any::<u8>(), 0..200);
    let command = (prop::sample::select(b"?gGmMpPXZzvqQcCsSkDHTbBdRrtyF!".as_slice()), any_body.clone());
    let cut = (rsp(), any::<prop::sample::Index>());
    prop_oneof![
        // Packets of gdb's, one byte of each changed perhaps, and the rest of `rsp`.
        6 => rsp(),
        // A packet about anything, with the right sum.
        3 => any_body.clone().prop_map(|body| framed(&body)),
        3 => command.prop_map(|(command, body)| framed(&[&[command], &body[..]].concat())),
        // One that is cut, doubled, or whose sum is wrong.
        2 => cut.prop_map(|(packet, at)| packet[..at.index(packet.len() + 1)].to_vec()),
        1 => rsp().prop_map(|packet| packet.repeat(2)),
        1 => any_body.prop_map(|body| [b"$", &body[..], b"#zz"].concat()),
        // More than there is room for.
        1 => (any::<u8>(), 1usize..3).prop_map(|(byte, times)| framed(&vec![byte; times * 16 * 1024])),
    ]
}

impl Bench {
    /// gdb is gone, and reads what is still on its way to it.
    fn gdb_goes(&mut self) {
        self.to = None;
        let (runtime, from) = (&self.runtime, &mut self.from);
        runtime.block_on(async {
            while tokio::time::timeout(PATIENCE, from.recv()).await.expect("the server hangs").is_some() {}
        });
    }
}

proptest! {
    #![proptest_config(few(64))]

    #[test]
    fn whatever_gdb_says_the_application_goes_on_without_it(said in prop::collection::vec(noise(), 1..16)) {
        let mut bench = Bench::new(Options::default());
        for bytes in said {
            bench.send(&bytes);
        }
        bench.gdb_goes();
        bench.outcome().unwrap();
        // What is halted is let go by a call; what was just told to run, to step or to halt, by the session's end, which comes with the server's.
        bench.wait_until(|model| model.is_over);
        let model = lock(&bench.model);
        prop_assert!(model.planted().is_empty());
    }
}

/// A field of an answer that is another.
#[derive(Debug, Clone)]
enum Lie {
    Call(i64),
    State(i32),
    Starts(u32),
    Problem(i32, u32),
    NoStop,
    AStop,
    Reason(i32),
    Number(u32),
    Registers(usize),
    SetRegister(usize, u32),
    StackAt(u32),
    Stack(usize),
    NoData,
    MoreData(usize),
    LongerData(usize),
    Target(u32, u32, u32),
    Nothing,
}

fn lie() -> impl Strategy<Value = Lie> {
    let place = || prop_oneof![Just(CODE), Just(RAM), Just(RAM + BYTES), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        (-3i64..4).prop_map(Lie::Call),
        any::<i64>().prop_map(Lie::Call),
        prop_oneof![0i32..5, any::<i32>()].prop_map(Lie::State),
        any::<u32>().prop_map(Lie::Starts),
        (prop_oneof![0i32..10, any::<i32>()], any::<u32>())
            .prop_map(|(problem, at)| Lie::Problem(problem, at)),
        Just(Lie::NoStop),
        Just(Lie::AStop),
        prop_oneof![0i32..9, any::<i32>()].prop_map(Lie::Reason),
        any::<u32>().prop_map(Lie::Number),
        (0usize..200).prop_map(Lie::Registers),
        (0usize..20, place()).prop_map(|(number, value)| Lie::SetRegister(number, value)),
        place().prop_map(Lie::StackAt),
        (0usize..4000).prop_map(Lie::Stack),
        Just(Lie::NoData),
        (0usize..100).prop_map(Lie::MoreData),
        (0usize..4000).prop_map(Lie::LongerData),
        (place(), any::<u32>(), 0u32..100).prop_map(|(at, bytes, most)| Lie::Target(at, bytes, most)),
        Just(Lie::Nothing),
    ]
}

impl Lie {
    fn tell(&self, answer: &mut DebugAnswer) {
        match self {
            Lie::Call(by) => answer.call = (i64::from(answer.call)).wrapping_add(*by) as u32,
            Lie::State(state) => answer.state = *state,
            Lie::Starts(starts) => answer.starts = *starts,
            Lie::Problem(problem, at) => (answer.problem, answer.problem_at) = (*problem, *at),
            Lie::NoStop => answer.stop = None,
            Lie::AStop => answer.stop = Some(stop(answer)),
            Lie::NoData => answer.data.clear(),
            Lie::MoreData(bytes) => answer.data.push(DebugData { data: vec![0; *bytes] }),
            Lie::LongerData(bytes) => {
                answer.data.iter_mut().for_each(|data| data.data = vec![0; *bytes]);
            }
            Lie::Target(address, length, most) => {
                let region = proto::device::v1::DebugRegion { address: *address, length: *length, memory: 2 };
                answer.target = Some(DebugTarget {
                    regions: vec![region],
                    read_bytes_max: *most,
                    write_bytes_max: *most,
                    breakpoints_max: *most,
                    ..DebugTarget::default()
                });
            }
            Lie::Nothing => *answer = DebugAnswer { call: answer.call, ..DebugAnswer::default() },
            lie => answer.stop.iter_mut().for_each(|stop| lie.tell_of(stop)),
        }
    }

    fn tell_of(&self, stop: &mut DebugStop) {
        match self {
            Lie::Reason(reason) => stop.reason = *reason,
            Lie::Number(number) => stop.number = *number,
            Lie::Registers(bytes) => stop.registers.resize(*bytes, 0xff),
            Lie::SetRegister(number, value) => {
                let word = stop.registers.chunks_exact_mut(4).nth(*number);
                word.into_iter().for_each(|word| word.copy_from_slice(&value.to_le_bytes()));
            }
            Lie::StackAt(at) => stop.stack_at = *at,
            Lie::Stack(bytes) => stop.stack.resize(*bytes, 0xee),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(few(64))]

    /// gdb is served, told, or left without an answer; and when the session is over, so is the wait.
    #[test]
    fn a_device_of_which_one_word_is_not_true_holds_nobody_longer_than_the_session(
        lies in prop::collection::vec(prop::option::weighted(0.3, lie()), 1..12),
    ) {
        let mut lies = lies.into_iter().cycle();
        let mut is_open = false;
        let mut bench = Bench::with(lying(move |_, answers| {
            // Of what there is to debug the truth is told once.
            if std::mem::replace(&mut is_open, true) {
                for answer in answers {
                    lies.next().flatten().iter().for_each(|lie| lie.tell(answer));
                }
            }
        }), Options::default());
        let range = format!("vCont;r{CODE:x},{:x}:p1.1", CODE + 8);
        for packet in ["g", "m28200000,40", "Z0,200024,2", "vCont;c", "g", "m28204000,4", &range, "M28200000,1:00", "vCont;s"] {
            bench.send(&framed(packet.as_bytes()));
        }
        bench.send(&[3]);
        bench.to = None;
        let _ = bench.tell.blocking_send(Err(Gone::Ended("it is over".into())));
        bench.gdb_goes();
        drop(bench.outcome());
    }
}

/// Any answer; `call` is counted from the newest.
fn any_answer() -> impl Strategy<Value = (u32, DebugAnswer)> {
    let few_or_any = || prop_oneof![4 => 0i32..5, 1 => any::<i32>()];
    let bytes =
        |most: usize| prop_oneof![4 => 0usize..most, 1 => Just(80)].prop_map(|count| vec![7u8; count]);
    let stop = (0u32..4, few_or_any(), bytes(100), any::<u32>(), bytes(1100)).prop_map(
        |(number, reason, registers, stack_at, stack)| DebugStop {
            number,
            reason,
            registers,
            stack_at,
            stack,
            ..DebugStop::default()
        },
    );
    let region = (any::<u32>(), any::<u32>(), few_or_any())
        .prop_map(|(address, length, memory)| proto::device::v1::DebugRegion { address, length, memory });
    let target = (prop::collection::vec(region, 0..3), any::<u32>(), any::<bool>()).prop_map(
        |(regions, read_bytes_max, read_only)| DebugTarget {
            regions,
            read_bytes_max,
            read_only,
            ..DebugTarget::default()
        },
    );
    let data = prop::collection::vec(bytes(300).prop_map(|data| DebugData { data }), 0..3);
    let answer = (
        prop_oneof![3 => Just(2i32), 1 => few_or_any()],
        prop_oneof![6 => Just(1u32), 1 => 0u32..4],
        prop::option::of(stop),
        prop_oneof![2 => Just(Vec::new()), 1 => data],
        prop_oneof![6 => Just(0i32), 1 => few_or_any()],
        prop::option::weighted(0.05, target),
    )
        .prop_map(|(state, starts, stop, data, problem, target)| DebugAnswer {
            state,
            starts,
            stop,
            data,
            problem,
            target,
            ..DebugAnswer::default()
        });
    (prop_oneof![6 => Just(0u32), 2 => 0u32..4, 1 => any::<u32>()], answer)
}

#[derive(Debug, Clone)]
enum Does {
    Hears(Box<(u32, DebugAnswer)>, usize),
    Goes(u8),
    Interrupts,
    Plants(u32),
    TakesNews,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        8 => (any_answer(), prop_oneof![8 => Just(1usize), 1 => 2usize..200]).prop_map(|(answer, times)| Does::Hears(answer.into(), times)),
        2 => (0u8..4).prop_map(Does::Goes),
        1 => Just(Does::Interrupts),
        1 => (0u32..64).prop_map(|offset| Does::Plants(CODE + 2 * offset)),
        2 => Just(Does::TakesNews),
    ]
}

/// Characters of a machine in full: its lines of memory above all. It holds two stops' worth of reads at most.
const MACHINE_CHARS_MAX: usize = 512 * 1024;

proptest! {
    #![proptest_config(few(96))]

    #[test]
    fn any_answers_are_taken_or_the_end_and_nothing_grows(all in prop::collection::vec(does(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (near, mut far) = link::link();
        let (describe, mut device) = (DebugCall { number: 1, describe: true, ..DebugCall::default() }, Model::new());
        for answer in device.take(describe) {
            far.answers.blocking_send(Ok(answer)).unwrap();
        }
        let mut machine = runtime.block_on(Machine::open(near, false)).unwrap();
        let mut newest = 1;
        for does in all {
            let outcome = match does {
                Does::Hears(answer, times) => {
                    let (back, mut answer) = *answer;
                    answer.call = u32::wrapping_sub(newest, back);
                    (0..times).try_for_each(|_| machine.hear(answer.clone()).map(drop))
                }
                Does::Goes(0) => machine.resume(Go::Continue),
                Does::Goes(1) => machine.resume(Go::Step),
                Does::Goes(_) => machine.resume(Go::Range(CODE, CODE + 8)),
                Does::Interrupts => machine.interrupt(),
                Does::Plants(at) => {
                    drop(machine.add_breakpoint(Kind::Planted, at));
                    drop(machine.add_breakpoint(Kind::Hardware, at));
                    Ok(())
                }
                Does::TakesNews => {
                    prop_assert!(machine.take_news().len() <= NEWS_MAX);
                    Ok(())
                }
            };
            while let Ok(call) = far.calls.try_recv() {
                newest = call.number;
            }
            if let Err(gone) = outcome {
                prop_assert!(matches!(gone, Gone::Nonsense(_)), "{gone}");
                break;
            }
        }
        let chars = format!("{machine:?}").len();
        prop_assert!(chars < MACHINE_CHARS_MAX, "{} characters", chars);
    }
}

#[test]
fn a_halt_that_is_answered_as_running_is_waited_for_until_the_session_is_over() {
    let mut bench = Bench::with(
        lying(|call, answers| {
            if call.go() == DebugGo::Halt {
                let (call, starts) = (call.number, 1);
                *answers = vec![DebugAnswer { call, state: 1, starts, ..DebugAnswer::default() }];
            }
        }),
        Options::default(),
    );
    bench.send(&framed(b"g"));
    bench.wait_until(|model| model.calls.iter().any(|call| call.go() == DebugGo::Halt));
    let over = Gone::Ended("as the developer wished".into());
    bench.tell.blocking_send(Err(over.clone())).unwrap();
    assert_eq!(bench.outcome_while_connected(), Err(over));
    bench.wait_until(|model| model.is_over && model.planted().is_empty());
}

/// As with `--exec`, where the session lasts until gdb ends: one that gives up waiting is gone, and its halt is on the way.
#[test]
fn an_application_that_runs_when_gdb_goes_stops_for_nobody_afterwards() {
    for interrupts in [false, true] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The halt that Ctrl-C asks for is answered when gdb is gone.
        let (mut held, mut halts) = (Vec::new(), 0);
        let model = lying(move |call, answers| {
            halts += u32::from(call.go() == DebugGo::Halt);
            if call.go() == DebugGo::Halt && halts == 2 {
                held.append(answers);
            } else if call.plant && call.breakpoints.is_empty() {
                drop(answers.splice(0..0, held.drain(..)));
            }
        });
        let model = Shared::new(model.into());
        let (mut debugged, _told) = debugged(&runtime, &model, Options::default()).unwrap();
        let (to, from) = mpsc::channel(64);
        let (server_to, _from) = mpsc::channel(64);
        to.blocking_send(framed(format!("Z0,{:x},2", CODE + 0x80).as_bytes())).unwrap();
        to.blocking_send(framed(b"vCont;c")).unwrap();
        interrupts.then(|| to.blocking_send(vec![3]).unwrap());
        drop(to);
        let handle = runtime.handle().clone();
        let (next_gdb, mut next) = mpsc::channel::<Gdb>(1);
        let serving = std::thread::spawn(move || {
            serve(&mut debugged, Gdb { from, to: server_to }, &handle, false).unwrap();
            wait_idly(&mut debugged.machine, &mut next, &handle).unwrap();
        });
        let is_let_go = |model: &Model| {
            let last = model.calls.iter().rfind(|call| call.go() != DebugGo::Unspecified);
            model.planted().is_empty()
                && model.calls.iter().any(|call| call.plant && call.breakpoints.is_empty())
                && last.is_some_and(|call| call.go() == DebugGo::Continue)
        };
        let until = Instant::now() + PATIENCE;
        while !is_let_go(&lock(&model)) {
            assert!(Instant::now() < until, "it is not let go; interrupted: {interrupts}");
            std::thread::yield_now();
        }
        drop(next_gdb);
        serving.join().unwrap();
    }
}

#[test]
fn an_answer_to_what_only_keeps_the_session_is_none_to_gdb() {
    let mut held = Vec::new();
    let model = lying(move |call, answers| {
        let keeps = DebugCall { number: call.number, ..DebugCall::default() };
        match *call == keeps {
            true => held.append(answers),
            false => drop(answers.splice(0..0, held.drain(..))),
        }
    });
    let quiet = Some((Duration::from_millis(20), None));
    let mut bench = Bench::with(model, Options { quiet, ..Options::default() });
    bench.pc();
    for at in [COUNTER, COUNTER + 0x4000] {
        lock(&bench.model).calls.clear();
        bench.wait_until(|model| !model.calls.is_empty());
        assert_eq!(bench.word(at), 0);
    }
}
