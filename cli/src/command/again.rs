//! Streams that are opened again when they end with their token, their server or their connection, to go on where they ended.

use std::time::Duration;

use anyhow::Result;
use tonic::Status;

use crate::args::Global;
use crate::failure::{is_passing, is_token_expired};
use crate::session::Session;

/// Pause before the connection is tried again; it doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The stream may be opened again.
pub(crate) fn goes_on(status: &Status) -> bool {
    is_token_expired(status) || is_passing(&status.clone().into())
}

/// Signs in anew and opens it, however long the servers are away; an error only when waiting does not help.
pub(crate) async fn opened<T>(global: &Global, open: impl AsyncFn(&Session) -> Result<T>) -> Result<T> {
    let mut pause = PAUSE_MIN;
    loop {
        let attempt = async { open(&Session::open(global).await?).await };
        match attempt.await {
            Err(error) if is_passing(&error) => {
                if pause == PAUSE_MIN && !global.json {
                    eprintln!("(connection lost; trying again)");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            done => return done,
        }
    }
}
