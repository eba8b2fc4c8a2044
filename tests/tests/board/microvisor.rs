//! The microvisor over the air: exchanged there and back, and taken back by itself whatever is wrong with the new one. The device is reachable
//! after each, with its application as it was.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::Service;
use dev::firmware::{Image, Misbehaviour};
use dev::qemu::Board;
use scenarios::an505::board::{is_online, runs, runs_microvisor};
use scenarios::world::{PATIENCE, World, name, text};
use serde_json::Value;

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];
/// Time for a good microvisor to be answered in, on a machine that has much else to do.
const ANSWERED: [&str; 2] = ["--trial", "60s"];
const SOON: Duration = Duration::from_secs(60);
/// What the board starts with: `dev::factory`.
const FACTORY_VERSION: &str = env!("CARGO_PKG_VERSION");

fn confirmed() -> (String, String) {
    ("STATE_CONFIRMED".into(), String::new())
}

fn reverted(reason: &str) -> (String, String) {
    ("STATE_REVERTED".into(), reason.into())
}

/// Deploys, and does not wait; the deployment's resource name.
async fn begin(world: &World, device: &str, bundle: &str) -> Result<String> {
    name(&world.one(&["deploy", device, bundle, "--no-wait"]).await?)
}

async fn end(world: &World, deployment: &str) -> Result<(String, String)> {
    let ended = world.ended(deployment).await?;
    let field = |key: &str| ended[key].as_str().unwrap_or_default().to_owned();
    Ok((field("state"), field("reason")))
}

/// Waits until the device has raised its floor for this deployment.
async fn committed(world: &World, deployment: &str) -> Result<()> {
    let committed = async {
        while world.one(&["deployment", "show", deployment]).await?["committed"] != true {}
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, committed).await.context("the floor was not raised")?
}

/// The microvisor's slot that runs.
fn slot(device: &Value) -> Option<&Value> {
    let slots = device["slots"].as_array()?;
    slots.iter().find(|slot| slot["component"] == "microvisor" && slot["running"] == true)
}

#[tokio::test]
async fn a_microvisor_is_exchanged_there_and_back_with_an_application_that_needs_it() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("exchange").await?;
    let board = world.machine(&flash)?.start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        let first = world.app(Image::First("1.0.0"), "1.0.0", 1, &QUICK).await?;
        ensure!(world.deploy(&device, &first).await? == confirmed());
        there(&world, &device).await?;
        back_with_an_application(&world, &device).await?;
        release_keys_have_scopes(&world, &board, &device).await
    };
    scenario.await.with_context(|| board.tail())?;
    board.cut_power().await
}

/// From slot A to slot B; the application stays what it was.
async fn there(world: &World, device: &str) -> Result<()> {
    let shown = world.one(&["device", "show", device]).await?;
    ensure!(runs_microvisor(&shown, FACTORY_VERSION), "{shown}");
    let bundle = world.microvisor("1.1.0", 2, &ANSWERED).await?;
    let deployment = begin(world, device, &bundle).await?;
    ensure!(end(world, &deployment).await? == confirmed());
    let runs_both = |shown: &Value| runs_microvisor(shown, "1.1.0") && runs(shown, "1.0.0");
    world.devices(1, runs_both).await?;
    let shown = world.one(&["device", "show", device]).await?;
    ensure!(slot(&shown).is_some_and(|slot| slot["index"] == 1 && slot["security_counter"] == 2), "{shown}");
    committed(world, &deployment).await
}

/// To slot A again; meanwhile an application waits that runs on nothing older.
async fn back_with_an_application(world: &World, device: &str) -> Result<()> {
    let needs = [&QUICK[..], &["--microvisor-min", "1.2.0"]].concat();
    let app = world.app(Image::First("2.0.0"), "2.0.0", 2, &needs).await?;
    let refused = world.try_cli(&["deploy", device, &app]).await?;
    ensure!(refused.code != 0, "{refused:?}");
    let why = "needs microvisor 1.2.0 or newer, the device runs 1.1.0";
    ensure!(refused.stderr.contains(why), "{refused:?}");

    let bundle = world.microvisor("1.2.0", 3, &ANSWERED).await?;
    let microvisor = begin(world, device, &bundle).await?;
    let app = begin(world, device, &app).await?;
    ensure!(end(world, &microvisor).await? == confirmed());
    ensure!(end(world, &app).await? == confirmed());
    let runs_both = |shown: &Value| runs_microvisor(shown, "1.2.0") && runs(shown, "2.0.0");
    world.devices(1, runs_both).await?;
    let shown = world.one(&["device", "show", device]).await?;
    // What is zero is left out.
    ensure!(slot(&shown).is_some_and(|slot| slot["index"].as_u64().unwrap_or(0) == 0), "{shown}");
    // The floor has risen: what was there before is not taken again.
    committed(world, &microvisor).await?;
    let older = world.microvisor("1.1.1", 2, &ANSWERED).await?;
    ensure!(world.deploy(device, &older).await? == ("STATE_REFUSED".into(), "below_floor".into()));
    Ok(())
}

/// With a keyset that gives microvisors a key of their own, the applications' key signs none: neither svc-ota nor the device takes it.
async fn release_keys_have_scopes(world: &World, board: &Board, device: &str) -> Result<()> {
    let stored = world.microvisor("1.3.0", 4, &ANSWERED).await?;
    let own = world.path("keys/microvisor.pem");
    world.cli(&["key", "generate", text(&own)?]).await?;
    let scopes = [
        format!("{}:app", text(&world.path("keys/release.pem"))?),
        format!("{}:microvisor:an505", text(&own)?),
    ];
    publish(world, &scopes).await?;
    board.reset().await?;
    world.devices(1, |shown| shown["keyset_version"] == 2).await?;

    // It was uploaded while the key was good for it. The device has the newer keyset.
    let refused = world.deploy(device, &stored).await?;
    ensure!(refused == ("STATE_REFUSED".into(), "unknown_key".into()), "{refused:?}");
    let file = world.microvisor_file(&world.path("keys/release.pem"), "1.3.1", 5, &ANSWERED).await?;
    let refused = world.try_cli(&["bundle", "upload", text(&file)?]).await?;
    ensure!(refused.code != 0 && refused.stderr.contains("another component"), "{refused:?}");
    let file = world.microvisor_file(&own, "1.3.2", 6, &ANSWERED).await?;
    let bundle = name(&world.one(&["bundle", "upload", text(&file)?]).await?)?;
    ensure!(world.deploy(device, &bundle).await? == confirmed());
    world.devices(1, |shown| runs_microvisor(shown, "1.3.2") && runs(shown, "2.0.0")).await.map(drop)
}

/// Signs and publishes the next keyset, with these release keys.
async fn publish(world: &World, releases: &[String]) -> Result<()> {
    let (root, at) = (world.path("keys/root.pem"), |name: &str| world.path(name));
    let (payload, signature, keyset) = (at("next.payload"), at("next.sig"), at("next.keyset"));
    let mut create = vec!["keyset", "create", "--root", text(&root)?, "--out", text(&payload)?];
    create.extend(releases.iter().flat_map(|release| ["--release", release]));
    world.cli(&create).await?;
    world
        .cli(&["keyset", "sign", text(&payload)?, "--key", text(&root)?, "--out", text(&signature)?])
        .await?;
    let assemble = ["keyset", "assemble", text(&payload)?, "--signature", text(&signature)?];
    world.cli(&[&assemble[..], &["--out", text(&keyset)?]].concat()).await?;
    world.cli(&["keyset", "upload", text(&keyset)?]).await.map(drop)
}

#[tokio::test]
async fn microvisors_that_hang_fault_lock_up_or_are_not_heard_are_taken_back() -> Result<()> {
    let world = World::start().await?;
    let patients = tokio::try_join!(
        Patient::admitted(&world, "faulty"),
        Patient::admitted(&world, "hanging"),
        Patient::admitted(&world, "unheard"),
    )?;
    let (mut faulty, mut hanging, mut unheard) = patients;
    tokio::try_join!(
        async {
            let twice = ["--attempts", "2"];
            faulty.takes_back(Misbehaviour::Fault, "1.1.0", &twice, "failed").await?;
            faulty.takes_back(Misbehaviour::LockUp, "1.2.0", &twice, "failed").await
        },
        hanging.takes_back(Misbehaviour::Hang, "1.3.0", &["--attempts", "1"], "failed"),
        async {
            let never = Misbehaviour::Online { from_ms: None };
            unheard.takes_back(never, "1.4.0", &["--trial", "3s"], "inconclusive").await?;
            // Late, and in time. That one stays.
            let late = Misbehaviour::Online { from_ms: Some(8000) };
            let bundle = world.misbehaving(late, "1.5.0", 2, &["--trial", "20s"]).await?;
            ensure!(world.deploy(&unheard.device, &bundle).await? == confirmed());
            unheard.is("1.5.0").await
        },
    )?;
    for patient in [faulty, hanging, unheard] {
        patient.board.cut_power().await?;
    }
    Ok(())
}

/// A board with an application, a device of its world.
struct Patient<'w> {
    world: &'w World,
    flash: std::path::PathBuf,
    board: Board,
    device: String,
}

impl Patient<'_> {
    async fn admitted<'w>(world: &'w World, hardware_id: &str) -> Result<Patient<'w>> {
        let flash = world.flash(hardware_id).await?;
        let board = world.machine(&flash)?.start().await?;
        let its = |shown: &Value| shown["hardware_id"] == hardware_id && is_online(shown);
        let device = world.devices(1, its).await?.remove(0);
        let version = format!("1.0.0-{hardware_id}");
        let app = world.app(Image::First("1.0.0"), &version, 1, &QUICK).await?;
        ensure!(world.deploy(&device, &app).await? == confirmed());
        Ok(Patient { world, flash, board, device })
    }

    /// It tries this microvisor, goes back by itself, says why, and is what it was.
    async fn takes_back(
        &mut self,
        how: Misbehaviour,
        version: &str,
        extra: &[&str],
        reason: &str,
    ) -> Result<()> {
        let bundle = self.world.misbehaving(how, version, 2, extra).await?;
        let deployment = begin(self.world, &self.device, &bundle).await?;
        let ended =
            self.ended(&deployment).await.with_context(|| format!("{how:?}\n{}", self.board.tail()))?;
        ensure!(ended == reverted(reason), "{how:?} ended {ended:?}\n{}", self.board.tail());
        self.is(FACTORY_VERSION).await
    }

    /// The end of the deployment. Where QEMU ends instead of the processor, the power comes back.
    async fn ended(&mut self, deployment: &str) -> Result<(String, String)> {
        let ended = end(self.world, deployment);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return ended,
                died = self.board.process().ended(Duration::MAX) => died?,
            };
            self.board = self.world.machine(&self.flash)?.start().await?;
        }
    }

    /// Runs this microvisor, and the application as ever.
    async fn is(&self, version: &str) -> Result<()> {
        let device = &self.device;
        let runs_both = |shown: &Value| {
            shown["name"] == device.as_str() && runs_microvisor(shown, version) && is_online(shown)
        };
        self.world.devices(1, runs_both).await?;
        let shown = self.world.one(&["device", "show", device]).await?;
        let app = format!("1.0.0-{}", shown["hardware_id"].as_str().unwrap_or_default());
        ensure!(runs(&shown, &app), "{shown}");
        Ok(())
    }
}

#[tokio::test]
async fn a_server_answers_a_microvisor_late_or_never_and_the_one_before_reads_what_it_wrote() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("silent").await?;
    let board = world.machine(&flash)?.start().await?;
    silent(&world, &board).await.with_context(|| board.tail())?;
    board.cut_power().await?;
    starts_with_it(&world, &flash).await
}

async fn silent(world: &World, board: &Board) -> Result<()> {
    let device = world.devices(1, is_online).await?.remove(0);
    answered_late(world, board, &device).await?;
    // What the newer one writes: a floor, a confirmed application, a keyset.
    let app = world.app(Image::First("2.0.0"), "2.0.0", 2, &QUICK).await?;
    ensure!(world.deploy(&device, &app).await? == confirmed());
    publish(world, &[text(&world.path("keys/release.pem"))?.to_owned()]).await?;
    board.reset().await?;
    world.devices(1, |shown| shown["keyset_version"] == 2 && runs(shown, "2.0.0")).await?;

    // It is not connected at once, so that the server is gone by then.
    let late = Misbehaviour::Online { from_ms: Some(5000) };
    let bundle = world.misbehaving(late, "1.2.0", 3, &["--trial", "8s"]).await?;
    let from = board.console().count();
    let deployment = begin(world, &device, &bundle).await?;
    let tried = board.console().line_after(from, "boot: slot a runs", SOON).await?.number;
    world.stack.stop(Service::Ota).await?;
    board.console().line_after(tried, "connected", SOON).await?;
    board.console().line_after(tried, "boot: slot b runs", SOON).await?;
    world.stack.start_service(Service::Ota).await?;
    let ended = end(world, &deployment).await?;
    ensure!(ended == reverted("inconclusive"), "{ended:?}");
    let as_before = |shown: &Value| {
        runs_microvisor(shown, "1.1.0") && runs(shown, "2.0.0") && shown["keyset_version"] == 2
    };
    world.devices(1, as_before).await?;
    let shown = world.one(&["device", "show", &device]).await?;
    ensure!(shown["app_floor"] == 2, "{shown}");
    // And it goes on with it.
    let app = world.app(Image::First("1.0.0"), "2.1.0", 3, &QUICK).await?;
    ensure!(world.deploy(&device, &app).await? == confirmed());
    Ok(())
}

/// The server is gone when the microvisor says hello, and comes back in time: it hears a later one.
async fn answered_late(world: &World, board: &Board, device: &str) -> Result<()> {
    let late = Misbehaviour::Online { from_ms: Some(3000) };
    let bundle = world.misbehaving(late, "1.1.0", 2, &ANSWERED).await?;
    let deployment = begin(world, device, &bundle).await?;
    let tried = board.console().line("boot: slot b runs", SOON).await?.number;
    world.stack.stop(Service::Ota).await?;
    board.console().line_after(tried, "connected", SOON).await?;
    world.stack.start_service(Service::Ota).await?;
    ensure!(end(world, &deployment).await? == confirmed());
    Ok(())
}

/// From power on as well.
async fn starts_with_it(world: &World, flash: &Path) -> Result<()> {
    let board = world.machine(flash)?.start().await?;
    board.console().line("boot: slot b runs", SOON).await?;
    world
        .devices(1, |shown| runs_microvisor(shown, "1.1.0") && runs(shown, "2.1.0") && is_online(shown))
        .await?;
    board.cut_power().await
}
