//! The newest hello of every device that is about, in Redis: a lease, never truth. Without Redis a directive waits for
//! the device's next hello.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kit::redis::Redis;
use redis::Script;
use wire::{DeviceId, Nonce};

use super::devices::Hello;
use crate::model::report::{Boot, Moment};

/// A device not heard of for so long is forgotten.
const LEASE: Duration = Duration::from_secs(24 * 3600);
/// Ordered by (boot counter, sequence), never by arrival; two boots of one counter: the one that speaks now.
const REMEMBER: &str = r"
local old = redis.call('HMGET', KEYS[1], 'count', 'sequence', 'random')
local count, sequence = tonumber(ARGV[1]), tonumber(ARGV[2])
if old[1] then
    local older = tonumber(old[1])
    if older > count then return 0 end
    if older == count and old[3] == ARGV[3] and tonumber(old[2]) >= sequence then return 0 end
end
redis.call('HSET', KEYS[1], 'count', ARGV[1], 'sequence', ARGV[2], 'random', ARGV[3], 'nonce', ARGV[4], 'at', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
return 1
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

    /// Remembers a hello unless a newer one is known.
    pub(crate) async fn remember(&self, device: DeviceId, hello: Hello) {
        let at = hello.heard_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut call = self.remember.key(key(device));
        call.arg(hello.moment.boot.count)
            .arg(hello.moment.sequence)
            .arg(hello.moment.boot.random)
            .arg(hello.nonce.0.as_slice())
            .arg(at)
            .arg(LEASE.as_secs());
        let remembered: Result<u8, _> = call.invoke_async(&mut self.redis.clone()).await;
        if let Err(error) = remembered {
            count_failure("remember", &error);
        }
    }

    /// The newest hello, if Redis is there and knows one.
    pub(crate) async fn newest(&self, device: DeviceId) -> Option<Hello> {
        type Fields = (Option<u32>, Option<u32>, Option<u64>, Option<Vec<u8>>, Option<u64>);
        let mut command = redis::cmd("HMGET");
        command.arg(key(device)).arg(&["count", "sequence", "random", "nonce", "at"]);
        let fields: Result<Fields, _> = command.query_async(&mut self.redis.clone()).await;
        let (count, sequence, random, nonce, at) =
            fields.inspect_err(|error| count_failure("newest", error)).ok()?;
        Some(Hello {
            nonce: Nonce::try_from(nonce?.as_slice()).ok()?,
            moment: Moment { boot: Boot { count: count?, random: random? }, sequence: sequence? },
            heard_at: SystemTime::UNIX_EPOCH + Duration::from_millis(at?),
        })
    }
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
