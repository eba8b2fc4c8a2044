//! Redis: presence, fan-out, rate limits. Never truth: every caller has an answer for when it is away.
//!
//! One multiplexed connection, opened when first used, re-opened with back-off; a call fails fast rather than wait.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

/// How long one command may take.
pub const COMMAND_MAX: Duration = Duration::from_millis(500);
/// How long opening a connection may take.
pub const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Longest wait between attempts to reconnect.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL cannot be used")]
pub struct RedisError(#[from] redis::RedisError);

/// A connection that is cheap to clone; commands go through `redis::AsyncCommands`.
pub type Redis = ConnectionManager;

/// Opens lazily: an absent server is no error here.
pub fn connect(url: &str) -> Result<Redis, RedisError> {
    let client = redis::Client::open(url)?;
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        .set_response_timeout(Some(COMMAND_MAX))
        .set_min_delay(Duration::from_millis(100))
        .set_max_delay(RECONNECT_DELAY_MAX)
        .set_number_of_retries(1);
    Ok(ConnectionManager::new_lazy_with_config(client, config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::AsyncCommands;

    #[tokio::test]
    async fn an_absent_server_is_an_error_of_the_command_and_a_quick_one() {
        let mut redis = connect("redis://127.0.0.1:1/").unwrap();
        let asked: Result<Option<String>, _> =
            tokio::time::timeout(CONNECT_MAX * 5, redis.get("key")).await.expect("fails before the deadline");
        assert!(asked.is_err());
        assert!(connect("not a url").is_err());
    }
}
