//! The ELF file of a bundle: kept, given back, replaced, and gone with it.

use anyhow::Result;
use dev::Service;
use proto::ota::v1::bundle_service_client::BundleServiceClient;
use proto::ota::v1::{
    Bundle, DeleteBundleRequest, GetSymbolsRequest, UploadSymbolsRequest, UploadSymbolsResponse,
};
use proto::registry::v1::Role;
use scenarios::client::Client;
use tonic::{Code, Status};
use wire::Digest;
use wire::limits::SYMBOLS_BYTES_MAX;

use crate::tenant::*;

/// The beginning of a 32-bit little-endian ELF file, and something after it.
fn elf(seed: u64, length: usize) -> Vec<u8> {
    [&[0x7F, b'E', b'L', b'F', 1, 1], &noise(seed, length - 6)[..]].concat()
}

fn first(tenant: &Tenant, bundle: &Bundle, file: &[u8]) -> UploadSymbolsRequest {
    UploadSymbolsRequest {
        parent: tenant.person.tenant.clone(),
        manifest_digest: bundle.manifest_digest.clone(),
        digest: Digest::of(file).to_string(),
        size: file.len() as i64,
        ..Default::default()
    }
}

async fn send(
    bundles: &mut BundleServiceClient<Client>,
    first: UploadSymbolsRequest,
    file: &[u8],
) -> Result<UploadSymbolsResponse, Status> {
    let mut messages: Vec<_> = file
        .chunks(MESSAGE_BYTES)
        .map(|piece| UploadSymbolsRequest { data: piece.to_vec().into(), ..Default::default() })
        .collect();
    if messages.is_empty() {
        messages.push(UploadSymbolsRequest::default());
    }
    messages[0] = UploadSymbolsRequest { data: std::mem::take(&mut messages[0].data), ..first };
    Ok(bundles.upload_symbols(tokio_stream::iter(messages)).await?.into_inner())
}

async fn get(
    bundles: &mut BundleServiceClient<Client>,
    tenant: &Tenant,
    bundle: &Bundle,
) -> Result<Vec<u8>, Status> {
    let request = GetSymbolsRequest {
        parent: tenant.person.tenant.clone(),
        manifest_digest: bundle.manifest_digest.clone(),
    };
    let mut stream = bundles.get_symbols(request).await?.into_inner();
    let (mut file, mut named) = (Vec::new(), None);
    while let Some(piece) = stream.message().await? {
        file.extend_from_slice(&piece.data);
        named.get_or_insert((piece.digest, piece.size));
    }
    assert_eq!(named, Some((Digest::of(&file).to_string(), file.len() as i64)));
    Ok(file)
}

#[tokio::test]
async fn an_elf_file_is_kept_given_back_replaced_and_gone_with_its_bundle() -> Result<()> {
    let stack = stack().await?;
    let tenant = crate::tenant::first(&stack).await?;
    let bundle = tenant.upload(&stack, &spec("1.0.0", &[&noise(1, 1000)])).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let objects = format!("{}/symbols/", tenant.person.tenant);
    let missing = get(&mut bundles, &tenant, &bundle).await;
    assert_eq!(refusal(missing), (Code::NotFound, "NOT_FOUND".into()));

    // More than one piece either way.
    let file = elf(2, 3_000_001);
    let sent = send(&mut bundles, first(&tenant, &bundle, &file), &file).await?;
    assert_eq!((sent.digest, sent.size), (Digest::of(&file).to_string(), file.len() as i64));
    assert_eq!(get(&mut bundles, &tenant, &bundle).await?, file);

    // The same again needs no bytes, and is answered while they still come; another one takes its place.
    for again in [&[][..], &file] {
        let sent = send(&mut bundles, first(&tenant, &bundle, &file), again).await?;
        assert_eq!(sent.digest, Digest::of(&file).to_string());
    }
    objects_become(&stack, &objects, 1).await?;
    let other = elf(3, 1000);
    send(&mut bundles, first(&tenant, &bundle, &other), &other).await?;
    assert_eq!(get(&mut bundles, &tenant, &bundle).await?, other);
    objects_become(&stack, &objects, 1).await?;

    bundles.delete_bundle(DeleteBundleRequest { name: bundle.name.clone(), ..Default::default() }).await?;
    assert_eq!(refusal(get(&mut bundles, &tenant, &bundle).await).0, Code::NotFound);
    objects_become(&stack, &objects, 0).await
}

#[tokio::test]
async fn a_file_that_is_not_what_was_announced_is_not_kept() -> Result<()> {
    let stack = stack().await?;
    let tenant = crate::tenant::first(&stack).await?;
    let bundle = tenant.upload(&stack, &spec("1.0.0", &[&noise(1, 1000)])).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let file = elf(2, 1000);
    let good = || first(&tenant, &bundle, &file);
    let (mut raw, mut wide) = (file.clone(), file.clone());
    (raw[0], wide[4]) = (0, 2);
    let announced = |bytes: &[u8]| first(&tenant, &bundle, bytes);
    for (what, first, sent) in [
        ("no ELF file", announced(&raw), &raw),
        ("a 64-bit one", announced(&wide), &wide),
        ("another digest", UploadSymbolsRequest { digest: Digest::of(b"x").to_string(), ..good() }, &file),
        ("no digest", UploadSymbolsRequest { digest: String::new(), ..good() }, &file),
        ("shorter", UploadSymbolsRequest { size: 1001, ..good() }, &file),
        ("longer", UploadSymbolsRequest { size: 999, ..good() }, &file),
        ("too short", UploadSymbolsRequest { size: 51, ..good() }, &file),
        ("too long", UploadSymbolsRequest { size: i64::from(SYMBOLS_BYTES_MAX) + 1, ..good() }, &file),
        ("negative", UploadSymbolsRequest { size: -1, ..good() }, &file),
    ] {
        let refused = refusal(send(&mut bundles, first, sent).await);
        assert_eq!(refused, (Code::InvalidArgument, "INVALID_FIELD".into()), "{what}");
    }
    let nobodys = UploadSymbolsRequest { manifest_digest: Digest::of(b"no bundle").to_string(), ..good() };
    assert_eq!(refusal(send(&mut bundles, nobodys, &file).await).0, Code::NotFound);
    assert_eq!(refusal(get(&mut bundles, &tenant, &bundle).await).0, Code::NotFound);
    objects_become(&stack, &format!("{}/symbols/", tenant.person.tenant), 0).await
}

#[tokio::test]
async fn operators_write_developers_read_and_strangers_see_nothing() -> Result<()> {
    let stack = stack().await?;
    let tenant = crate::tenant::first(&stack).await?;
    let bundle = tenant.upload(&stack, &spec("1.0.0", &[&noise(1, 1000)])).await?;
    let file = elf(2, 1000);
    let mut clients = Vec::new();
    for role in [Role::Viewer, Role::Operator, Role::Developer] {
        let person = tenant.person.colleague(&stack, role).await?;
        clients.push(BundleServiceClient::new(person.client(&stack, Service::Ota).await?));
    }
    let [viewer, operator, developer] = &mut clients[..] else { unreachable!("three were made") };
    for reader in [&mut *viewer, &mut *developer] {
        let refused = send(reader, first(&tenant, &bundle, &file), &file).await;
        assert_eq!(refusal(refused).0, Code::PermissionDenied);
    }
    send(operator, first(&tenant, &bundle, &file), &file).await?;
    for other in [viewer, operator] {
        assert_eq!(refusal(get(other, &tenant, &bundle).await).0, Code::PermissionDenied);
    }
    assert_eq!(get(developer, &tenant, &bundle).await?, file);

    // The same bundle digest names nothing of somebody else's.
    let stranger = another(&stack, &tenant.person, 2).await?;
    let mut theirs = stranger.bundles(&stack).await?;
    assert_eq!(refusal(get(&mut theirs, &tenant, &bundle).await).0, Code::NotFound);
    assert_eq!(refusal(get(&mut theirs, &stranger, &bundle).await).0, Code::NotFound);
    let foreign = send(&mut theirs, first(&tenant, &bundle, &file), &file).await;
    assert_eq!(refusal(foreign).0, Code::NotFound);
    let own = send(&mut theirs, first(&stranger, &bundle, &file), &file).await;
    assert_eq!(refusal(own).0, Code::NotFound);
    Ok(())
}
