//! What a network does to a board: nothing that lasts. Frames are lost, doubled and late, leases end, the broker goes away.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use dev::firmware::Image;
use dev::{Service, qemu};
use scenarios::an505::board::{is_online, runs};
use scenarios::an505::wire::{Counts, Network, Weather, Wire};
use scenarios::world::{PATIENCE, World};

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];
/// More of each than a network that people would use.
const STORM: Weather = Weather { lost: 30, doubled: 50, late: 100, late_by_max: Duration::from_millis(20) };
/// Renewed after half of it.
const LEASE_S: u32 = 6;

#[tokio::test]
async fn a_board_works_through_loss_doubled_and_late_frames_and_short_leases() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash_without_hosts("storm").await?;
    let hosts = vec![("localhost".to_owned(), qemu::HOST_IP.parse::<Ipv4Addr>()?)];
    let wire = Wire::new(5, Network { hosts, lease_s: Some(LEASE_S) })?;
    wire.set_weather(STORM);
    let board = world.machine(&flash)?.net(wire.net()).start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        ensure!(Counts::read(&wire.counts().dns_answers) > 0, "it never asked DNS");
        let bundle = world.app(Image::First("1.0.0"), "1.0.0", 1, &QUICK).await?;
        ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
        world.devices(1, |device| runs(device, "1.0.0")).await?;
        let mut leases = wire.counts().leases.subscribe();
        let before = *leases.borrow();
        tokio::time::timeout(PATIENCE, leases.wait_for(|leases| *leases >= before + 2)).await??;
        let second = world.app(Image::First("2.0.0"), "2.0.0", 2, &QUICK).await?;
        ensure!(world.deploy(&device, &second).await? == ("STATE_CONFIRMED".into(), String::new()));
        Ok(())
    };
    world.undisturbed(&board, scenario).await?;
    let counts = wire.counts();
    for count in [&counts.lost, &counts.doubled, &counts.late] {
        ensure!(Counts::read(count) > 0, "the weather was fair: {counts:?}");
    }
    board.cut_power().await
}

#[tokio::test]
async fn a_board_comes_back_to_a_broker_that_was_away_on_the_same_boot() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("broker-restart").await?;
    let board = world.machine(&flash)?.start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        for (version, counter) in [("1.0.0", 1), ("2.0.0", 2)] {
            world.stack.restart(Service::Broker).await?;
            let bundle = world.app(Image::First(version), version, counter, &QUICK).await?;
            ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
        }
        Ok(())
    };
    world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}
