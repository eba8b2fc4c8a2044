//! Presence: a lease in Redis, renewed by every hello, ended by the will of the same connection or by time. Never
//! truth: without Redis the answer is "unknown", and nothing else waits for it.
//!
//! `hf:presence:{device}` is a hash (boot count b, sequence s, pair p, online on, lease end until, last hello at);
//! `hf:leases` is a sorted set of "{tenant} {device}" by lease end, so that whoever sweeps finds the ended ones;
//! `hf:since` says since when this Redis has known anything. Changes are published on `hf:presence`, and kept for those who
//! were not listening: `hf:presence-count:{tenant}` counts them, `hf:presence-changes:{tenant}` is a sorted set of devices by the count
//! of their last change, `hf:presence-floor:{tenant}` the highest count that is no longer in it.

use std::time::{Duration, SystemTime};

use kit::redis::Redis;
use redis::{RedisResult, Script, pipe};
use tokio_stream::StreamExt;
use wire::{DeviceId, TenantId};

use crate::model::hello::Order;
use crate::model::lives::Place;
use crate::model::{Presence, PresencePosition};

/// Channel on which changes are published: "{tenant} {device}".
pub(crate) const CHANNEL: &str = "hf:presence";
/// Leases ended in one sweep.
const SWEEP_MAX: usize = 500;
/// Devices of a tenant whose last change of presence is kept.
const CHANGES_MAX: usize = 10_000;
/// Devices whose presence changed that are read at once.
const CHANGES_READ_MAX: usize = 500;
/// How long a silent device's last hello is remembered here.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Before every script that changes presence: KEYS none, `told(tenant, device, most kept, life)`.
const TOLD: &str = r"
local function told(tenant, device, most, kept)
  local count, changes = 'hf:presence-count:' .. tenant, 'hf:presence-changes:' .. tenant
  local floor = 'hf:presence-floor:' .. tenant
  redis.call('ZADD', changes, redis.call('INCR', count), device)
  if redis.call('ZCARD', changes) > tonumber(most) then
    redis.call('SET', floor, redis.call('ZPOPMIN', changes)[2], 'PX', kept)
  end
  redis.call('PEXPIRE', count, kept)
  redis.call('PEXPIRE', changes, kept)
  redis.call('PUBLISH', 'hf:presence', tenant .. ' ' .. device)
end
";

/// ARGV: now, lease, kept, most; then tenant, device, boot count, sequence, pair of each, and 1 if its boot is later than any other whatever
/// they count. Answers of each: 0 older than what is known, 1 renewed, 2 came online.
const HELLO: &str = r"
local now, lease, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('SET', 'hf:since', now, 'NX')
local answers = {}
local function named(pair) return string.match(pair or '', '^(%d+%-%x+)%-') end
for i = 5, #ARGV, 6 do
  local key = 'hf:presence:' .. ARGV[i + 1]
  local boot, sequence, pair = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), ARGV[i + 4]
  local old = redis.call('HMGET', key, 'b', 's', 'p', 'on', 'until')
  local b, s = tonumber(old[1] or -1), tonumber(old[2] or -1)
  local follows = ARGV[i + 5] == '1' and named(old[3]) ~= named(pair)
  if not follows and (b > boot or (b == boot and s >= sequence)) then
    answers[#answers + 1] = 0
  else
    redis.call('HSET', key, 'b', boot, 's', sequence, 'p', pair, 'on', 1, 'until', now + lease, 'at', now)
    redis.call('PEXPIRE', key, kept)
    redis.call('ZADD', 'hf:leases', now + lease, ARGV[i] .. ' ' .. ARGV[i + 1])
    if old[4] == '1' and tonumber(old[5]) > now then
      answers[#answers + 1] = 1
    else
      told(ARGV[i], ARGV[i + 1], ARGV[4], kept)
      answers[#answers + 1] = 2
    end
  end
end
return answers";

/// ARGV: tenant, device, pair, kept, most. 1: the device went offline; 0: another connection's will.
const WILL: &str = r"
local key = 'hf:presence:' .. ARGV[2]
local old = redis.call('HMGET', key, 'p', 'on')
if old[1] ~= ARGV[3] or old[2] ~= '1' then return 0 end
redis.call('HSET', key, 'on', 0)
redis.call('ZREM', 'hf:leases', ARGV[1] .. ' ' .. ARGV[2])
told(ARGV[1], ARGV[2], ARGV[5], ARGV[4])
return 1";

/// ARGV: kept, most, tenant, devices.
const FORGET: &str = r"
for i = 4, #ARGV do
  redis.call('DEL', 'hf:presence:' .. ARGV[i])
  redis.call('ZREM', 'hf:leases', ARGV[3] .. ' ' .. ARGV[i])
  told(ARGV[3], ARGV[i], ARGV[2], ARGV[1])
end";

/// ARGV: now, tenant, the count after which to read, how many at most. Since when anything is known, the count, the floor, and devices with
/// the counts of their changes, ascending.
const CHANGES: &str = r"
redis.call('SET', 'hf:since', ARGV[1], 'NX')
local count = redis.call('GET', 'hf:presence-count:' .. ARGV[2]) or '0'
local floor = redis.call('GET', 'hf:presence-floor:' .. ARGV[2]) or '0'
local changes = redis.call('ZRANGEBYSCORE', 'hf:presence-changes:' .. ARGV[2], '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
return {redis.call('GET', 'hf:since'), count, floor, changes}";

/// ARGV: now, how many at most, kept, most kept. How many leases ended.
const SWEEP: &str = r"
local ended = redis.call('ZRANGEBYSCORE', 'hf:leases', '-inf', ARGV[1], 'LIMIT', 0, tonumber(ARGV[2]))
for _, member in ipairs(ended) do
  redis.call('ZREM', 'hf:leases', member)
  local tenant, device = string.match(member, '^(%S+) (%S+)$')
  told(tenant, device, ARGV[4], ARGV[3])
end
return #ended";

/// Leases of devices.
#[derive(Clone)]
pub(crate) struct Leases {
    redis: Redis,
    lease: Duration,
    hello: Script,
    will: Script,
    forget: Script,
    changes: Script,
    sweep: Script,
}

/// Whose presence changed since a watch last looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PresenceChanges {
    /// Redis cannot be asked.
    Unknown,
    /// What was known before is lost, or no longer kept: it may be anyone's.
    Lost(PresencePosition),
    /// These, and where to go on; there may be more at once.
    Of { devices: Vec<DeviceId>, to: PresencePosition, more: bool },
}

/// What Redis knows of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub presence: Presence,
    pub last_hello_at: Option<SystemTime>,
}

/// A hello to renew a lease with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewal {
    pub tenant: TenantId,
    pub device: DeviceId,
    pub order: Order,
    /// How its boot stands to others.
    pub place: Place,
}

/// Listens to what is published on [`CHANNEL`].
#[derive(Debug, Clone)]
pub(crate) struct Announcements {
    client: redis::Client,
}

impl Announcements {
    pub(crate) fn new(url: &str) -> RedisResult<Self> {
        Ok(Self { client: redis::Client::open(url)? })
    }

    /// Whose devices' presence changed, until the connection ends or cannot be made; none: announcements may have been missed.
    pub(crate) async fn follow(&self, tell: &(impl Fn(Option<TenantId>) + Sync)) {
        let Ok(mut connection) = self.client.get_async_pubsub().await else { return };
        if connection.subscribe(CHANNEL).await.is_err() {
            return;
        }
        tell(None);
        let mut messages = connection.on_message();
        while let Some(message) = messages.next().await {
            let text: RedisResult<String> = message.get_payload();
            let tenant = text.ok().and_then(|text| text.split_once(' ')?.0.parse().ok());
            if tenant.is_some() {
                tell(tenant);
            }
        }
    }
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Leases {
    pub(crate) fn new(redis: Redis, lease: Duration) -> Self {
        let [hello, will, forget, sweep] =
            [HELLO, WILL, FORGET, SWEEP].map(|script| Script::new(&format!("{TOLD}{script}")));
        Self { redis, lease, hello, will, forget, changes: Script::new(CHANGES), sweep }
    }

    /// Renews leases; of each whether it was older than one known already. Without Redis none is.
    pub(crate) async fn renew(&self, renewals: &[Renewal], now: SystemTime) -> Vec<bool> {
        let mut call = self.hello.prepare_invoke();
        call.arg(millis(now)).arg(self.lease.as_millis() as u64).arg(kept()).arg(CHANGES_MAX);
        for renewal in renewals {
            let order = &renewal.order;
            call.arg(renewal.tenant.to_string()).arg(renewal.device.to_string());
            call.arg(order.boot_count).arg(order.sequence).arg(pair(order));
            call.arg(u8::from(renewal.place == Place::Newest));
        }
        let answers: RedisResult<Vec<u8>> = call.invoke_async(&mut self.redis.clone()).await;
        match answers {
            Ok(answers) if answers.len() == renewals.len() => answers.iter().map(|a| *a == 0).collect(),
            Ok(_) => vec![false; renewals.len()],
            Err(error) => {
                missed("renew", &error);
                vec![false; renewals.len()]
            }
        }
    }

    /// A connection broke; ends the lease if it is the newest connection's.
    pub(crate) async fn will(&self, tenant: TenantId, device: DeviceId, order: &Order) {
        let mut call = self.will.prepare_invoke();
        call.arg(tenant.to_string()).arg(device.to_string()).arg(pair(order)).arg(kept()).arg(CHANGES_MAX);
        let ended: RedisResult<u8> = call.invoke_async(&mut self.redis.clone()).await;
        if let Err(error) = ended {
            missed("will", &error);
        }
    }

    /// Nothing more is known of devices: revoked, deleted, or under another key.
    pub(crate) async fn forget(&self, tenant: TenantId, devices: &[DeviceId]) {
        let mut call = self.forget.prepare_invoke();
        call.arg(kept()).arg(CHANGES_MAX).arg(tenant.to_string());
        for device in devices {
            call.arg(device.to_string());
        }
        let done: RedisResult<()> = call.invoke_async(&mut self.redis.clone()).await;
        if let Err(error) = done {
            missed("forget", &error);
        }
    }

    /// Ends leases whose time has come, telling who watches. False: more may be due.
    pub(crate) async fn sweep(&self, now: SystemTime) -> bool {
        let mut call = self.sweep.prepare_invoke();
        call.arg(millis(now)).arg(SWEEP_MAX).arg(kept()).arg(CHANGES_MAX);
        let ended: RedisResult<usize> = call.invoke_async(&mut self.redis.clone()).await;
        match ended {
            Ok(ended) => ended < SWEEP_MAX,
            Err(error) => {
                missed("sweep", &error);
                true
            }
        }
    }

    /// Whose presence changed since `from`; without it only where to begin.
    pub(crate) async fn changes(
        &self,
        tenant: TenantId,
        from: Option<PresencePosition>,
        now: SystemTime,
    ) -> PresenceChanges {
        let mut call = self.changes.prepare_invoke();
        let after = from.map_or(0, |from| from.count);
        call.arg(millis(now)).arg(tenant.to_string()).arg(after).arg(CHANGES_READ_MAX);
        let answer: RedisResult<Changes> = call.invoke_async(&mut self.redis.clone()).await;
        match answer {
            Ok(answer) => changes(from, answer),
            Err(error) => {
                missed("changes", &error);
                PresenceChanges::Unknown
            }
        }
    }

    /// Of each device, in order; `ever` says whether it ever reported.
    pub(crate) async fn of(&self, devices: &[(DeviceId, bool)], now: SystemTime) -> Vec<Seen> {
        if devices.is_empty() {
            return Vec::new();
        }
        let mut commands = pipe();
        commands.get("hf:since");
        for (device, _) in devices {
            commands.hmget(key(*device), &["on", "until", "at"]);
        }
        let answer: RedisResult<Vec<redis::Value>> = commands.query_async(&mut self.redis.clone()).await;
        let answers = match answer {
            Ok(answers) if answers.len() == devices.len() + 1 => answers,
            Ok(_) => return vec![Seen::default(); devices.len()],
            Err(error) => {
                missed("read", &error);
                return vec![Seen::default(); devices.len()];
            }
        };
        let since: Option<u64> = redis::from_redis_value(answers[0].clone()).ok();
        let now = millis(now);
        // A Redis that began less than a lease ago has not heard from everyone yet.
        let settled = since.is_some_and(|since| since + self.lease.as_millis() as u64 <= now);
        let read = |((_, ever), value): (&(DeviceId, bool), &redis::Value)| {
            let fields: Option<Fields> = redis::from_redis_value(value.clone()).ok();
            seen(fields.unwrap_or_default(), *ever && settled, now)
        };
        devices.iter().zip(&answers[1..]).map(read).collect()
    }
}

/// Since, count, floor, devices with the counts of their changes.
type Changes = (u64, u64, u64, Vec<(String, u64)>);

fn changes(from: Option<PresencePosition>, (since, count, floor, all): Changes) -> PresenceChanges {
    let newest = PresencePosition { since, count };
    let Some(from) = from else {
        return PresenceChanges::Of { devices: Vec::new(), to: newest, more: false };
    };
    if from.since != since || from.count > count || from.count < floor {
        return PresenceChanges::Lost(newest);
    }
    let more = all.len() == CHANGES_READ_MAX;
    let to = match all.last() {
        Some((_, last)) if more => PresencePosition { since, count: *last },
        _ => newest,
    };
    let devices = all.iter().filter_map(|(device, _)| device.parse().ok()).collect();
    PresenceChanges::Of { devices, to, more }
}

type Fields = (Option<u8>, Option<u64>, Option<u64>);

fn seen((on, until, at): Fields, silence_means_offline: bool, now: u64) -> Seen {
    let last_hello_at = at.map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at));
    let presence = match (on, until) {
        (Some(1), Some(until)) if until > now => Presence::Online,
        (Some(_), _) => Presence::Offline,
        (None, _) if silence_means_offline => Presence::Offline,
        (None, _) => Presence::Unknown,
    };
    Seen { presence, last_hello_at }
}

/// What a will must match.
fn pair(order: &Order) -> String {
    format!("{}-{:016x}-{}", order.boot_count, order.boot_random, order.connection)
}

fn kept() -> u64 {
    KEPT.as_millis() as u64
}

fn key(device: DeviceId) -> String {
    format!("hf:presence:{device}")
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn missed(what: &'static str, error: &redis::RedisError) {
    tracing::debug!(what, %error, "presence is unknown: redis does not answer");
    metrics::counter!("registry_presence_errors_total", "what" => what).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_online_until_it_ends_and_silence_is_offline_only_for_one_who_spoke() {
        assert_eq!(seen((Some(1), Some(11), Some(5)), true, 10).presence, Presence::Online);
        assert_eq!(seen((Some(1), Some(10), Some(5)), true, 10).presence, Presence::Offline);
        assert_eq!(seen((Some(0), Some(11), Some(5)), true, 10).presence, Presence::Offline);
        assert_eq!(seen((None, None, None), true, 10).presence, Presence::Offline);
        assert_eq!(seen((None, None, None), false, 10).presence, Presence::Unknown);
    }

    #[test]
    fn a_pair_names_boot_and_connection() {
        let order = Order { boot_count: 3, boot_random: 0xab, connection: 2, sequence: 9 };
        assert_eq!(pair(&order), "3-00000000000000ab-2");
        assert_ne!(pair(&order), pair(&Order { connection: 3, ..order }));
    }

    #[test]
    fn whose_presence_changed_is_known_as_long_as_it_is_the_same_redis_that_kept_it() {
        let at = |count| Some(PresencePosition { since: 5, count });
        let device = DeviceId::new([1; 16]);
        let answer = (5, 9, 3, vec![(device.to_string(), 9)]);
        let to = PresencePosition { since: 5, count: 9 };
        let of = |devices| PresenceChanges::Of { devices, to, more: false };
        assert_eq!(changes(at(8), answer.clone()), of(vec![device]));
        assert_eq!(changes(None, answer.clone()), of(vec![]), "a beginning");
        for lost in [at(10), at(2), Some(PresencePosition { since: 4, count: 8 })] {
            assert_eq!(changes(lost, answer.clone()), PresenceChanges::Lost(to), "{lost:?}");
        }
        let many = (1..=CHANGES_READ_MAX as u64).map(|count| (device.to_string(), count)).collect();
        let PresenceChanges::Of { to, more, .. } = changes(at(3), (5, 9000, 0, many)) else { panic!() };
        assert_eq!((to.count, more), (CHANGES_READ_MAX as u64, true), "a page of them");
    }
}
