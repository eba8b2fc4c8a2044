//! Lists under change and under hostile tokens; filters that are wrong, and where.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use dev::Service;
use proto::registry::v1::claim_service_client::ClaimServiceClient;
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use proto::registry::v1::tenant_service_client::TenantServiceClient;
use proto::registry::v1::{
    ListClaimsRequest, ListDevicesRequest, ListKeysRequest, ListKeysetsRequest,
    ListPendingEnrollmentsRequest, ListTenantsRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::fleet::refusal;
use crate::watch::{Rows, add, id, tenant};

const SOUTH: &str = r#"{"site": "south", "floor": "1"}"#;

#[tokio::test]
async fn pages_stay_right_while_devices_come_and_go() -> Result<()> {
    let rows = Rows::start().await?;
    let other = scenarios::client::new_tenant(&rows.stack, &rows.admin, "Other").await?;
    add(&rows.stack, &other, &(1000..1100).collect::<Vec<_>>(), SOUTH)?;
    let there: Vec<i64> = (10..60).map(|n| n * 10).collect();
    rows.add(&there, SOUTH)?;
    let mut devices = rows.devices().await?;
    let filters =
        ["", "labels.site=south", "labels.site=south AND labels.floor=1 AND board=bench", "revoked=false"];
    for (round, filter) in (0..).zip(filters) {
        let (mut seen, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = ListDevicesRequest {
                parent: rows.admin.tenant.clone(),
                page_size: 7,
                page_token,
                filter: filter.into(),
            };
            let page = devices.list_devices(request).await?.into_inner();
            assert!(page.devices.len() <= 7);
            seen.extend(page.devices.into_iter().map(|device| device.name));
            pages += 1;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
            // One comes before and one after where the list is, and the last one seen goes.
            rows.add(&[round * 20 + pages, 1_000_000 * (round + 1) + pages], SOUTH)?;
            let last = seen.last().and_then(|name| name.rsplit('/').next()).context("an empty page")?;
            let kept: BTreeSet<String> = there.iter().map(|n| id(*n)).collect();
            if !kept.contains(last) {
                rows.stack.sql(&format!("DELETE FROM registry.devices WHERE device_id = '{last}'"))?;
            }
        }
        let distinct: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "{filter}: something came twice");
        assert!(seen.is_sorted(), "{filter}");
        for number in &there {
            assert!(distinct.contains(&rows.name(*number)), "{filter}: {number} was there all the time");
        }
        assert!(seen.iter().all(|name| name.starts_with(&rows.admin.tenant)));
    }
    // The last one that was seen goes: the next page begins after where it was.
    let request = |page_token: &str| ListDevicesRequest {
        parent: rows.admin.tenant.clone(),
        page_size: 1,
        page_token: page_token.into(),
        filter: "hardware_id=h100".into(),
    };
    let page = devices.list_devices(request("")).await?.into_inner();
    assert_eq!(
        (page.devices.len(), page.next_page_token.as_str()),
        (1, ""),
        "no empty page follows the last"
    );
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_the_last_of_a_page_may_go() -> Result<()> {
    let rows = Rows::start().await?;
    rows.add(&[1, 2, 3, 4], SOUTH)?;
    let mut devices = rows.devices().await?;
    for filter in ["", "labels.site=south"] {
        let request = |page_token: &str| ListDevicesRequest {
            parent: rows.admin.tenant.clone(),
            page_size: 2,
            page_token: page_token.into(),
            filter: filter.into(),
        };
        let token = devices.list_devices(request("")).await?.into_inner().next_page_token;
        rows.stack.sql(&format!("DELETE FROM registry.devices WHERE device_id = '{}'", id(2)))?;
        let rest = devices.list_devices(request(&token)).await?.into_inner().devices;
        assert_eq!(rest.iter().map(|d| d.name.clone()).collect::<Vec<_>>(), [rows.name(3), rows.name(4)]);
        rows.add(&[2], SOUTH)?;
    }
    Ok(())
}

#[tokio::test]
async fn labels_that_are_changed_are_listed_as_they_are() -> Result<()> {
    let rows = Rows::start().await?;
    rows.add(&[1, 2], SOUTH)?;
    let mut devices = rows.devices().await?;
    let mut list = async |filter: &str| {
        let parent = rows.admin.tenant.clone();
        let request = ListDevicesRequest { parent, filter: filter.into(), ..Default::default() };
        anyhow::Ok(devices.list_devices(request).await?.into_inner().devices.len())
    };
    assert_eq!((list("labels.site=south").await?, list("labels.floor=1").await?), (2, 2));
    rows.stack.sql(&format!(
        "UPDATE registry.devices SET labels = '{{\"site\": \"north\"}}' WHERE device_id = '{}'",
        id(1)
    ))?;
    assert_eq!((list("labels.site=south").await?, list("labels.site=north").await?), (1, 1));
    assert_eq!(list("labels.floor=1").await?, 1);
    rows.stack.sql("DELETE FROM registry.devices")?;
    assert_eq!(rows.stack.sql("SELECT count(*) FROM registry.device_labels")?.trim(), "0");
    Ok(())
}

#[tokio::test]
async fn a_wrong_filter_is_refused_with_its_place_and_what_would_be_right() -> Result<()> {
    let rows = Rows::start().await?;
    let mut devices = rows.devices().await?;
    for (filter, position, says) in [
        ("colour=red", "0", "labels.KEY, board, hardware_id, version, revoked or quarantined"),
        ("board=é AND größe=1", "12", "unknown field"),
        ("board=a OR board=b", "8", "OR and NOT are not known"),
        ("revoked=yes", "8", "true or false"),
        ("board=\"a", "6", "never closed"),
        ("board=a\u{1b}[2J", "7", "without control characters"),
        ("\u{1b}[2J=x", "0", "without control characters"),
    ] {
        let parent = rows.admin.tenant.clone();
        let request = ListDevicesRequest { parent, filter: filter.into(), ..Default::default() };
        let status = devices.list_devices(request).await.unwrap_err();
        let info = status.get_details_error_info().context("no reason")?;
        assert_eq!(
            (status.code(), info.reason.as_str()),
            (Code::InvalidArgument, "INVALID_FILTER"),
            "{filter}"
        );
        assert_eq!(info.metadata.get("position").map(String::as_str), Some(position), "{filter}: {status}");
        assert!(status.message().contains(says), "{filter}: {}", status.message());
        assert!(!status.message().chars().any(char::is_control), "{:?}", status.message());
    }
    Ok(())
}

/// Every list of the registry, called with a page size and a token.
async fn lists(
    rows: &Rows,
    parent: &str,
    page_size: i32,
    page_token: &str,
) -> Result<Vec<Result<usize, Status>>> {
    let channel = rows.admin.client(&rows.stack, Service::Registry).await?;
    let (mut tenants, mut claims) =
        (TenantServiceClient::new(channel.clone()), ClaimServiceClient::new(channel.clone()));
    let (mut keysets, mut devices) = (KeysetServiceClient::new(channel), rows.devices().await?);
    let (parent, page_token) = (parent.to_owned(), page_token.to_owned());
    macro_rules! list {
        ($client:ident.$method:ident($request:ident) -> $items:ident) => {{
            let request = $request { parent: parent.clone(), page_size, page_token: page_token.clone() };
            $client.$method(request).await.map(|answer| answer.into_inner().$items.len())
        }};
    }
    let every = ListDevicesRequest {
        parent: parent.clone(),
        page_size,
        page_token: page_token.clone(),
        filter: String::new(),
    };
    Ok(vec![
        devices.list_devices(every).await.map(|answer| answer.into_inner().devices.len()),
        list!(devices.list_pending_enrollments(ListPendingEnrollmentsRequest) -> pending_enrollments),
        list!(claims.list_claims(ListClaimsRequest) -> claims),
        list!(tenants.list_keys(ListKeysRequest) -> keys),
        list!(keysets.list_keysets(ListKeysetsRequest) -> keysets),
        tenants
            .list_tenants(ListTenantsRequest { page_size, page_token })
            .await
            .map(|answer| answer.into_inner().tenants.len()),
    ])
}

#[tokio::test]
async fn every_list_refuses_hostile_tokens_and_bounds_its_pages() -> Result<()> {
    let rows = Rows::start().await?;
    let parent = rows.admin.tenant.clone();
    rows.add(&(1..=1200).collect::<Vec<_>>(), "{}")?;
    for answer in lists(&rows, &parent, -1, "").await? {
        assert_eq!(refusal(answer), (Code::InvalidArgument, "page_size".into()));
    }
    for (asked, given) in [(0, 100), (i32::MAX, 1000), (1, 1)] {
        let answers = lists(&rows, &parent, asked, "").await?;
        assert_eq!(*answers[0].as_ref().map_err(Clone::clone)?, given, "{asked}");
        assert!(answers.iter().all(Result::is_ok));
    }
    let places: [&[&str]; 6] = [
        &["devices", &parent, ""],
        &["pending", &parent],
        &["claims", &parent],
        &["keys", &parent],
        &["keysets", &parent],
        &["tenants"],
    ];
    let theirs = kit::page::token(&["devices", "tenants/other", ""], &id(1));
    let mut hostile: Vec<String> =
        vec!["x".into(), "\u{1b}[2J".into(), "A".repeat(2000), "é".into(), theirs, "AAAAAAAAAAAA".into()];
    // Made for the very request, as anybody can who read how, with what is no row's id in it.
    for place in places {
        for cursor in ["", "\0", "' OR true --", "\u{1b}", &"9".repeat(600)] {
            hostile.push(kit::page::token(place, &cursor));
        }
        hostile.push(kit::page::token(place, &serde_json::json!({"a": [1]})));
    }
    for token in hostile {
        for answer in lists(&rows, &parent, 10, &token).await? {
            let status = answer.unwrap_err();
            assert!(!status.message().chars().any(char::is_control));
            assert_eq!(
                refusal(Err::<(), _>(status)),
                (Code::InvalidArgument, "page_token".into()),
                "{token}"
            );
        }
    }
    assert!(!tenant(&rows.admin).is_empty());
    Ok(())
}
