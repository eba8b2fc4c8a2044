//! What an upload goes through when something under it stops, fills up or is killed.

use anyhow::{Context, Result, bail};
use dev::{Part, Service};
use tonic::Code;

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
        let digest = wire::Digest::of(&layer).to_string();
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
    let digest = wire::Digest::of(&layer).to_string();
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
    let digest = wire::Digest::of(&layer).to_string();
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
