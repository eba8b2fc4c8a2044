//! What a user's action costs, in round trips to the device: a number that no distance and no load of a machine changes. And that what is
//! spared is not seen: line by line it goes where it goes at QEMU's own server.

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use scenarios::an505::patient::{HELD, Patient};
use scenarios::gdb::Gdb;
use scenarios::world::text;

/// Lines that are gone through, one after the other, each way.
const LINES: usize = 30;
/// Times that it goes out of a function, and to its next call.
const CALLS: usize = 4;

/// What an action may cost.
#[derive(Debug, Clone, Copy)]
struct Most {
    /// `next`, in a function and over what it calls.
    next: u32,
    /// `step`, which goes into functions, and out of several at once.
    step: u32,
}

/// Where to, in an application.
struct Walk {
    /// Gone through line by line; the first is a round of its.
    functions: &'static [&'static str],
    /// Called often.
    called: &'static str,
    most: Most,
}

const C: Walk = Walk {
    functions: &["work", "middle", "chosen", "walked"],
    called: "leaf",
    // Out of a recursion it is one for each call that is left.
    most: Most { next: 2, step: 9 },
};
/// What is inlined into a line gdb goes through one at a time.
const RUST: Walk = Walk {
    functions: &["patient_rust::work"],
    called: "patient_rust::leaf",
    most: Most { next: 5, step: 5 },
};

#[tokio::test]
async fn an_action_costs_two_round_trips_and_goes_where_it_should_in_c() -> Result<()> {
    costs(Image::Patient, &C).await
}

#[tokio::test]
async fn an_action_costs_two_round_trips_and_goes_where_it_should_in_rust() -> Result<()> {
    costs(Image::PatientRust, &RUST).await
}

/// An action: what it was, what it may cost, what it cost, and where it came out.
type Done = (String, u32, u32, String);

async fn costs(image: Image, walk: &Walk) -> Result<()> {
    let patient = Patient::of(image, &format!("costs-{}", image.name()), &HELD).await?;
    let machine = patient.world.machine(&patient.flash)?.probed();
    let (board, device) = patient.switched_on(&machine).await?;
    let scenario = async {
        let (debug, mut gdb) = patient.debugged(&device, &[]).await?;
        let ours = walked(&mut gdb, walk, true).await.context("through the relay")?;
        gdb.quit().await?;
        debug.ended().await?;
        let mut gdb = patient.gdb(text(&board.probe_socket())?).await?;
        let theirs = walked(&mut gdb, walk, false).await.context("at the emulator")?;
        gdb.quit().await?;
        Ok((ours, theirs))
    };
    let (ours, theirs) = patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;
    let mut wrong = Vec::new();
    for ((what, most, cost, place), (.., reference)) in ours.iter().zip(&theirs) {
        if cost > most {
            wrong.push(format!("{what} to {place}: {cost} round trips"));
        }
        if place != reference {
            wrong.push(format!("{what}: to {place} instead of {reference}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} actions:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
    Ok(())
}

async fn walked(gdb: &mut Gdb, walk: &Walk, counts: bool) -> Result<Vec<Done>> {
    let mut all = Vec::new();
    for function in walk.functions {
        for (by, most) in [("-exec-next", walk.most.next), ("-exec-step", walk.most.step)] {
            arrive(gdb, walk, function).await?;
            for _ in 0..LINES {
                let done = run(gdb, by, most, counts).await?;
                // What `wfi` is to a step depends on who steps.
                if done.3.contains("main\"") {
                    break;
                }
                all.push(done);
            }
        }
    }
    for _ in 0..CALLS {
        arrive(gdb, walk, walk.called).await?;
        for looks in ["backtrace", "info locals", "info registers pc", "x/4i $pc"] {
            let before = round_trips(gdb, counts).await?;
            gdb.console(looks).await?;
            all.push((looks.to_owned(), 0, round_trips(gdb, counts).await? - before, String::new()));
        }
        all.push(run(gdb, "-exec-finish", 1, counts).await?);
        gdb.mi(&format!("-break-insert {}", walk.called)).await?;
        all.push(run(gdb, "-exec-continue", 1, counts).await?);
        // gdb steps off it first.
        all.push(run(gdb, "-exec-continue", 2, counts).await?);
    }
    Ok(all)
}

/// To the first call of a function in a round of the application's, so that it is the same one each time.
async fn arrive(gdb: &mut Gdb, walk: &Walk, function: &str) -> Result<()> {
    gdb.mi("-break-delete").await?;
    let round = walk.functions[0];
    for place in [round, function].into_iter().skip(usize::from(function == round)) {
        gdb.mi(&format!("-break-insert -t {place}")).await?;
        gdb.until_stopped("-exec-continue").await?;
    }
    Ok(())
}

/// Something after which it runs.
async fn run(gdb: &mut Gdb, command: &str, most: u32, counts: bool) -> Result<Done> {
    let before = round_trips(gdb, counts).await?;
    let stop = gdb.until_stopped(command).await?;
    let cost = round_trips(gdb, counts).await? - before;
    let frame = &stop["frame"];
    Ok((command.to_owned(), most, cost, format!("{} {}:{}", frame["addr"], frame["func"], frame["line"])))
}

/// So far; another server has no words for it.
async fn round_trips(gdb: &mut Gdb, counts: bool) -> Result<u32> {
    if !counts {
        return Ok(0);
    }
    let said = gdb.console("monitor cache").await?;
    let count = said.split(' ').next().context("nothing is said of it")?;
    count.parse().with_context(|| said.clone())
}
