//! A very large fleet, listed page by page as a console does it, under filters that match all of it, a tenth and a thousandth.
//!
//! The devices are rows made by SQL in the benchmark's own database: what enrolment costs is measured elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dev::Service;
use proto::registry::v1::ListDevicesRequest;
use proto::registry::v1::device_service_client::DeviceServiceClient;

use super::FIGURES;
use super::load::percentile;
use crate::client::{self, Client};
use crate::world::World;

/// Pages read under one filter; a fleet may have fewer.
const PAGES: usize = 300;
/// Devices of a page, as the CLI asks for them.
const PAGE_SIZE: i32 = 100;

/// (figure, filter)
const FILTERS: [(&str, &str); 4] = [
    ("list_all", ""),
    ("list_tenth", "labels.ring=3"),
    ("list_thousandth", "labels.site=7"),
    ("list_version_and_tenth", "version=2.0.0 AND labels.ring=3"),
];

pub async fn measure(world: &World, devices: usize) -> Result<()> {
    let tenant = world.one(&["tenant", "show"]).await?;
    let tenant = tenant["name"].as_str().context("the tenant's name")?.to_owned();
    let began = Instant::now();
    furnish(world, &tenant, devices)?;
    eprintln!("{devices} devices made in {:.0} s", began.elapsed().as_secs_f64());
    let token = world.cli(&["token"]).await?;
    let channel = client::channel(&world.stack, Service::Registry).await?;
    let mut registry = DeviceServiceClient::new(client::with_token(channel, token.trim())?);
    for (figure, filter) in FILTERS {
        // A page is planned and its statement prepared once.
        pages(&mut registry, &tenant, filter, 1).await?;
        let mut times = pages(&mut registry, &tenant, filter, PAGES).await?;
        let metric = |what: &str| format!("{figure}_{what}_ms");
        for (what, part) in [("p50", 0.5), ("p99", 0.99)] {
            let value = percentile(&mut times, part).context("no page")?;
            FIGURES.alone(&metric(what), "ms a page of 100", value);
        }
    }
    Ok(())
}

/// The times of so many pages, from the first on.
async fn pages(
    registry: &mut DeviceServiceClient<Client>,
    tenant: &str,
    filter: &str,
    most: usize,
) -> Result<Vec<Duration>> {
    let mut request = ListDevicesRequest {
        parent: tenant.to_owned(),
        filter: filter.to_owned(),
        page_size: PAGE_SIZE,
        ..Default::default()
    };
    let mut times = Vec::new();
    while times.len() < most {
        let began = Instant::now();
        let page = registry.list_devices(request.clone()).await.context(filter.to_owned())?.into_inner();
        times.push(began.elapsed());
        ensure!(!page.devices.is_empty(), "{filter}: an empty page");
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(times)
}

/// Devices that have reported, each with two labels; the ids are spread as random ones would be.
fn furnish(world: &World, tenant: &str, devices: usize) -> Result<()> {
    let tenant = tenant.trim_start_matches("tenants/");
    let sql = format!(
        "SET synchronous_commit = off;
         CREATE TEMP TABLE made AS SELECT n, 'dv' || md5(n::text) AS id FROM generate_series(1, {devices}) n;
         INSERT INTO registry.devices (device_id, tenant_id, hardware_id, board, key_digest, public_key, labels, created_at)
         SELECT id, '{tenant}', 'bench-' || n, 'host', sha256(n::text::bytea), '\\x00',
                jsonb_build_object('ring', (n % 10)::text, 'site', (n % 1000)::text), now() FROM made ORDER BY id;
         INSERT INTO registry.reports (device_id, tenant_id, boot_count, boot_random, connection, sequence, boot_reason,
                board, microvisor_version, slots, app_version, app_floor, keyset_version, reported_at)
         SELECT id, '{tenant}', 1, '\\x0000000000000000', 1, 1, 'power_on', 'host', '0.1.0', '[]',
                CASE WHEN n % 2 = 0 THEN '1.0.0' ELSE '2.0.0' END, 1, 1, now() FROM made ORDER BY id;
         ANALYZE registry.devices; ANALYZE registry.reports;"
    );
    world.stack.sql(&sql).map(drop)
}
