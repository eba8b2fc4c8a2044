//! A session whose relay dies, and comes back: nothing is lost, and nothing is done twice.

use anyhow::{Result, ensure};
use dev::Service;

use scenarios::an505::patient::{Patient, connected};

#[tokio::test]
async fn a_session_survives_its_relay_and_nothing_is_done_twice() -> Result<()> {
    let patient = Patient::new("survives").await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        let debug = patient.debug(&device, &[]).await?;
        let mut gdb = connected(&format!("127.0.0.1:{}", debug.port)).await?;
        // A reconnection takes longer than gdb waits by itself.
        gdb.console("set remotetimeout 60").await?;
        gdb.mi("-break-insert -t walked").await?;
        gdb.until_stopped("-exec-continue").await?;
        let stack = &patient.world.stack;
        for _ in 0..3 {
            let listing = gdb.console("x/2i $pc").await?;
            stack.stop(Service::DebugRelay).await?;
            gdb.mi("-exec-step-instruction").await?;
            stack.start_service(Service::DebugRelay).await?;
            gdb.stopped().await?;
            let pc = gdb.value("$pc").await?;
            let at = pc.split_whitespace().next().unwrap_or_default();
            // The next one, or where this one leads to.
            let (now, rest) = listing.split_once(':').unwrap_or_default();
            ensure!(rest.contains(at) && !now.contains(at), "one step from {listing} led to {pc}");
        }
        // What is counted is counted once.
        gdb.console("set var rounds = 100").await?;
        for _ in 0..3 {
            stack.stop(Service::DebugRelay).await?;
            gdb.mi("-break-insert -t work").await?;
            gdb.mi("-exec-continue").await?;
            stack.start_service(Service::DebugRelay).await?;
            gdb.stopped().await?;
        }
        gdb.quit().await?;
        debug.ended().await
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}
