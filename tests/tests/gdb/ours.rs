//! What no other server has: an application that is started anew, all of `monitor`, faults that are held.

use anyhow::{Result, ensure};
use scenarios::an505::patient::Patient;
use scenarios::gdb::Gdb;
use serde_json::Value;

/// Where to, in an application.
#[derive(Debug)]
pub(crate) struct Places {
    main: &'static str,
    /// What makes it fault when it goes on.
    fault: &'static str,
    /// A function that comes a little before a variable changes.
    watched: Option<(&'static str, &'static str)>,
}

pub(crate) const C: Places =
    Places { main: "main", fault: "set var mode = MODE_UNDEFINED", watched: Some(("walked", "result")) };
pub(crate) const RUST: Places = Places {
    main: "patient_rust::main",
    fault: "set var *(&patient_rust::MODE as *mut u32) = 1",
    watched: None,
};
/// It has no fault of its own: `udf` is written over its next instruction.
pub(crate) const EMBASSY: Places =
    Places { main: "embassy::main", fault: "set var *($pc as *mut u16) = 0xde07", watched: None };

/// Whatever it did before: afterwards it has just started, and runs.
pub(crate) async fn examine(patient: &Patient, device: &str, places: &Places) -> Result<()> {
    let debug = patient.debug(device, &[]).await?;
    let mut gdb = patient.gdb_by("extended-remote", &format!("127.0.0.1:{}", debug.port)).await?;
    gdb.console("set remotetimeout 60").await?;
    run(&mut gdb, places).await?;
    monitored(&mut gdb, places).await?;
    a_fault_is_held(&mut gdb, places).await?;
    run(&mut gdb, places).await?;
    its_own_breakpoint_is_passed(&mut gdb).await?;
    without_hardware(&mut gdb, places).await?;
    run(&mut gdb, places).await?;
    gdb.quit().await?;
    debug.ended().await
}

async fn run(gdb: &mut Gdb, places: &Places) -> Result<()> {
    gdb.mi("-break-delete").await?;
    gdb.mi(&format!("-break-insert -t {}", places.main)).await?;
    let stop = gdb.until_stopped("-exec-run").await?;
    ensure!(is_in(&stop, places.main), "run: {stop}");
    // From its beginning: nothing that was written before is left.
    let halted = gdb.console("monitor halt-reason").await?;
    ensure!(halted.starts_with("breakpoint at 0x"), "{halted}");
    Ok(())
}

fn is_in(stop: &Value, function: &str) -> bool {
    stop["frame"]["func"] == function
}

async fn monitored(gdb: &mut Gdb, places: &Places) -> Result<()> {
    for (command, says) in [
        ("help", &["reset", "halt-reason", "fault", "uptime", "info", "cache"][..]),
        ("fault", &["no fault holds it"]),
        ("uptime", &[" s\n"]),
        ("info", &["an505", "1.0.0", "read and write", "60 s", " code\n", " ram\n"]),
        ("cache", &[" round trips, ", " from the ELF file"]),
        ("cache flush", &["is forgotten"]),
        ("nonsense", &["`nonsense` is not a command here"]),
        ("reset", &["stands before its first instruction"]),
        ("halt-reason", &["before its first instruction at 0x"]),
    ] {
        let said = gdb.console(&format!("monitor {command}")).await?;
        ensure!(says.iter().all(|words| said.contains(words)), "monitor {command}: {said}");
    }
    gdb.console("maintenance flush register-cache").await?;
    gdb.mi(&format!("-break-insert -t {}", places.main)).await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(is_in(&stop, places.main), "after monitor reset: {stop}");
    Ok(())
}

/// This board has no breakpoints of the hardware to give: gdb says so at once, and watches in software.
async fn without_hardware(gdb: &mut Gdb, places: &Places) -> Result<()> {
    gdb.console("set remote hardware-breakpoint-limit 0").await?;
    gdb.console("set remote hardware-watchpoint-limit 0").await?;
    let refused = gdb.refused(&format!("hbreak {}", places.main)).await?;
    ensure!(refused.contains("No hardware breakpoint support"), "{refused}");
    let Some((function, variable)) = places.watched else { return Ok(()) };
    gdb.mi(&format!("-break-insert -t {function}")).await?;
    gdb.until_stopped("-exec-continue").await?;
    gdb.console(&format!("watch {variable}")).await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(stop["reason"] == "watchpoint-trigger" && stop["value"]["old"] != stop["value"]["new"], "{stop}");
    Ok(())
}

async fn a_fault_is_held(gdb: &mut Gdb, places: &Places) -> Result<()> {
    gdb.console(places.fault).await?;
    let stop = gdb.until_stopped("-exec-continue").await?;
    ensure!(stop["signal-name"] == "SIGILL", "{stop}");
    let shown = gdb.console("x/i $pc").await?;
    ensure!(shown.contains("udf"), "{shown}");
    let fault = gdb.console("monitor fault").await?;
    ensure!(fault.contains("held before it ends") && fault.contains("UNDEFINSTR"), "{fault}");
    Ok(())
}

/// `nop`, `bkpt` and `udf` over what it would do next: afterwards only a start anew helps. Not `bkpt` alone, since going on passes one that it
/// stands at.
async fn its_own_breakpoint_is_passed(gdb: &mut Gdb) -> Result<()> {
    gdb.mi("-data-write-memory-bytes $pc 00bf00be07de").await?;
    for (signal, at) in [("SIGTRAP", "bkpt"), ("SIGILL", "udf")] {
        let stop = gdb.until_stopped("-exec-continue").await?;
        let shown = gdb.console("x/i $pc").await?;
        ensure!(stop["signal-name"] == signal && shown.contains(at), "{at}: {shown}: {stop}");
    }
    Ok(())
}
