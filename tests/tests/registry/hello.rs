//! Hellos: the newest counts, news alone is written, who is behind gets the next keyset.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use proto::device::v1::HelloUp;
use tokio::task::JoinSet;

use crate::board::{hello, slot};
use crate::fleet::{Fleet, keyset, publish, root};

#[tokio::test]
async fn an_unchanged_hello_writes_nothing_and_an_older_one_changes_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let name = device.name();
    let mut session = device.connect(&fleet.stack).await?;
    device.say(&mut session, &hello(2, 5)).await?;
    let shown = fleet.device_becomes(&name, |d| d.boot_count == 2).await?;
    assert_eq!((shown.app_floor, shown.keyset_version, shown.boot_reason.as_str()), (3, 1, "power_on"));
    assert_eq!(shown.hardware_id, "serial-1", "not what the device says of itself now");
    assert_eq!((shown.slots[0].status.as_str(), shown.slots[0].security_counter), ("confirmed", 2));
    assert_eq!(shown.slots[0].manifest_digest, "05".repeat(32));

    let rows = || {
        fleet
            .stack
            .sql("SELECT r.xmin, r.sequence, (SELECT count(*) FROM registry.changes) FROM registry.reports r")
    };
    let written = rows()?;
    let quiet = HelloUp { nonce: vec![1; 16], time_bound_s: 99, ..hello(2, 6) };
    device.say(&mut session, &quiet).await?;
    for older in [
        HelloUp { app_floor: 50, ..hello(2, 4) },
        HelloUp { app_floor: 51, ..hello(2, 6) },
        HelloUp { app_floor: 52, ..hello(1, 900) },
        HelloUp { board: "a board with spaces".into(), app_floor: 53, ..hello(9, 1) },
        HelloUp { slots: vec![slot(""); 9], app_floor: 54, ..hello(9, 2) },
    ] {
        device.say(&mut session, &older).await?;
    }
    // Marks the end: what came before it was looked at before.
    let other = fleet.enroll("serial-2").await?;
    let mut theirs = other.connect(&fleet.stack).await?;
    other.say(&mut theirs, &hello(1, 1)).await?;
    fleet.device_becomes(&other.name(), |d| d.boot_count == 1).await?;
    let mine = |rows: String| rows.lines().next().map(|row| row.rsplit_once('|').map(|r| r.0.to_owned()));
    assert_eq!(mine(rows()?), mine(written), "the row is as it was written once");
    let shown = fleet.device_becomes(&name, |_| true).await?;
    assert_eq!(shown.app_floor, 3);

    device.say(&mut session, &HelloUp { app_floor: 4, ..hello(2, 7) }).await?;
    fleet.device_becomes(&name, |d| d.app_floor == 4).await?;
    Ok(())
}

#[tokio::test]
async fn a_device_behind_in_keysets_gets_the_next_until_it_has_them_all() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    for version in 2..=3 {
        publish(&fleet.stack, &fleet.admin, &keyset(&fleet.stack, &fleet.admin, version)?, &[&root(1)])
            .await?;
    }
    let mut session = device.connect(&fleet.stack).await?;
    for held in 0..3 {
        device.say(&mut session, &HelloUp { keyset_version: held, ..hello(1, held + 1) }).await?;
        let down = session.hello_down().await?;
        let next = keyset(&fleet.stack, &fleet.admin, held + 1)?.sign(&[&root(1)])?;
        assert_eq!(down.keyset, next, "exactly as signed");
    }
    device.say(&mut session, &HelloUp { keyset_version: 3, ..hello(1, 4) }).await?;
    fleet.device_becomes(&device.name(), |d| d.keyset_version == 3).await?;
    Ok(())
}

const DEVICES: u32 = 20;
const HELLOS: u32 = 50;

/// Measures, never gates: how fast one registry takes hellos that all say something new.
#[tokio::test]
async fn many_devices_say_hello_at_once_and_the_last_word_of_each_counts() -> Result<()> {
    let fleet = Arc::new(Fleet::start().await?);
    let mut enrolling = JoinSet::new();
    for number in 0..DEVICES {
        let fleet = fleet.clone();
        enrolling.spawn(async move {
            let device = fleet.enroll(&format!("serial-{number}")).await?;
            let session = device.connect(&fleet.stack).await?;
            anyhow::Ok((device, session))
        });
    }
    let mut devices = Vec::new();
    while let Some(enrolled) = enrolling.join_next().await {
        devices.push(enrolled??);
    }
    let started = Instant::now();
    let mut talking = JoinSet::new();
    for (device, mut session) in devices {
        talking.spawn(async move {
            for sequence in 1..=HELLOS {
                let floor = u64::from(sequence);
                device.say(&mut session, &HelloUp { app_floor: floor, ..hello(1, sequence) }).await?;
            }
            anyhow::Ok(device.name())
        });
    }
    let mut names = Vec::new();
    while let Some(name) = talking.join_next().await {
        names.push(name??);
    }
    for name in names {
        fleet.device_becomes(&name, |d| d.app_floor == i64::from(HELLOS)).await?;
    }
    let taken = started.elapsed();
    println!("{} hellos, all of them news, in {taken:?}", DEVICES * HELLOS);
    let stored = fleet.stack.sql("SELECT count(*) FROM registry.reports")?;
    assert_eq!(stored.trim(), DEVICES.to_string());
    Ok(())
}
