//! Halting, faults, restarts and ends: what is not the same at every server.

use anyhow::{Result, ensure};
use scenarios::gdb::Gdb;
use scenarios::world::PATIENCE;
use serde_json::Value;

use scenarios::an505::patient::{Patient, connected};

/// Ways the patient spends its time in that are hard to stop, and the function it is then in.
const HARD: [(&str, &[&str]); 5] = [
    ("MODE_MASKED", &["masked"]),
    ("MODE_IN_HANDLER", &["SysTick_Handler", "behave"]),
    ("MODE_IN_CALLS", &["in_calls", "mvNoOp"]),
    ("MODE_EXCLUSIVE", &["exclusive"]),
    ("MODE_ASLEEP", &["behave"]),
];

#[tokio::test]
async fn an_application_is_halted_debugged_and_let_go_whatever_it_does() -> Result<()> {
    let patient = Patient::new("ways").await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        let debug = patient.debug(&device, &[]).await?;
        let mut gdb = connected(&format!("127.0.0.1:{}", debug.port)).await?;
        for (mode, functions) in HARD {
            halted_in(&mut gdb, mode, functions).await?;
        }
        a_breakpoint_of_its_own(&mut gdb).await?;
        what_an_interrupt_writes_is_read_anew(&mut gdb).await?;
        a_fault_is_held(&mut gdb).await?;
        monitored(&mut gdb).await?;
        // It runs when gdb has left, and nothing that was planted is left behind.
        gdb.mi("-break-insert work").await?;
        gdb.console("detach").await?;
        gdb.quit().await?;
        debug.ended().await?;
        it_runs(&patient, &device).await
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}

/// Lets it into this mode, halts it there, and leads it out.
async fn halted_in(gdb: &mut Gdb, mode: &str, functions: &[&str]) -> Result<()> {
    gdb.console(&format!("set var mode = {mode}")).await?;
    gdb.mi("-exec-continue").await?;
    // The way there is short; whoever is not there yet is halted again.
    let stop = loop {
        gdb.mi("-exec-interrupt").await?;
        let stop = gdb.stopped().await?;
        ensure!(stop["signal-name"] == "SIGINT", "{mode}: {stop}");
        if is_in(&stop, functions) {
            break stop;
        }
        gdb.mi("-exec-continue").await?;
    };
    // It can be stepped there, and stays there.
    for _ in 0..4 {
        let stepped = gdb.until_stopped("-exec-step-instruction").await?;
        ensure!(stepped["reason"] == "end-stepping-range", "{mode}: {stepped} after {stop}");
    }
    gdb.console("set var mode = MODE_WORK").await?;
    let out = gdb.mi("-break-insert -t work").await?;
    ensure!(out["bkpt"]["func"] == "work", "{out}");
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(is_in(&stop, &["work"]), "{mode}: {stop}");
    Ok(())
}

fn is_in(stop: &Value, functions: &[&str]) -> bool {
    functions.iter().any(|function| stop["frame"]["func"] == *function)
}

/// It halts there, and goes on behind it.
async fn a_breakpoint_of_its_own(gdb: &mut Gdb) -> Result<()> {
    gdb.console("set var mode = MODE_BREAKPOINT").await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(is_in(&stop, &["behave"]), "{stop}");
    let shown = gdb.console("x/i $pc").await?;
    ensure!(shown.contains("bkpt"), "{shown}");
    gdb.mi("-break-insert -t work").await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(is_in(&stop, &["work"]), "{stop}");
    Ok(())
}

async fn what_an_interrupt_writes_is_read_anew(gdb: &mut Gdb) -> Result<()> {
    let mut before: u32 = gdb.value("ticks").await?.parse()?;
    for _ in 0..3 {
        gdb.mi("-break-insert -t work").await?;
        gdb.until_stopped("-exec-continue").await?;
        let now: u32 = gdb.value("ticks").await?.parse()?;
        ensure!(now > before, "{now} ticks after {before}");
        before = now;
    }
    Ok(())
}

/// At the instruction that faulted, before it ends.
async fn a_fault_is_held(gdb: &mut Gdb) -> Result<()> {
    gdb.console("set var mode = MODE_UNDEFINED").await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(stop["signal-name"] == "SIGILL" && is_in(&stop, &["behave"]), "{stop}");
    let shown = gdb.console("x/i $pc").await?;
    ensure!(shown.contains("udf"), "{shown}");
    let fault = gdb.console("monitor fault").await?;
    ensure!(fault.contains("UNDEFINSTR"), "{fault}");
    Ok(())
}

async fn monitored(gdb: &mut Gdb) -> Result<()> {
    let help = gdb.console("monitor help").await?;
    ensure!(help.contains("reset"), "{help}");
    let uptime = gdb.console("monitor uptime").await?;
    ensure!(uptime.chars().any(|c| c.is_ascii_digit()), "{uptime}");
    gdb.console("monitor reset").await?;
    gdb.console("maintenance flush register-cache").await?;
    gdb.value("mode").await?;
    gdb.mi("-break-insert -t main").await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(is_in(&stop, &["main"]), "{stop}");
    Ok(())
}

/// Its next start or its log says so: here its console does not, so it is halted once more, working.
async fn it_runs(patient: &Patient, device: &str) -> Result<()> {
    let debug = patient.debug(device, &[]).await?;
    let mut gdb = connected(&format!("127.0.0.1:{}", debug.port)).await?;
    let rounds: u32 = gdb.value("rounds").await?.parse()?;
    let goes_on = async {
        loop {
            gdb.mi("-exec-continue").await?;
            gdb.mi("-exec-interrupt").await?;
            gdb.stopped().await?;
            let now: u32 = gdb.value("rounds").await?.parse()?;
            if now > rounds + 3 {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await??;
    let code = gdb.console("x/1xh work").await?;
    ensure!(!code.contains("0xbe00"), "a breakpoint is left: {code}");
    gdb.quit().await?;
    debug.ended().await
}
