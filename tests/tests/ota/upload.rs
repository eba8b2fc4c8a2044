//! Uploads that go well, and uploads that are killed.

use anyhow::{Context, Result};
use dev::{Options, Service, Stack};
use proto::ota::v1::bundle_service_client::BundleServiceClient;
use proto::ota::v1::{DeleteBundleRequest, GetBundleRequest, ListBundlesRequest};
use scenarios::client::{Client, with_token};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use wire::Digest;

use crate::proxy::Proxy;
use crate::tenant::*;

#[tokio::test]
async fn an_uploaded_bundle_is_listed_fetched_and_deleted_with_its_layers() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let (code, data) = (noise(1, 300_000), noise(2, 70_000));
    let spec = spec("1.0.0", &[&code, &data]);
    let signed = tenant.sign(&spec)?;

    let upload = create(&mut bundles, &tenant, &signed.envelope).await?;
    assert_eq!(upload.manifest_digest, signed.digest.to_string());
    let expected: Vec<_> = [&code, &data].map(|l| (Digest::of(l).to_string(), l.len() as i64, 0)).into();
    let found: Vec<_> = upload.layers.iter().map(|l| (l.digest.clone(), l.size, l.committed)).collect();
    assert_eq!(found, expected, "layers in the manifest's order, nothing held yet");

    let incomplete = finish(&mut bundles, &upload).await.expect_err("nothing was written");
    assert_eq!(detail(&incomplete, "committed").as_deref(), Some("0"));
    assert_eq!(refusal::<()>(Err(incomplete)), (Code::FailedPrecondition, "LAYER_INCOMPLETE".into()));

    assert_eq!(write(&mut bundles, &upload, &code, 0).await.unwrap().committed, code.len() as i64);
    let again = create(&mut bundles, &tenant, &signed.envelope).await?;
    assert_eq!(
        (&again.name, again.layers[0].committed),
        (&upload.name, code.len() as i64),
        "the one under way"
    );
    write(&mut bundles, &upload, &data, 0).await?;
    let bundle = finish(&mut bundles, &upload).await?;
    assert_eq!((bundle.component.as_str(), bundle.board.as_str()), ("app", BOARD));
    assert_eq!((bundle.version.as_str(), bundle.security_counter, bundle.size), ("1.0.0", 1, 370_000));
    assert_eq!(bundle.envelope, signed.envelope);
    assert_eq!(finish(&mut bundles, &upload).await?, bundle, "finishing again gives the same");

    let request = GetBundleRequest { name: bundle.name.clone() };
    assert_eq!(bundles.get_bundle(request.clone()).await?.into_inner(), bundle);
    let layers = format!("{}/layers/", tenant.person.tenant);
    objects_become(&stack, &format!("{}/uploads/", tenant.person.tenant), 0).await?;
    objects_become(&stack, &layers, 2).await?;

    let once_more = create(&mut bundles, &tenant, &signed.envelope).await?;
    assert!(once_more.layers.iter().all(|l| l.committed == l.size), "nothing to write");
    assert_eq!(finish(&mut bundles, &once_more).await?.name, bundle.name);

    bundles.delete_bundle(DeleteBundleRequest { name: bundle.name.clone(), ..Default::default() }).await?;
    assert_eq!(refusal(bundles.get_bundle(request).await).0, Code::NotFound);
    objects_become(&stack, &layers, 0).await
}

#[tokio::test]
async fn bundles_are_listed_page_by_page_newest_first() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let layer = noise(1, 1000);
    for number in 0..5 {
        tenant.upload(&stack, &spec(&format!("1.0.{number}"), &[&layer])).await?;
    }
    let mut bundles = tenant.bundles(&stack).await?;
    let (mut versions, mut page_token) = (Vec::new(), String::new());
    loop {
        let parent = tenant.person.tenant.clone();
        let page =
            bundles.list_bundles(ListBundlesRequest { parent, page_size: 2, page_token }).await?.into_inner();
        assert!(page.bundles.len() <= 2 && page.bundles.iter().all(|b| b.envelope.is_empty()));
        versions.extend(page.bundles.into_iter().map(|b| b.version));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(versions, ["1.0.4", "1.0.3", "1.0.2", "1.0.1", "1.0.0"]);
    Ok(())
}

#[tokio::test]
async fn equal_layers_are_stored_once_a_tenant_and_never_shared_between_tenants() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let (shared, own) = (noise(1, 400_000), noise(2, 20_000));
    tenant.upload(&stack, &spec("1.0.0", &[&shared])).await?;

    let mut bundles = tenant.bundles(&stack).await?;
    let second = spec("2.0.0", &[&shared, &own]);
    let upload = create(&mut bundles, &tenant, &tenant.sign(&second)?.envelope).await?;
    let held: Vec<_> = upload.layers.iter().map(|l| l.committed == l.size).collect();
    assert_eq!(held, [true, false], "the tenant's own layer is not sent again");
    write(&mut bundles, &upload, &own, 0).await?;
    finish(&mut bundles, &upload).await?;
    objects_become(&stack, &format!("{}/layers/", tenant.person.tenant), 2).await?;

    let stranger = another(&stack, &tenant.person, 2).await?;
    let mut theirs = stranger.bundles(&stack).await?;
    let upload = create(&mut theirs, &stranger, &stranger.sign(&spec("1.0.0", &[&shared]))?.envelope).await?;
    assert_eq!(upload.layers[0].committed, 0, "what one tenant has tells another nothing");
    write(&mut theirs, &upload, &shared, 0).await?;
    let bundle = finish(&mut theirs, &upload).await?;
    objects_become(&stack, &format!("{}/layers/", stranger.person.tenant), 1).await?;

    // A foreign tenant's names look like names of nothing.
    let foreign = bundles.get_bundle(GetBundleRequest { name: bundle.name.clone() }).await;
    assert_eq!(refusal(foreign), (Code::NotFound, "NOT_FOUND".into()));
    assert_eq!(refusal(get(&mut bundles, &upload).await), (Code::NotFound, "NOT_FOUND".into()));
    Ok(())
}

#[tokio::test]
async fn an_upload_nobody_goes_on_with_is_forgotten_with_all_it_staged() -> Result<()> {
    let options =
        Options::only([Service::Registry, Service::Ota]).env(Service::Ota, "HOLDFAST_UPLOAD_TTL_S", "2");
    let stack = Stack::start(swift(options)).await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 600_000);
    let envelope = tenant.sign(&spec("1.0.0", &[&layer]))?.envelope;
    let upload = create(&mut bundles, &tenant, &envelope).await?;
    write_as(&mut bundles, &upload, &Digest::of(&layer).to_string(), &layer[..500_000], 0).await?;
    assert!(!objects(&stack, &format!("{}/uploads/", tenant.person.tenant)).is_empty());

    eventually("forgotten", || {
        let (mut bundles, upload) = (bundles.clone(), &upload);
        async move {
            let found = get(&mut bundles, upload).await;
            anyhow::ensure!(found.is_err_and(|s| s.code() == Code::NotFound), "still there");
            Ok(())
        }
    })
    .await?;
    objects_become(&stack, &format!("{}/uploads/", tenant.person.tenant), 0).await?;
    let refused = write(&mut bundles, &upload, &layer, 500_000).await;
    assert_eq!(refusal(refused).0, Code::NotFound);
    let fresh = create(&mut bundles, &tenant, &envelope).await?;
    assert_ne!(fresh.name, upload.name);
    assert_eq!(fresh.layers[0].committed, 0);
    Ok(())
}

#[tokio::test]
async fn an_upload_killed_at_ten_random_offsets_sends_at_most_one_chunk_twice_each_time() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let layer = noise(7, 3_500_000);
    let envelope = tenant.sign(&spec("1.0.0", &[&layer]))?.envelope;
    let token = tenant.person.token(&stack).await?;
    let mut whole = tenant.bundles(&stack).await?;
    let upload = create(&mut whole, &tenant, &envelope).await?;

    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos();
    println!("seed {seed}");
    let offsets = noise(seed.into(), 40);
    let (mut sent, mut twice) = (0, Vec::new());
    for offset in offsets.as_chunks::<4>().0 {
        // Anywhere from the handshake to more than a chunk in; ten of them are fewer than the layer has.
        let cut_after = 2000 + u64::from(u32::from_le_bytes(*offset)) % 330_000;
        let before = committed(&mut whole, &upload).await?;
        let mut proxy = Proxy::start(target(&stack), cut_after).await?;
        let written = async {
            let mut bundles = through(&stack, &proxy, &token).await?;
            write(&mut bundles, &upload, &layer, before as usize).await.map(drop).map_err(anyhow::Error::from)
        };
        let written = written.await;
        proxy.cut().await;
        assert!(written.is_err(), "cut after {cut_after} bytes");
        let after = committed(&mut whole, &upload).await?;
        assert!(after >= before, "what was answered as written stays written");
        twice.push(proxy.sent().saturating_sub(after - before));
        sent += proxy.sent();
    }
    let rest = committed(&mut whole, &upload).await?;
    write(&mut whole, &upload, &layer, rest as usize).await?;
    finish(&mut whole, &upload).await?;
    println!(
        "sent {sent} bytes through ten cut wires for {rest} committed; not committed, by wire: {twice:?}"
    );
    // Handshake, headers and framing are not layer bytes: 4 KiB and one part in fifty are more than they take.
    let overhead = |sent: u64| 4096 + sent / 50;
    for lost in &twice {
        assert!(*lost <= CHUNK_BYTES + overhead(332_000), "{lost} bytes must be sent again");
    }
    Ok(())
}

async fn committed(
    bundles: &mut BundleServiceClient<Client>,
    upload: &proto::ota::v1::Upload,
) -> Result<u64> {
    let layers = get(bundles, upload).await?.layers;
    Ok(layers.first().context("a layer")?.committed as u64)
}

fn target(stack: &Stack) -> String {
    stack.grpc_url(Service::Ota).trim_start_matches("https://").to_owned()
}

/// A client whose wire goes through the proxy.
async fn through(stack: &Stack, proxy: &Proxy, token: &str) -> Result<BundleServiceClient<Client>> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(stack.server_ca_pem()?));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", proxy.port))?.tls_config(tls)?;
    Ok(BundleServiceClient::new(with_token(endpoint.connect().await?, token)?))
}

#[tokio::test]
async fn writers_of_one_layer_at_once_leave_it_whole() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(3, 1_500_000);
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    let write_all = async || -> Result<()> {
        let mut bundles = tenant.bundles(&stack).await?;
        loop {
            let at = committed(&mut bundles, &upload).await? as usize;
            if at == layer.len() {
                return Ok(());
            }
            if let Err(refused) = write(&mut bundles, &upload, &layer, at).await {
                assert_eq!(refusal::<()>(Err(refused)), (Code::FailedPrecondition, "OFFSET_MISMATCH".into()));
            }
        }
    };
    let (a, b, c) = tokio::join!(write_all(), write_all(), write_all());
    a.and(b).and(c)?;
    assert_eq!(finish(&mut bundles, &upload).await?.size, layer.len() as i64);
    objects_become(&stack, &format!("{}/uploads/", tenant.person.tenant), 0).await?;
    objects_become(&stack, &format!("{}/layers/", tenant.person.tenant), 1).await
}
