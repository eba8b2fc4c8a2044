//! A device that lies, repeats itself, or asks for what it may not have: nothing changes, and it is counted.

use anyhow::{Context, Result, bail, ensure};
use dev::{Service, Stack};
use proto::device::v1::{BootId, LayerError, SlotStatus, UpdateReason, UpdateState, UpdateUp};
use proto::ota::v1::deployment::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::Digest;
use wire::directive::Order;

use crate::deploy::Scene;
use crate::device::{Device, nobody, target};
use crate::tenant::*;

#[tokio::test]
async fn a_device_that_lies_about_its_update_changes_nothing_and_is_counted() -> Result<()> {
    let mut scene = Scene::set().await?;
    let stranger = another(&scene.stack, &scene.tenant.person, 2).await?;
    let mut other = Device::enroll(&scene.stack, &stranger).await?;
    crate::deploy::greeted(&mut other).await?;
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    let before = scene.becomes(&deployment, State::Fetching).await?;

    // Of a foreign tenant's device, about a deployment that exists.
    let foreign = other.report(&about, UpdateState::Confirmed);
    other.say(&foreign).await?;
    counted(&scene.stack, "foreign_deployment", 1).await?;

    type Change = fn(&mut UpdateUp);
    let lies: [(&str, UpdateState, Change); 9] = [
        ("impossible", UpdateState::Confirmed, |_| {}),
        ("impossible", UpdateState::Reverted, |_| {}),
        ("impossible", UpdateState::Trial, |_| {}),
        ("impossible", UpdateState::Installing, |_| {}),
        ("other_manifest", UpdateState::Confirmed, |m| m.manifest_digest = vec![9; 32]),
        ("foreign_deployment", UpdateState::Confirmed, |m| m.deployment = nobody().to_string()),
        ("bytes", UpdateState::Fetching, |m| (m.bytes_done, m.bytes_total) = (2, 1)),
        ("bytes", UpdateState::Fetching, |m| m.bytes_total = 200_001),
        ("attempts", UpdateState::Verified, |m| m.attempts = 17),
    ];
    for (reason, state, change) in lies {
        let already = count(&scene.stack, "ota_reports_refused_total", reason).await?;
        let mut lie = scene.device.report(&about, state);
        change(&mut lie);
        scene.device.say(&lie).await?;
        counted(&scene.stack, reason, already + 1).await?;
        assert_eq!(scene.get(&deployment).await?, before, "{lie:?}");
        if matches!(state, UpdateState::Confirmed | UpdateState::Reverted) {
            // It may be what a database from a backup cannot know: it is no reason to keep it.
            assert_eq!(scene.device.acknowledged().await?.sequence, lie.sequence, "{lie:?}");
        }
    }
    // In a hello: confirmed what it was never granted, in slot and result.
    let already = count(&scene.stack, "ota_reports_refused_total", "impossible").await?;
    scene.device.slots = vec![Device::slot(about.manifest, SlotStatus::Confirmed, true)];
    scene.device.result = Some(scene.device.report(&about, UpdateState::Confirmed));
    scene.device.say_hello().await?;
    counted(&scene.stack, "impossible", already + 1).await?;
    scene.device.acknowledged().await?;
    assert_eq!(scene.get(&deployment).await?, before);
    (scene.device.slots, scene.device.result) = (Vec::new(), None);

    // A step back without a boot in between; and reports of the past.
    scene.device.say_state(&about, UpdateState::Verified).await?;
    let before = scene.becomes(&deployment, State::Verified).await?;
    let already = count(&scene.stack, "ota_reports_refused_total", "impossible").await?;
    scene.device.say_state(&about, UpdateState::Fetching).await?;
    counted(&scene.stack, "impossible", already + 1).await?;
    let mut old = scene.device.report(&about, UpdateState::Ready);
    old.sequence = 1;
    scene.device.say(&old).await?;
    old.boot = Some(BootId { counter: 0, random: 1 });
    old.sequence = 99;
    scene.device.say(&old).await?;
    scene.device.nothing_on("ack").await?;
    assert_eq!(scene.get(&deployment).await?, before);

    // And the truth is still believed.
    scene.device.say_state(&about, UpdateState::Ready).await?;
    while !matches!(scene.device.directive().await?.order, Order::Go(_)) {}
    Ok(())
}

#[tokio::test]
async fn of_a_deployment_that_nobody_knows_a_result_is_acknowledged_and_who_is_at_work_is_told_to_stop()
-> Result<()> {
    let mut scene = Scene::set().await?;
    let mut invented = scene.device.report(
        &wire::directive::Target {
            manifest: Digest([1; 32]),
            deployment: nobody(),
            component: wire::manifest::Component::App,
        },
        UpdateState::Confirmed,
    );
    invented.set_reason(UpdateReason::AlreadyRunning);
    scene.device.say(&invented).await?;
    counted(&scene.stack, "foreign_deployment", 1).await?;
    // A restored backup knows nothing of deployments made after it: their results must not stay on the device for ever.
    let ack = scene.device.acknowledged().await?;
    assert_eq!((ack.boot, ack.sequence), (invented.boot, invented.sequence));
    // It would wait for `go` for ever.
    for (sequence, state) in (99..).zip([UpdateState::Fetching, UpdateState::Ready]) {
        let under_way = UpdateUp { state: state.into(), sequence, ..invented.clone() };
        scene.device.say(&under_way).await?;
        let Order::Cancel(about) = scene.device.directive().await?.order else { bail!("not told to stop") };
        assert_eq!((about.deployment, about.manifest), (nobody(), Digest([1; 32])));
    }
    // What has begun ends with a result.
    let begun = UpdateUp { state: UpdateState::Trial.into(), sequence: 200, ..invented };
    scene.device.say(&begun).await?;
    counted(&scene.stack, "foreign_deployment", 4).await?;
    scene.device.nothing_on("update").await
}

#[tokio::test]
async fn a_device_gets_only_layers_it_is_directed_to_and_only_inside_them() -> Result<()> {
    let mut scene = Scene::set().await?;
    let digest = Digest::of(&scene.layer);
    let bytes = scene.layer.len() as u32;
    let other_layer = noise(2, 50_000);
    scene.tenant.upload(&scene.stack, &spec("2.0.0", &[&other_layer])).await?;

    let refused = scene.device.ask(digest, 0, 16_384).await?;
    assert_eq!((refused.error(), refused.data.len()), (LayerError::NotDirected, 0), "no deployment yet");
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    assert_eq!(scene.device.fetch(digest, scene.layer.len()).await?, scene.layer);
    // Any offset, down to one byte, and the last one.
    for (offset, length) in [(1, 1), (16_383, 2), (bytes - 1, 1), (100_000, 16_384)] {
        let chunk = scene.device.ask(digest, offset, length).await?;
        let expected = &scene.layer[offset as usize..(offset + length) as usize];
        assert_eq!((chunk.offset, &chunk.data[..]), (offset, expected));
    }
    for (offset, length) in [(0, 0), (bytes, 1), (bytes - 1, 2), (0, 131_073), (u32::MAX, u32::MAX)] {
        let refused = scene.device.ask(digest, offset, length).await?;
        assert_eq!(refused.error(), LayerError::Range, "{length} bytes at {offset}");
    }
    for foreign in [Digest::of(&other_layer), Digest([9; 32])] {
        assert_eq!(scene.device.ask(foreign, 0, 1).await?.error(), LayerError::NotDirected);
    }
    // Another device of the tenant, directed to nothing.
    let mut idle = Device::enroll(&scene.stack, &scene.tenant).await?;
    assert_eq!(idle.ask(digest, 0, 1).await?.error(), LayerError::NotDirected);

    scene.device.say_state(&about, UpdateState::Fetching).await?;
    scene.cancel(&deployment).await?;
    eventually("no longer directed", async || {
        ensure!(scene.device.ask(digest, 0, 1).await?.error() == LayerError::NotDirected);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unchanged_hello_writes_nothing_to_postgres() -> Result<()> {
    let mut scene = Scene::set().await?;
    scene.device.say_hello().await?;
    scene.device.time().await?;
    // Every row version of the schema: an update, even to the same values, makes another.
    let versions = |stack: &Stack| {
        let tables =
            ["device_links", "deployments", "bundles", "layers", "uploads", "trash", "director_keys"];
        let each =
            tables.map(|t| format!("SELECT '{t}' || ctid::text || xmin::text AS version FROM ota.{t}"));
        stack.sql(&format!("SELECT version FROM ({}) AS all_versions ORDER BY 1", each.join(" UNION ALL ")))
    };
    // What the upload left in the trash goes meanwhile.
    let prefix = format!("{}/uploads/", scene.tenant.person.tenant);
    objects_become(&scene.stack, &prefix, 0).await?;
    let before = eventually("quiet", async || {
        let (first, second) = (versions(&scene.stack)?, versions(&scene.stack)?);
        ensure!(first == second && first.contains("device_links"), "not quiet yet");
        Ok(second)
    })
    .await?;
    for _ in 0..5 {
        scene.device.say_hello().await?;
        scene.device.time().await?;
    }
    assert_eq!(versions(&scene.stack)?, before);
    // And the newest nonce is known all the same.
    scene.deploy().await?;
    scene.device.directive().await?;
    Ok(())
}

/// Waits until a lie was counted this often.
async fn counted(stack: &Stack, reason: &str, times: u64) -> Result<()> {
    eventually(&format!("{reason} counted {times} times"), async || {
        let found = count(stack, "ota_reports_refused_total", reason).await?;
        ensure!(found >= times, "{found}");
        ensure!(found == times, "counted {found} times instead of {times}");
        Ok(())
    })
    .await
}

/// A counter of svc-ota with this reason.
async fn count(stack: &Stack, metric: &str, reason: &str) -> Result<u64> {
    let url = stack.metrics_url(Service::Ota);
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream
        .write_all(
            format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let wanted = format!("{metric}{{reason=\"{reason}\"}} ");
    let Some(value) = text.lines().find_map(|line| line.strip_prefix(&wanted)) else { return Ok(0) };
    value.trim().parse().context("a number")
}
