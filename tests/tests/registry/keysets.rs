//! Keysets: only the next version, by the threshold of the version before.

use anyhow::Result;
use dev::{Options, Service, Stack};
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use proto::registry::v1::{GetKeysetRequest, ListKeysetsRequest};
use scenarios::client;
use tonic::Code;
use wire::sign::{KeysetSpec, Signer};

use crate::fleet::{create_keyset, keyset, publish, refusal, root};

#[tokio::test]
async fn a_keyset_is_the_next_and_signed_by_the_threshold_of_the_one_before() -> Result<()> {
    let stack = Stack::start(Options::only([Service::Registry])).await?;
    let admin = client::bootstrap(&stack).await?;
    let (a, b, c) = (root(1), root(2), root(3));
    let first = KeysetSpec {
        root_keys: vec![a.public_key(), b.public_key(), c.public_key()],
        root_threshold: 2,
        ..keyset(&stack, &admin, 1)?
    };
    let malformed = (Code::InvalidArgument, "signed".to_owned());
    let out_of_order = (Code::FailedPrecondition, "KEYSET_VERSION".to_owned());
    let send = async |signed: Vec<u8>| create_keyset(&stack, &admin, signed).await;
    let spec = |version: u32| KeysetSpec { version, ..first.clone() };

    assert_eq!(refusal(send(vec![]).await), malformed, "nothing");
    assert_eq!(refusal(send(first.sign(&[&a])?).await), malformed, "one of two");
    assert_eq!(refusal(send(first.sign(&[&a, &a])?).await), malformed, "the same one twice");
    assert_eq!(refusal(send(first.sign(&[&a, &root(9)])?).await), malformed, "a stranger's");
    let two = spec(2).sign(&[&a, &b])?;
    assert!(
        matches!(refusal(send(two).await).0, Code::FailedPrecondition | Code::InvalidArgument),
        "not the first"
    );
    let good = first.sign(&[&a, &b])?;
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        assert_eq!(refusal(send(good[..cut].to_vec()).await), malformed, "cut at {cut}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(refusal(send(longer).await), malformed, "trailing bytes");
    assert_eq!(refusal(send(vec![0; 4097]).await), malformed, "oversize");
    for bit in (0..good.len() * 8).step_by(37) {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(send(flipped).await.is_err(), "bit {bit}");
    }
    let elsewhere = client::new_tenant(&stack, &admin, "Other").await?;
    assert_eq!(refusal(create_keyset(&stack, &elsewhere, good.clone()).await), malformed, "another tenant's");
    let anchors = KeysetSpec { broker_anchors: vec![vec![1, 2, 3]], ..first.clone() };
    assert_eq!(refusal(send(anchors.sign(&[&a, &b])?).await), malformed, "an anchor that is no certificate");

    let made = send(good.clone()).await?;
    assert_eq!((made.version, made.name.as_str()), (1, format!("{}/keysets/1", admin.tenant).as_str()));
    assert_eq!(send(good.clone()).await?, made, "sending it again is no error");

    assert_eq!(refusal(send(spec(3).sign(&[&a, &b])?).await), out_of_order, "a version left out");
    let lower = KeysetSpec { root_threshold: 1, ..spec(2) };
    assert_eq!(refusal(send(lower.sign(&[&c])?).await), malformed, "the old threshold governs");
    let takeover = KeysetSpec { root_keys: vec![root(9).public_key()], root_threshold: 1, ..spec(2) };
    assert_eq!(
        refusal(send(takeover.sign(&[&root(9)])?).await),
        malformed,
        "new keys do not vouch for themselves"
    );
    let rotated = KeysetSpec { root_keys: vec![root(9).public_key()], root_threshold: 1, ..spec(2) };
    publish(&stack, &admin, &rotated, &[&b, &c]).await?;
    assert_eq!(refusal(send(good).await), out_of_order, "a replay of version 1");
    let third = KeysetSpec { root_keys: vec![root(9).public_key()], root_threshold: 1, ..spec(3) };
    assert_eq!(refusal(send(third.sign(&[&a, &b])?).await), malformed, "old root keys are done");
    publish(&stack, &admin, &third, &[&root(9)]).await?;

    let mut keysets = KeysetServiceClient::new(admin.client(&stack, Service::Registry).await?);
    let name = |version: &str| GetKeysetRequest { name: format!("{}/keysets/{version}", admin.tenant) };
    assert_eq!(keysets.get_keyset(name("latest")).await?.into_inner().version, 3);
    assert_eq!(keysets.get_keyset(name("1")).await?.into_inner(), made);
    assert_eq!(refusal(keysets.get_keyset(name("4")).await).0, Code::NotFound);
    assert_eq!(refusal(keysets.get_keyset(name("4294967295")).await).0, Code::NotFound);
    assert_eq!(refusal(keysets.get_keyset(name("0")).await), (Code::InvalidArgument, "name".into()));
    let page = |page_token| ListKeysetsRequest { parent: admin.tenant.clone(), page_size: 2, page_token };
    let first_page = keysets.list_keysets(page(String::new())).await?.into_inner();
    let rest = keysets.list_keysets(page(first_page.next_page_token)).await?.into_inner();
    let versions: Vec<_> =
        first_page.keysets.iter().chain(&rest.keysets).map(|keyset| keyset.version).collect();
    assert_eq!((versions, rest.next_page_token.as_str()), (vec![1, 2, 3], ""));
    Ok(())
}
