//! A flash that is not what it was, at power on: found, told by name, and come back from wherever something whole is left.
//!
//! One board lives through all of it. What was damaged and is not mended by the board itself is made whole again before the next
//! start, so that each start has its own damage only.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::{Net, Pace};
use factory::inspect::inspect;
use factory::map;
use gateway_core::boot::first::Record;
use scenarios::an505::board::{is_online, runs};
use scenarios::an505::flash::{BANK_BYTES, fill_slot_b, spoil, store, write_record};
use scenarios::an505::log::Log;
use scenarios::world::{World, name};
use serde_json::Value;

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];
const SOON: Duration = Duration::from_secs(60);
/// Bytes of a record of the first stage, of a counter, of a copy of the identity.
const ENTRY_BYTES: u32 = 32;
const IDENTITY_COPY: u32 = map::IDENTITY_BYTES / 2;
const PROVISION_COPY: u32 = map::PROVISION_BYTES / 2;

/// A board without power, and what is known of it.
struct Patient<'w> {
    world: &'w World,
    flash: &'w Path,
    log: Log<'w>,
}

impl Patient<'_> {
    /// Starts it with this damage; it has come back when the consoles and the log of this start have told all of it.
    async fn comes_back(
        &mut self,
        damaged: &[u32],
        first_stage: &[&str],
        microvisor: &[&str],
        logged: &[&str],
    ) -> Result<()> {
        damaged.iter().try_for_each(|at| spoil(self.flash, *at))?;
        let board = self.world.machine(self.flash)?.start().await?;
        let told: Vec<&str> = [microvisor, logged].concat();
        let scenario = async {
            let boot = self.log.next_boot(&told).await?;
            for line in first_stage {
                board.console().line(&format!("boot: {line}"), SOON).await?;
            }
            for line in microvisor {
                board.console().line(line, SOON).await?;
            }
            anyhow::Ok(boot)
        };
        self.world.undisturbed(&board, scenario).await?;
        board.cut_power().await
    }

    fn spoil(&self, damaged: &[u32]) -> Result<()> {
        damaged.iter().try_for_each(|at| spoil(self.flash, *at))
    }

    fn inspect(&self, pointer: &str) -> Result<Value> {
        let said = inspect(self.flash)?;
        said.pointer(pointer).cloned().with_context(|| format!("no {pointer} in {said}"))
    }
}

#[tokio::test]
async fn damage_anywhere_in_the_flash_is_told_and_a_whole_copy_takes_its_place() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("damage").await?;
    fill_slot_b(&flash)?;
    for floor in [0, 1] {
        write_record(&flash, Record::default().raise_floor(floor))?;
    }
    let device = two_versions(&world, &flash).await?;
    let mut log = Log::of(&world, &device);
    log.next_boot(&["identity made", "first 2.0.0: 1 s"]).await?;
    let mut board = Patient { world: &world, flash: &flash, log };
    one_of_two(&mut board).await?;
    the_version_before(&mut board).await?;
    no_application(&mut board).await?;
    ensure!(name(&world.one(&["device", "show", &device]).await?)? == device);
    no_journal(&mut board).await?;
    lower_boots(&board, &device).await?;
    no_microvisor(&board).await?;
    let other = no_identity(&board).await?;
    ensure!(other != device, "a board whose key is lost cannot be who it was");
    Ok(())
}

/// A device that runs 2.0.0, and has 1.0.0 still, which its floor allows.
async fn two_versions(world: &World, flash: &Path) -> Result<String> {
    let board = world.machine(flash)?.start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        for version in ["1.0.0", "2.0.0"] {
            let bundle = world.app(Image::First(version), version, 1, &QUICK).await?;
            ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
        }
        world.devices(1, |device| runs(device, "2.0.0") && device["app_floor"] == 1).await?;
        Ok(device)
    };
    let device = world.undisturbed(&board, scenario).await?;
    board.cut_power().await?;
    Ok(device)
}

/// Whatever is there twice may be damaged once.
async fn one_of_two(board: &mut Patient<'_>) -> Result<()> {
    let image = map::SLOTS[0] + map::SLOT_IMAGE + 100_000;
    let provisioning = map::PROVISION + PROVISION_COPY + 64;
    board
        .comes_back(
            &[image, provisioning, map::IDENTITY, map::BOOT_RECORD + ENTRY_BYTES],
            &["record damaged, active a", "slot a refused: digest_mismatch", "slot b runs"],
            &[
                "slot a refused: digest_mismatch",
                "boot record damaged",
                "provisioning copy 1 damaged",
                "identity repaired",
            ],
            &["first 2.0.0: 1 s"],
        )
        .await?;
    ensure!(board.inspect("/identity/health")? == "sound");
    ensure!(board.inspect("/boot_record/health")? == "sound");
    board.spoil(&[image, provisioning])
}

/// The installed version cannot be started: the one before it is. What was torn at the journal's end is put in order.
async fn the_version_before(board: &mut Patient<'_>) -> Result<()> {
    let (store, envelope) = (store()?, map::SLOTS[0] + map::SLOT_ENVELOPE + 250);
    // A torn write behind everything that was written.
    let ends = [store.store_at + BANK_BYTES - 64, store.store_at + 2 * BANK_BYTES - 64];
    let damaged = [&[envelope, store.slots[1].area_at + 1000], &ends[..]].concat();
    board
        .comes_back(
            &damaged,
            &["slot a refused: manifest_malformed", "slot b runs"],
            &["slot a refused: manifest_malformed", "StoreRepaired", "FellBack(DigestMismatch)"],
            &["first 1.0.0: 1 s"],
        )
        .await?;
    board.spoil(&[envelope])
}

/// Nothing is left to start: the device is online all the same.
async fn no_application(board: &mut Patient<'_>) -> Result<()> {
    let (store, keyset) = (store()?, map::SLOTS[0] + map::SLOT_KEYSET + 300);
    board
        .comes_back(
            &[keyset, store.slots[0].area_at + 1000],
            &["slot a refused: keyset_unsigned", "slot b runs"],
            &["slot a refused: keyset_unsigned", "NoApp"],
            &["connected"],
        )
        .await?;
    board.spoil(&[keyset])
}

/// The journal is lost, and the counter: the device enrols again, and is who it was.
async fn no_journal(board: &mut Patient<'_>) -> Result<()> {
    let store = store()?;
    let banks = [store.store_at, store.store_at + BANK_BYTES];
    board
        .comes_back(
            &[banks[0], banks[1], map::COUNTER],
            &["slot a runs"],
            &["StoreFormatted", "counter lost"],
            &["enrolled by Claim", "connected"],
        )
        .await
}

/// It counts its boots from one again: it is updated and shown as what it is all the same.
async fn lower_boots(board: &Patient<'_>, device: &str) -> Result<()> {
    let world = board.world;
    let machine = world.machine(board.flash)?.start().await?;
    let scenario = async {
        let bundle = world.app(Image::First("2.0.0"), "3.0.0", 1, &QUICK).await?;
        let ended = world.deploy(device, &bundle).await?;
        ensure!(ended == ("STATE_CONFIRMED".into(), String::new()), "{ended:?}");
        world.devices(1, |device| is_online(device) && runs(device, "3.0.0")).await
    };
    world.undisturbed(&machine, scenario).await?;
    machine.cut_power().await
}

/// Neither slot may run: nothing is jumped to, and the watchdog begins it all again.
async fn no_microvisor(board: &Patient<'_>) -> Result<()> {
    let slots = map::SLOTS.map(|slot| slot + map::SLOT_IMAGE + 300_000);
    board.spoil(&slots)?;
    // Without a network the clock need not wait for anyone.
    let pace = Pace::Instructions { shift: 5, sleep: false };
    let machine = board.world.machine(board.flash)?.net(Net::Unplugged).pace(pace).start().await?;
    let console = machine.console();
    let mut from = 0;
    for start in ["after power_on", "after watchdog"] {
        let refused = ["slot a refused: digest_mismatch", "slot b refused: digest_mismatch"];
        for line in [&[start], &refused[..], &["nothing may run"]].concat() {
            from = console.line_after(from, line, SOON).await?.number + 1;
        }
    }
    machine.reset_seen(2, SOON).await?;
    ensure!(console.lines().iter().all(|line| line.text.starts_with("boot: ")), "{}", machine.tail());
    machine.cut_power().await?;
    board.spoil(&slots)
}

/// Both copies of the key are lost: the board says so, makes another, and waits for an operator to take it for who it says it is.
async fn no_identity(board: &Patient<'_>) -> Result<String> {
    board.spoil(&[map::IDENTITY, map::IDENTITY + IDENTITY_COPY])?;
    let world = board.world;
    let machine = world.machine(board.flash)?.start().await?;
    machine.console().line("identity lost, another made", SOON).await?;
    machine.console().line("enrolment is pending", SOON).await?;
    let pending = world.one(&["device", "pending"]).await?;
    ensure!(pending["hardware_id"] == "damage", "{pending}");
    let device = name(&world.one(&["device", "accept", &name(&pending)?]).await?)?;
    // It would ask again in a minute. Its memory, with the records of this start, outlives the reset.
    machine.reset().await?;
    let mut log = Log::of(world, &device);
    log.next_boot(&["identity lost, another made", "stored identity cannot be used: NotOurs"]).await?;
    log.next_boot(&["enrolled by Claim", "connected"]).await?;
    machine.cut_power().await?;
    ensure!(board.inspect("/identity/health")? == "sound");
    Ok(device)
}
