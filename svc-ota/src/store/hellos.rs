//! The newest hello of every device that is about, in Redis: a lease, never truth. Without Redis a directive waits for
//! the device's next hello.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kit::redis::Redis;
use redis::Script;
use wire::{DeviceId, Digest, Nonce};

use crate::model::device::Hello;
use crate::model::report::{Boot, Moment};

/// A device not heard of for so long is forgotten.
const LEASE: Duration = Duration::from_secs(24 * 3600);
/// ARGV: lease; then count, sequence, random, nonce, at, device key and keyset of each, and 1 if its boot is later than any other whatever they
/// count. Ordered by (boot counter, sequence), never by arrival; two boots of one counter, or another key: the one that speaks now.
const REMEMBER: &str = r"
for i, key in ipairs(KEYS) do
    local at = 8 * i - 6
    local old = redis.call('HMGET', key, 'count', 'sequence', 'random', 'key')
    local older = tonumber(old[1] or -1)
    local count, sequence, random = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
    local follows = ARGV[at + 7] == '1' and old[3] ~= random
    local known = not follows and old[4] == ARGV[at + 5] and (older > count or (older == count and old[3] == random and tonumber(old[2]) >= sequence))
    if not known then
        redis.call('HSET', key, 'count', ARGV[at], 'sequence', ARGV[at + 1], 'random', random,
            'nonce', ARGV[at + 3], 'at', ARGV[at + 4], 'key', ARGV[at + 5], 'keyset', ARGV[at + 6])
        redis.call('EXPIRE', key, ARGV[1])
    end
end
return #KEYS
";

#[derive(Clone)]
pub(crate) struct Hellos {
    redis: Redis,
    remember: Script,
}

impl Hellos {
    pub(crate) fn new(redis: Redis) -> Self {
        Self { redis, remember: Script::new(REMEMBER) }
    }

    /// Remembers each hello unless a newer one is known.
    pub(crate) async fn remember(&self, heard: &[(DeviceId, Hello)], followed: &BTreeSet<DeviceId>) {
        if heard.is_empty() {
            return;
        }
        let mut call = self.remember.prepare_invoke();
        call.arg(LEASE.as_secs());
        for (device, hello) in heard {
            let at = hello.heard_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            call.key(key(*device))
                .arg(hello.moment.boot.count)
                .arg(hello.moment.sequence)
                .arg(hello.moment.boot.random)
                .arg(hello.nonce.0.as_slice())
                .arg(at)
                .arg(hello.key.0.as_slice())
                .arg(hello.keyset)
                .arg(u8::from(followed.contains(device)));
        }
        let remembered: Result<u64, _> = call.invoke_async(&mut self.redis.clone()).await;
        if let Err(error) = remembered {
            count_failure("remember", &error);
        }
    }

    /// The newest hellos that Redis knows, if it is there.
    pub(crate) async fn newest_all(&self, devices: &[DeviceId]) -> HashMap<DeviceId, Hello> {
        if devices.is_empty() {
            return HashMap::new();
        }
        let mut commands = redis::pipe();
        for device in devices {
            commands.hmget(key(*device), &["count", "sequence", "random", "nonce", "at", "key", "keyset"]);
        }
        let answer: Result<Vec<Fields>, _> = commands.query_async(&mut self.redis.clone()).await;
        let fields = answer.inspect_err(|error| count_failure("newest", error)).unwrap_or_default();
        devices.iter().zip(fields).filter_map(|(device, fields)| Some((*device, hello(fields)?))).collect()
    }
}

type Fields =
    (Option<u32>, Option<u32>, Option<u64>, Option<Vec<u8>>, Option<u64>, Option<Vec<u8>>, Option<u32>);

fn hello((count, sequence, random, nonce, at, device_key, keyset): Fields) -> Option<Hello> {
    Some(Hello {
        nonce: Nonce::try_from(nonce?.as_slice()).ok()?,
        moment: Moment { boot: Boot { count: count?, random: random? }, sequence: sequence? },
        heard_at: SystemTime::UNIX_EPOCH + Duration::from_millis(at?),
        key: Digest::try_from(device_key?.as_slice()).ok()?,
        // One that an older version of this service remembered.
        keyset: keyset.unwrap_or_default(),
    })
}

impl std::fmt::Debug for Hellos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hellos")
    }
}

fn key(device: DeviceId) -> String {
    format!("ota:hello:{device}")
}

fn count_failure(call: &'static str, error: &redis::RedisError) {
    metrics::counter!("ota_redis_failures_total", "call" => call).increment(1);
    tracing::debug!(%error, call, "redis is away: directives wait for the next hello");
}
