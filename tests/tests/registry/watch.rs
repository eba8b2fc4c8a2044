//! A watch goes on where it ended, and says what it did not tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dev::{Options, Service, Stack};
use kit::seal::MasterKey;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::watch_devices_response::{Kind, ResetReason};
use proto::registry::v1::{Device, Presence, UpdateDeviceRequest, WatchDevicesRequest, WatchDevicesResponse};
use scenarios::client::{self, Client, Person};
use tonic::{Code, Streaming};

use crate::board::{PATIENCE, hello};
use crate::fleet::{Fleet, refusal};

/// As the service has it (device.proto).
const BEHIND_MAX: i64 = 10_000;

/// svc-registry alone, and devices that are rows and nothing else.
pub(crate) struct Rows {
    pub(crate) stack: Stack,
    pub(crate) admin: Person,
}

impl Rows {
    pub(crate) async fn start() -> Result<Rows> {
        let stack = Stack::start(Options::only([Service::Registry])).await?;
        let admin = client::bootstrap(&stack).await?;
        Ok(Rows { stack, admin })
    }

    pub(crate) async fn devices(&self) -> Result<DeviceServiceClient<Client>> {
        Ok(DeviceServiceClient::new(self.admin.client(&self.stack, Service::Registry).await?))
    }

    /// Devices with these numbers.
    pub(crate) fn add(&self, numbers: &[i64], labels: &str) -> Result<()> {
        add(&self.stack, &self.admin, numbers, labels)
    }

    pub(crate) fn name(&self, number: i64) -> String {
        format!("{}/devices/{}", self.admin.tenant, id(number))
    }

    /// A row of the feed for each of these devices.
    fn changed(&self, person: &Person, number: i64, kind: &str, times: i64) -> Result<()> {
        let (tenant, device) = (tenant(person), id(number));
        self.stack.sql(&format!(
            "INSERT INTO registry.changes (tenant_id, device, kind)
             SELECT '{tenant}', '{device}', '{kind}' FROM generate_series(1, {times})"
        ))?;
        Ok(())
    }

    fn request(&self, filter: &str, resume_token: &str) -> WatchDevicesRequest {
        let (parent, filter) = (self.admin.tenant.clone(), filter.into());
        WatchDevicesRequest { parent, filter, resume_token: resume_token.into() }
    }

    async fn watch(&self, filter: &str, resume_token: &str) -> Result<Watch> {
        let request = self.request(filter, resume_token);
        Ok(Watch(self.devices().await?.watch_devices(request).await?.into_inner()))
    }

    async fn label(&self, number: i64, value: &str) -> Result<()> {
        let labels = [("site".to_owned(), value.to_owned())].into();
        let request = UpdateDeviceRequest {
            device: Some(Device { name: self.name(number), labels, ..Device::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
            ..Default::default()
        };
        self.devices().await?.update_device(request).await?;
        Ok(())
    }

    fn delete(&self, number: i64) -> Result<()> {
        self.stack.sql(&format!("DELETE FROM registry.devices WHERE device_id = '{}'", id(number)))?;
        self.changed(&self.admin, number, "deleted", 1)
    }

    /// A token as the service makes them.
    fn token(&self, filter: &str, says: &serde_json::Value) -> Result<String> {
        let environment = self.stack.environment(Service::Registry);
        let file = environment.iter().find(|(key, _)| key.ends_with("MASTER_KEY_FILE")).context("no key")?;
        let owner = format!("watch-devices/{}/{filter}", tenant(&self.admin));
        Ok(MasterKey::load(Path::new(&file.1))?.seal_token(says.to_string().as_bytes(), &owner)?)
    }
}

pub(crate) fn add(stack: &Stack, person: &Person, numbers: &[i64], labels: &str) -> Result<()> {
    let numbers = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    stack.sql(&format!(
        "INSERT INTO registry.devices (device_id, tenant_id, hardware_id, board, key_digest, public_key, labels, created_at)
         SELECT 'dv' || lpad(to_hex(n), 32, '0'), '{0}', 'h' || n, 'bench', sha256(int8send(n)), '', '{labels}', now()
         FROM unnest(ARRAY[{numbers}]::bigint[]) n;
         INSERT INTO registry.changes (tenant_id, device, kind)
         SELECT '{0}', 'dv' || lpad(to_hex(n), 32, '0'), 'created' FROM unnest(ARRAY[{numbers}]::bigint[]) n",
        tenant(person)
    ))?;
    Ok(())
}

pub(crate) fn tenant(person: &Person) -> &str {
    person.tenant.trim_start_matches("tenants/")
}

pub(crate) fn id(number: i64) -> String {
    format!("dv{number:032x}")
}

struct Watch(Streaming<WatchDevicesResponse>);

/// What was told: kind and device.
type Heard = BTreeSet<(Kind, String)>;

impl Watch {
    async fn next(&mut self) -> Result<WatchDevicesResponse> {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await.context("nothing came")??;
        let next = next.context("the watch ended")?;
        ensure!(!next.resume_token.is_empty(), "a message without a token: {next:?}");
        Ok(next)
    }

    /// All up to SYNCED, and its token.
    async fn synced(&mut self) -> Result<(Vec<WatchDevicesResponse>, String)> {
        let mut all = Vec::new();
        loop {
            let next = self.next().await?;
            if next.kind() == Kind::Synced {
                return Ok((all, next.resume_token));
            }
            all.push(next);
        }
    }
}

fn heard(all: &[WatchDevicesResponse]) -> Heard {
    let of = |event: &WatchDevicesResponse| {
        (event.kind(), event.device.as_ref().map(|device| device.name.clone()).unwrap_or_default())
    };
    all.iter().map(of).collect()
}

#[tokio::test]
async fn a_watch_goes_on_with_its_token_and_tells_exactly_what_changed_since() -> Result<()> {
    let rows = Rows::start().await?;
    let other = client::new_tenant(&rows.stack, &rows.admin, "Other").await?;
    rows.add(&[1, 2, 3, 4], "{}")?;
    let mut watch = rows.watch("", "").await?;
    let first = watch.next().await?;
    let (rest, token) = watch.synced().await?;
    assert_eq!((first.kind(), rest.len()), (Kind::Snapshot, 3));
    drop(watch);

    // In the middle of a snapshot it goes on in the middle.
    let (remaining, _) = rows.watch("", &first.resume_token).await?.synced().await?;
    assert_eq!(remaining, rest_of(&rest, &remaining), "the same three");

    assert!(rows.watch("", &token).await?.synced().await?.0.is_empty(), "nothing happened");
    rows.label(1, "south").await?;
    rows.label(1, "north").await?;
    rows.delete(2)?;
    rows.add(&[5], "{}")?;
    add(&rows.stack, &other, &[100, 101], "{}")?;
    rows.stack.restart(Service::Registry).await?;
    let (since, newer) = rows.watch("", &token).await?.synced().await?;
    let expected = Heard::from([
        (Kind::Changed, rows.name(1)),
        (Kind::Deleted, rows.name(2)),
        (Kind::Changed, rows.name(5)),
    ]);
    assert_eq!((heard(&since), since.len()), (expected, 3));
    assert_eq!(
        since.iter().find_map(|e| e.device.as_ref()?.labels.get("site").cloned()).as_deref(),
        Some("north")
    );
    assert!(rows.watch("", &newer).await?.synced().await?.0.is_empty(), "it was told");
    // Every message's token is good: all but the last have what their page tells told again.
    for event in &since[..since.len() - 1] {
        assert_eq!(heard(&rows.watch("", &event.resume_token).await?.synced().await?.0), heard(&since));
    }
    let last = &since[since.len() - 1];
    assert!(rows.watch("", &last.resume_token).await?.synced().await?.0.is_empty());
    Ok(())
}

/// As in `remaining`, but for tokens, which are never the same.
fn rest_of(rest: &[WatchDevicesResponse], remaining: &[WatchDevicesResponse]) -> Vec<WatchDevicesResponse> {
    let tokens = remaining.iter().map(|event| event.resume_token.clone());
    rest.iter()
        .zip(tokens)
        .map(|(e, resume_token)| WatchDevicesResponse { resume_token, ..e.clone() })
        .collect()
}

#[tokio::test]
async fn a_watch_by_filter_hears_of_what_matches_comes_and_goes_and_of_nothing_else() -> Result<()> {
    let rows = Rows::start().await?;
    rows.add(&[1, 2], r#"{"site": "south"}"#)?;
    rows.add(&[3, 4], "{}")?;
    let (all, token) = rows.watch("labels.site=south", "").await?.synced().await?;
    assert_eq!(heard(&all), Heard::from([(Kind::Snapshot, rows.name(1)), (Kind::Snapshot, rows.name(2))]));
    rows.label(1, "north").await?;
    rows.label(3, "south").await?;
    // Nothing of a report can make it match.
    rows.changed(&rows.admin, 4, "reported", 1)?;
    let (since, _) = rows.watch("labels.site=south", &token).await?.synced().await?;
    assert_eq!(heard(&since), Heard::from([(Kind::Deleted, rows.name(1)), (Kind::Changed, rows.name(3))]));
    Ok(())
}

#[tokio::test]
async fn a_change_that_commits_after_later_ones_were_told_is_told_by_the_token() -> Result<()> {
    let rows = Rows::start().await?;
    rows.add(&[1, 2], "{}")?;
    let mut watch = rows.watch("", "").await?;
    watch.synced().await?;
    let number = rows.stack.sql("SELECT nextval(pg_get_serial_sequence('registry.changes', 'seq'))")?;
    rows.label(1, "later").await?;
    let told = watch.next().await?;
    assert_eq!(told.device.context("no device")?.name, rows.name(1));
    rows.stack.sql(&format!(
        "INSERT INTO registry.changes (seq, tenant_id, device, kind) OVERRIDING SYSTEM VALUE
         VALUES ({}, '{}', '{}', 'labels')",
        number.trim(),
        tenant(&rows.admin),
        id(2)
    ))?;
    let (since, _) = rows.watch("", &told.resume_token).await?.synced().await?;
    assert_eq!(heard(&since), Heard::from([(Kind::Changed, rows.name(2))]));
    let live = watch.next().await?;
    assert_eq!(heard(&[live]), heard(&since), "and by the watch that goes on");
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_not_of_this_watch_is_refused_and_one_that_is_too_old_begins_anew() -> Result<()> {
    let rows = Rows::start().await?;
    let other = client::new_tenant(&rows.stack, &rows.admin, "Other").await?;
    rows.add(&[1, 2], "{}")?;
    let (_, token) = rows.watch("", "").await?.synced().await?;
    let mut devices = rows.devices().await?;
    let long = "A".repeat(9000);
    for (filter, bad) in
        [("board=bench", token.as_str()), ("", "x"), ("", &token[1..]), ("", "\0\u{1b}"), ("", &long)]
    {
        let refused = devices.watch_devices(rows.request(filter, bad)).await;
        assert_eq!(refusal(refused), (Code::InvalidArgument, "resume_token".into()), "{filter} {bad}");
    }
    let stranger = WatchDevicesRequest { parent: other.tenant.clone(), ..rows.request("", &token) };
    let mut theirs = DeviceServiceClient::new(other.client(&rows.stack, Service::Registry).await?);
    assert_eq!(refusal(theirs.watch_devices(stranger).await).1, "resume_token");

    // Made by the service's own key, as if a day ago; and of a Redis that is gone.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    for (says, reason) in [
        (serde_json::json!([1, [], null, null, now - 24 * 3600]), ResetReason::Expired),
        (serde_json::json!([1, [], [1, 1], null, now]), ResetReason::Presence),
    ] {
        let (all, _) = rows.watch("", &rows.token("", &says)?).await?.synced().await?;
        assert_eq!((all[0].kind(), all[0].reset_reason()), (Kind::Reset, reason));
        let snapshot = [(Kind::Snapshot, rows.name(1)), (Kind::Snapshot, rows.name(2))];
        assert_eq!(heard(&all[1..]), Heard::from(snapshot), "a whole one");
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_is_told_what_its_own_tenant_changed_and_how_it_is_now() -> Result<()> {
    let rows = Rows::start().await?;
    let other = client::new_tenant(&rows.stack, &rows.admin, "Other").await?;
    // More than a reader that does not read is sent: the watch stands still within its snapshot.
    let heavy: BTreeMap<String, String> = (0..60).map(|n| (format!("k{n}"), "x".repeat(255))).collect();
    let heavy = serde_json::to_value(heavy)?;
    let labels = |site: &str| {
        let mut labels = heavy.clone();
        labels["site"] = site.into();
        labels.to_string()
    };
    rows.add(&(1..=16).collect::<Vec<_>>(), &labels("south"))?;
    rows.add(&[20], "{}")?;
    add(&rows.stack, &other, &[100], r#"{"site": "south"}"#)?;
    let mut watch = rows.watch("labels.site=south", "").await?;
    let first = watch.next().await?;
    assert_eq!(first.kind(), Kind::Snapshot);
    const CHANGES: i64 = 5000;
    rows.changed(&other, 100, "labels", 3 * CHANGES)?;
    rows.changed(&rows.admin, 1, "labels", CHANGES)?;
    rows.changed(&rows.admin, 20, "reported", CHANGES / 2)?;
    rows.changed(&other, 100, "labels", 3 * CHANGES)?;
    rows.stack.sql(&format!("UPDATE registry.devices SET board = 'marker' WHERE device_id = '{}'", id(2)))?;
    rows.changed(&rows.admin, 2, "labels", 1)?;

    let (snapshot, _) = watch.synced().await?;
    assert_eq!(snapshot.len(), 15);
    let (mut missed, mut told) = (0, 0);
    loop {
        let event = watch.next().await?;
        missed += event.missed;
        let kind = event.kind();
        match event.device {
            Some(device) if device.board == "marker" => break,
            Some(device) => {
                assert_eq!((kind, device.name), (Kind::Changed, rows.name(1)));
                told += 1;
            }
            None => assert!(matches!(kind, Kind::Missed | Kind::Synced), "{kind:?}"),
        }
    }
    assert!(missed > 0 && missed + told <= CHANGES, "{missed} missed, {told} told: its own matching ones");
    assert!(
        missed + told > CHANGES - 1000,
        "{missed} missed, {told} told: but for the last page, which is told as one"
    );

    // Too far behind: everything anew, with the count of its own.
    let token = first.resume_token;
    rows.changed(&rows.admin, 20, "reported", BEHIND_MAX)?;
    let (all, _) = rows.watch("labels.site=south", &token_at_end(&rows).await?).await?.synced().await?;
    assert!(all.is_empty(), "a token that is new enough");
    let unknown = rows.token("", &serde_json::json!([0, [], null, null, now()?]))?;
    let reset = rows.watch("", &unknown).await?.next().await?;
    assert_eq!(reset.kind(), Kind::Reset);
    let (since, count) = presence(&rows).await?;
    let old = rows.token("", &serde_json::json!([0, [], [since, count], null, now()?]))?;
    let reset = rows.watch("", &old).await?.next().await?;
    assert_eq!((reset.reset_reason(), reset.missed), (ResetReason::Behind, BEHIND_MAX));
    // One within its snapshot is only behind once the snapshot is told.
    assert_eq!(rows.watch("labels.site=south", &token).await?.next().await?.kind(), Kind::Snapshot);
    Ok(())
}

async fn token_at_end(rows: &Rows) -> Result<String> {
    Ok(rows.watch("labels.site=south", "").await?.synced().await?.1)
}

/// What Redis says to a watch that begins.
async fn presence(rows: &Rows) -> Result<(u64, u64)> {
    let client = redis::Client::open(rows.stack.redis_url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let count = format!("hf:presence-count:{}", tenant(&rows.admin));
    let (since, count): (u64, Option<u64>) =
        redis::cmd("MGET").arg("hf:since").arg(count).query_async(&mut connection).await?;
    Ok((since, count.unwrap_or(0)))
}

fn now() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}

#[tokio::test]
async fn presence_that_changed_while_nobody_watched_is_told_by_the_token() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (one, two) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let will = proto::device::v1::HelloUp { nonce: vec![], ..hello(1, 0) };
    let mut session = one.connect_with_will(&fleet.stack, Some(&will)).await?;
    one.say(&mut session, &hello(1, 1)).await?;
    fleet.device_becomes(&one.name(), |d| d.presence() == Presence::Online && d.boot_count == 1).await?;
    let request = |resume_token: &str| WatchDevicesRequest {
        parent: fleet.admin.tenant.clone(),
        resume_token: resume_token.into(),
        ..Default::default()
    };
    let watch = async |token: &str| {
        anyhow::Ok(Watch(fleet.devices().await?.watch_devices(request(token)).await?.into_inner()))
    };
    let (all, token) = watch("").await?.synced().await?;
    assert_eq!(heard(&all), Heard::from([(Kind::Snapshot, one.name()), (Kind::Snapshot, two.name())]));
    drop(session);
    fleet.device_becomes(&one.name(), |d| d.presence() == Presence::Offline).await?;
    let (since, _) = watch(&token).await?.synced().await?;
    assert_eq!(heard(&since), Heard::from([(Kind::Changed, one.name())]));
    assert_eq!(since[0].device.as_ref().context("no device")?.presence(), Presence::Offline);
    // A Redis that lost what it knew: everything anew.
    fleet.stack.stop(dev::Part::Redis).await?;
    fleet.stack.start_service(dev::Part::Redis).await?;
    let client = redis::Client::open(fleet.stack.redis_url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
    fleet.device_becomes(&one.name(), |d| d.presence() == Presence::Unspecified).await?;
    let reset = watch(&token).await?.next().await?;
    assert_eq!((reset.kind(), reset.reset_reason()), (Kind::Reset, ResetReason::Presence));
    Ok(())
}
