//! Bundles and writes that must not be: each refused at once, with a reason a person can act on.

use anyhow::Result;
use proto::ota::v1::{CreateUploadRequest, WriteLayerRequest};
use scenarios::client;
use tonic::{Code, Status};
use wire::cbor::Writer;
use wire::manifest::Component;
use wire::sign::{ReleaseKeySpec, Signer};
use wire::suit::Envelope;
use wire::{Digest, KeyHash};

use crate::tenant::*;

#[tokio::test]
async fn every_bad_envelope_is_refused_with_its_own_reason() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 40_000);
    let good = spec("1.0.0", &[&layer]);
    let signed = tenant.sign(&good)?.envelope;

    let stranger = good.sign(&key(77))?.envelope;
    // Our signature under a stranger's name, and a stranger's under ours.
    let renamed = replace(&signed, &tenant.release.public_key().hash()?, &key(77).public_key().hash()?);
    let forged = replace(&stranger, &key(77).public_key().hash()?, &tenant.release.public_key().hash()?);
    let flipped = |at: usize| {
        let mut bytes = signed.clone();
        bytes[at] ^= 1;
        bytes
    };
    let in_version = signed.windows(5).position(|w| w == b"1.0.0").expect("the version is text");
    let cases = [
        ("empty", vec![], "INVALID_FIELD", ""),
        ("oversize", vec![0; 8193], "INVALID_FIELD", ""),
        ("not CBOR", b"hello".to_vec(), "BUNDLE_REFUSED", "malformed"),
        ("truncated", signed[..signed.len() - 1].to_vec(), "BUNDLE_REFUSED", "malformed"),
        ("trailing byte", [&signed[..], &[0]].concat(), "BUNDLE_REFUSED", "malformed"),
        ("changed manifest", flipped(in_version), "BUNDLE_REFUSED", "digest_mismatch"),
        ("stranger's key", stranger, "BUNDLE_REFUSED", "unknown_key"),
        ("stranger's name", renamed, "BUNDLE_REFUSED", "unknown_key"),
        ("stranger's signature", forged, "BUNDLE_REFUSED", "bad_signature"),
        ("unsigned", unsigned(&signed), "BUNDLE_REFUSED", "unsigned"),
    ];
    for (what, envelope, reason, detailed) in cases {
        let status = create(&mut bundles, &tenant, &envelope).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        assert_eq!(kit::status::reason(&status).as_deref(), Some(reason), "{what}: {status:?}");
        assert_eq!(detail(&status, "refusal").unwrap_or_default(), detailed, "{what}: {status:?}");
        assert!(status.message().len() > 10, "{what}: {status:?}");
    }
    assert!(objects(&stack, "").is_empty(), "nothing was stored");
    Ok(())
}

#[tokio::test]
async fn any_flipped_bit_of_an_envelope_is_refused() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 1000);
    let signed = tenant.sign(&spec("1.0.0", &[&layer]))?.envelope;
    // One bit of every byte: all of them are tested where the decoder lives.
    for at in 0..signed.len() {
        let mut bytes = signed.clone();
        bytes[at] ^= 1 << (at % 8);
        let status = create(&mut bundles, &tenant, &bytes).await.expect_err("a flipped bit");
        assert_eq!(status.code(), Code::InvalidArgument, "byte {at}: {status:?}");
    }
    create(&mut bundles, &tenant, &signed).await?;
    Ok(())
}

#[tokio::test]
async fn a_release_key_signs_only_for_its_component_and_board() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let scoped = |component, board: Option<&str>| ReleaseKeySpec {
        key: key(50).public_key(),
        component,
        board: board.map(str::to_owned),
    };
    let mut keyset = tenant.keyset(2);
    keyset.release_keys = vec![scoped(Some(Component::App), Some("other"))];
    tenant.publish(&stack, &keyset).await?;
    let layer = noise(1, 1000);
    let envelope = spec("1.0.0", &[&layer]).sign(&key(50))?.envelope;
    let status = create(&mut bundles, &tenant, &envelope).await.expect_err("another board's key");
    assert_eq!(detail(&status, "refusal").as_deref(), Some("key_scope"));
    let old = tenant.sign(&spec("1.0.0", &[&layer]))?.envelope;
    let status = create(&mut bundles, &tenant, &old).await.expect_err("a key the newest keyset dropped");
    assert_eq!(detail(&status, "refusal").as_deref(), Some("unknown_key"));

    let mut keyset = tenant.keyset(3);
    keyset.release_keys = vec![scoped(Some(Component::App), Some(BOARD))];
    tenant.publish(&stack, &keyset).await?;
    let upload = create(&mut bundles, &tenant, &envelope).await?;
    write(&mut bundles, &upload, &layer, 0).await?;
    // The keyset moves on while the upload is under way: what could not be installed is not taken.
    tenant.publish(&stack, &tenant.keyset(4)).await?;
    let status = finish(&mut bundles, &upload).await.expect_err("the key is gone");
    assert_eq!(detail(&status, "refusal").as_deref(), Some("unknown_key"));
    Ok(())
}

#[tokio::test]
async fn a_tenant_without_a_keyset_is_told_so() -> Result<()> {
    let stack = stack().await?;
    let person = client::bootstrap(&stack).await?;
    let layer = noise(1, 1000);
    let envelope = spec("1.0.0", &[&layer]).sign(&key(1))?.envelope;
    let mut bundles = proto::ota::v1::bundle_service_client::BundleServiceClient::new(
        person.client(&stack, dev::Service::Ota).await?,
    );
    let refused = bundles
        .create_upload(CreateUploadRequest { parent: person.tenant.clone(), envelope, ..Default::default() })
        .await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "KEYSET_MISSING".into()));
    Ok(())
}

#[tokio::test]
async fn bytes_that_do_not_match_the_manifest_are_refused_by_block_and_can_be_sent_again() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 300_000);
    let digest = Digest::of(&layer).to_string();
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    let mut wrong = layer.clone();
    wrong[100_000] ^= 1;
    write_as(&mut bundles, &upload, &digest, &wrong, 0).await?;
    let status = finish(&mut bundles, &upload).await.expect_err("a flipped bit");
    assert_eq!(kit::status::reason(&status).as_deref(), Some("LAYER_MISMATCH"));
    assert!(status.message().contains("block 6"), "{status:?}");
    assert_eq!(detail(&status, "layer"), Some(digest));

    assert_eq!(get(&mut bundles, &upload).await?.layers[0].committed, 0, "it begins anew");
    write(&mut bundles, &upload, &layer, 0).await?;
    finish(&mut bundles, &upload).await?;
    objects_become(&stack, &format!("{}/uploads/", tenant.person.tenant), 0).await
}

#[tokio::test]
async fn a_write_that_does_not_fit_is_refused_and_says_where_to_go_on() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 600_000);
    let digest = Digest::of(&layer).to_string();
    let upload = create(&mut bundles, &tenant, &tenant.sign(&spec("1.0.0", &[&layer]))?.envelope).await?;
    write_as(&mut bundles, &upload, &digest, &layer[..300_000], 0).await?;
    let committed = get(&mut bundles, &upload).await?.layers[0].committed;
    assert_eq!(committed, 300_000, "what is worth an object is kept when the stream ends");

    for wrong in [0, 262_144, 300_001, i64::MAX] {
        let status =
            write_as(&mut bundles, &upload, &digest, &layer[..1000], wrong).await.expect_err("wrong offset");
        assert_eq!(detail(&status, "committed").as_deref(), Some("300000"), "offset {wrong}");
        assert_eq!(refusal::<()>(Err(status)), (Code::FailedPrecondition, "OFFSET_MISMATCH".into()));
    }
    let named = |field: &str, result: Result<_, Status>| {
        let status: Status = Result::<proto::ota::v1::WriteLayerResponse, _>::expect_err(result, field);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with(field), "{status:?}");
    };
    named("offset", write_as(&mut bundles, &upload, &digest, &layer, -1).await);
    named("digest", write_as(&mut bundles, &upload, "abc", &layer, 0).await);
    named("digest", write_as(&mut bundles, &upload, &Digest([7; 32]).to_string(), &layer, 0).await);
    let big = WriteLayerRequest {
        data: vec![0; 256 * 1024 + 1].into(),
        ..messages(&upload, &digest, &[], 300_000)[0].clone()
    };
    named("data", bundles.write_layer(tokio_stream::iter([big])).await.map(|r| r.into_inner()));
    let over = [&layer[300_000..], &[0]].concat();
    named("data", write_as(&mut bundles, &upload, &digest, &over, 300_000).await);
    let none = bundles.write_layer(tokio_stream::iter(Vec::<WriteLayerRequest>::new())).await;
    named("upload", none.map(|r| r.into_inner()));

    let left = get(&mut bundles, &upload).await?.layers[0].committed as usize;
    write(&mut bundles, &upload, &layer, left).await.ok();
    finish(&mut bundles, &upload).await?;
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_uploads_under_way() -> Result<()> {
    let stack = stack().await?;
    let tenant = first(&stack).await?;
    let mut bundles = tenant.bundles(&stack).await?;
    let layer = noise(1, 100);
    for number in 0..64 {
        let envelope = tenant.sign(&spec(&format!("1.0.{number}"), &[&layer]))?.envelope;
        create(&mut bundles, &tenant, &envelope).await?;
    }
    let envelope = tenant.sign(&spec("1.0.64", &[&layer]))?.envelope;
    let refused = create(&mut bundles, &tenant, &envelope).await;
    assert_eq!(refusal(refused), (Code::ResourceExhausted, "UPLOADS_OPEN_MAX".into()));
    Ok(())
}

/// The envelope with one key's name in place of another's.
fn replace(envelope: &[u8], old: &KeyHash, new: &KeyHash) -> Vec<u8> {
    let at = envelope.windows(32).position(|w| w == old.0).expect("the key is named");
    let mut changed = envelope.to_vec();
    changed[at..at + 32].copy_from_slice(&new.0);
    changed
}

/// The envelope with its COSE_Sign1 taken out of the authentication wrapper.
fn unsigned(envelope: &[u8]) -> Vec<u8> {
    let read = Envelope::decode(envelope).expect("a good envelope");
    let mut authentication = Writer::new();
    authentication.array(1).bytes(read.authentication.signed);
    let mut writer = Writer::new();
    writer.tag(107).map(2);
    writer.int(2).bytes(&authentication.into_vec());
    writer.int(3).raw(read.manifest_wrapped);
    writer.into_vec()
}
