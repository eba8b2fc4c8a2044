//! An update that comes while a debugger holds the application: it is installed all the same, and debugged on if it names the key.

use anyhow::{Result, ensure};
use dev::firmware::Image;
use scenarios::an505::patient::{HELD, Patient};
use scenarios::world::name;

const CONFIRMED: &str = "STATE_CONFIRMED";

#[tokio::test]
async fn an_update_takes_what_gdb_holds_and_is_debugged_if_it_names_the_key() -> Result<()> {
    let patient = Patient::new("updated").await?;
    let (board, device) = patient.start().await?;
    let world = &patient.world;
    let scenario = async {
        let key = world.cli(&["debug", "key", "show"]).await?;
        let with_key = [&HELD[..], &["--debug-key", key.trim()]].concat();
        let named = world.app(Image::Patient, "2.0.0", 2, &with_key).await?;
        let again = world.app(Image::Patient, "2.1.0", 3, &with_key).await?;
        let silent = world.app(Image::Patient, "3.0.0", 4, &HELD).await?;
        let (debug, mut gdb) = patient.debugged(&device, &[]).await?;
        // Held, and planted where the next version comes, too, again and again: its trial would not end well if it was planted there.
        gdb.mi("-break-insert leaf").await?;
        let stop = gdb.until_stopped("-exec-continue").await?;
        ensure!(stop["frame"]["func"] == "leaf", "{stop}");
        gdb.console("set var rounds = 1000000").await?;

        // Nobody lets it go on, and it is replaced: the deployment ends as any does.
        let end = world.deploy(&device, &named).await?;
        ensure!(end == (CONFIRMED.into(), String::new()), "with a key: {end:?}");
        gdb.heard();
        // gdb still believes that it stands in the old one: nothing that it says is done to the new one.
        ensure!(gdb.refused("set var rounds = 3").await?.contains("Cannot access memory"));
        let refused = gdb.refused("set var $r0 = 3").await?;
        ensure!(refused.contains("not available"), "{refused}");
        gdb.mi("-exec-continue").await?;
        gdb.mi("-exec-interrupt").await?;
        gdb.stopped().await?;
        let told = gdb.heard();
        ensure!(told.contains("was started anew") && told.contains("another version, 2.0.0"), "{told}");
        // Now that its developer knows, it stops there as before.
        let stop = gdb.until_stopped("-exec-continue").await?;
        ensure!(stop["frame"]["func"] == "leaf", "{stop}");
        ensure!(gdb.value("rounds").await?.parse::<u32>()? < 1_000_000);
        gdb.mi("-break-delete").await?;
        gdb.mi("-break-insert masked").await?;
        gdb.console("set var mode = MODE_MASKED").await?;
        let stop = gdb.until_stopped("-exec-continue").await?;
        ensure!(stop["frame"]["func"] == "masked", "{stop}");
        gdb.console("set var mode = MODE_WORK").await?;
        let about = gdb.console("monitor info").await?;
        ensure!(about.contains("2.0.0"), "{about}");

        // A gdb that lets it go on by itself, time and again, stops none that it does not know.
        gdb.mi("-break-delete").await?;
        gdb.mi("-break-insert -c \"a == 123456\" leaf").await?;
        gdb.mi("-exec-continue").await?;
        let end = world.deploy(&device, &again).await?;
        ensure!(end == (CONFIRMED.into(), String::new()), "while it asks about each call: {end:?}");
        gdb.mi("-exec-interrupt").await?;
        let stop = gdb.stopped().await?;
        ensure!(stop["signal-name"] == "SIGINT", "{stop}");
        let told = gdb.heard();
        ensure!(told.contains("another version, 2.1.0"), "{told}");

        // The next one does not name the key: it is installed, and gdb, which waits, is told that the session is over.
        gdb.mi("-break-delete").await?;
        gdb.mi("-exec-continue").await?;
        let created = world.one(&["deploy", &device, &silent, "--no-wait"]).await?;
        let stop = gdb.stopped().await?;
        ensure!(stop["reason"] == "exited-signalled" && stop["signal-name"] == "SIGLOST", "{stop}");
        let told = gdb.heard();
        ensure!(told.contains("refuses to be debugged"), "{told}");
        let end = world.ended(&name(&created)?).await?;
        ensure!(end["state"] == CONFIRMED, "without: {end}");
        ensure!(!debug.end().await?.success(), "it ends as if it was asked to");
        gdb.quit().await?;
        Ok(())
    };
    world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}
