//! What uploads and deployments go through when something under them stops, fills up or is killed.

use anyhow::{Context, Result, bail};
use dev::{Part, Service};
use proto::device::v1::{LayerError, UpdateState};
use proto::ota::v1::deployment::State;
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use tonic::Code;
use wire::Digest;
use wire::directive::Order;

use crate::deploy::{Scene, greeted};
use crate::device::target;
use crate::tenant::*;

#[tokio::test]
async fn an_upload_survives_every_part_under_it_stopping_and_starting() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 1_200_000);
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    let mut at = 0;
    for part in [Part::S3, Part::Postgres, Part::Redis] {
        let digest = Digest::of(&layer).to_string();
        write_as(&mut bundles, &upload, &digest, &layer[at..at + 300_000], at as i64).await?;
        at += 300_000;
        stack.stop(part).await?;
        let refused = write(&mut bundles, &upload, &layer, at).await;
        if part != Part::Redis {
            assert_eq!(refusal(refused).0, Code::Unavailable, "{part} is away");
            let finished = finish(&mut bundles, &upload).await;
            assert_ne!(finished.expect_err("unfinished").code(), Code::Internal, "{part} is away");
        } else {
            refused.context("an upload needs no Redis")?;
        }
        stack.start_service(part).await?;
        let found = eventually("the upload is there again", || {
            let (mut bundles, upload) = (bundles.clone(), &upload);
            async move { Ok(get(&mut bundles, upload).await?) }
        })
        .await?;
        assert!(found.layers[0].committed >= at as i64, "{part}: nothing that was answered is lost");
        at = found.layers[0].committed as usize;
    }
    if at < layer.len() {
        write(&mut bundles, &upload, &layer, at).await?;
    }
    finish(&mut bundles, &upload).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_service_takes_an_upload_up_where_it_was() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 900_000);
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    let digest = Digest::of(&layer).to_string();
    write_as(&mut bundles, &upload, &digest, &layer[..600_000], 0).await?;
    stack.kill(Service::Ota).await?;
    stack.start_service(Service::Ota).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let at = get(&mut bundles, &upload).await?.layers[0].committed;
    assert_eq!(at, 600_000);
    write(&mut bundles, &upload, &layer, 600_000).await?;
    finish(&mut bundles, &upload).await?;
    objects_become(&stack, &format!("{}/uploads/", tenant.person.tenant), 0).await
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_one_and_loses_nothing() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 900_000);
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    let digest = Digest::of(&layer).to_string();
    write_as(&mut bundles, &upload, &digest, &layer[..300_000], 0).await?;

    // The object store may write no file longer than this: its disk is full, as far as it can tell (EFBIG for ENOSPC).
    limit_files(&stack, "1000:")?;
    let status = write(&mut bundles, &upload, &layer, 300_000).await.expect_err("no room");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("full disk"), "{status:?}");
    limit_files(&stack, "unlimited:")?;

    let at = get(&mut bundles, &upload).await?.layers[0].committed as usize;
    assert_eq!(at, 300_000);
    write(&mut bundles, &upload, &layer, at).await?;
    limit_files(&stack, "1000:")?;
    assert_eq!(refusal(finish(&mut bundles, &upload).await).0, Code::Unavailable);
    limit_files(&stack, "unlimited:")?;
    let bundle = finish(&mut bundles, &upload).await?;
    assert_eq!(bundle.size, 900_000);
    objects_become(&stack, &format!("{}/uploads/", tenant.person.tenant), 0).await
}

#[tokio::test]
async fn a_piece_the_object_store_lost_is_sent_again() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 600_000);
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    write(&mut bundles, &upload, &layer, 0).await?;
    let staged = objects(&stack, &format!("{}/uploads/", tenant.person.tenant));
    let s3 = stack.s3();
    std::fs::remove_file(s3.dir.join(&s3.bucket).join(&staged[1]))?;
    assert_eq!(refusal(finish(&mut bundles, &upload).await).1, "LAYER_INCOMPLETE");
    assert_eq!(get(&mut bundles, &upload).await?.layers[0].committed, 0);
    write(&mut bundles, &upload, &layer, 0).await?;
    finish(&mut bundles, &upload).await?;
    Ok(())
}

/// Sets the soft limit of the object store's file sizes (setrlimit(2), RLIMIT_FSIZE).
fn limit_files(stack: &dev::Stack, limit: &str) -> Result<()> {
    let s3 = stack.process(Part::S3).context("S3 runs")?;
    let pid = s3.pid().to_string();
    let output =
        std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}")]).output()?;
    if !output.status.success() {
        bail!("prlimit: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn a_deployment_goes_on_after_every_part_under_it_was_stopped_and_started() -> Result<()> {
    let mut scene = Scene::set().await?;
    let deployment = scene.deploy().await?;
    let about = target(&scene.device.directive().await?.order)?;
    let digest = Digest::of(&scene.layer);

    scene.stack.stop(Part::S3).await?;
    let refused = scene.device.ask(digest, 0, 16_384).await?;
    assert_eq!(refused.error(), LayerError::Unavailable, "no object store, no layer");
    assert!(refused.retry_after_ms > 0, "and it says when to ask again");
    scene.stack.start_service(Part::S3).await?;
    assert_eq!(scene.device.fetch(digest, scene.layer.len()).await?, scene.layer);

    // Said once, while nobody can store it: it is kept until somebody can.
    scene.stack.stop(Part::Postgres).await?;
    scene.device.say_state(&about, UpdateState::Verified).await?;
    scene.stack.start_service(Part::Postgres).await?;
    scene.becomes(&deployment, State::Verified).await?;

    scene.stack.stop(Part::Redis).await?;
    scene.device.say_state(&about, UpdateState::Ready).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Go(about), "Redis is not truth");
    scene.stack.start_service(Part::Redis).await?;

    scene.stack.stop(Service::Broker).await?;
    scene.stack.start_service(Service::Broker).await?;
    scene.device.reconnect(&scene.stack).await?;
    greeted(&mut scene.device).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Go(about), "nobody remembers that it was said");

    scene.stack.kill(Service::Ota).await?;
    scene.stack.start_service(Service::Ota).await?;
    greeted(&mut scene.device).await?;
    assert_eq!(scene.device.directive().await?.order, Order::Go(about));

    scene.device.say_state(&about, UpdateState::Trial).await?;
    scene.deployments =
        DeploymentServiceClient::new(scene.tenant.person.client(&scene.stack, Service::Ota).await?);
    scene.becomes(&deployment, State::Trial).await?;
    scene.stack.stop(Part::Postgres).await?;
    let result = scene.device.say_state(&about, UpdateState::Confirmed).await?;
    scene.stack.start_service(Part::Postgres).await?;
    assert_eq!(scene.device.acknowledged().await?.sequence, result.sequence);
    assert_eq!(scene.get(&deployment).await?.state(), State::Confirmed);
    Ok(())
}

#[tokio::test]
async fn a_deployment_made_while_the_device_is_away_is_told_when_it_says_hello() -> Result<()> {
    let mut scene = Scene::set().await?;
    // Redis forgets the quiet hello: nobody knows a nonce to answer.
    scene.stack.stop(Part::Redis).await?;
    let deployment = scene.deploy().await?;
    scene.stack.start_service(Part::Redis).await?;
    scene.device.reboot();
    greeted(&mut scene.device).await?;
    let about = target(&scene.device.directive().await?.order)?;
    assert!(deployment.name.ends_with(&about.deployment.to_string()));
    Ok(())
}
