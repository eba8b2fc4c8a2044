//! What `bench_broker` needs: svc-broker and mosquitto side by side with the same certificates, and a load generator that
//! costs little, since it shares the machine with what it measures: packets are bytes made once, acknowledgements are
//! read and written in bulk.

pub mod client;
pub mod connects;
pub mod downlink;
pub mod fleet;
mod packet;
mod pki;
mod registry;
pub mod site;
pub mod uplink;

use anyhow::Result;
use tokio::task::JoinSet;

/// Runs `visit` for each, so many under way, and gives what they return, in no order.
pub(crate) async fn each<I, T, F>(
    items: impl IntoIterator<Item = I>,
    under_way: usize,
    visit: impl Fn(I) -> F,
) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut visits = JoinSet::new();
    let mut done = Vec::new();
    for item in items {
        if visits.len() >= under_way
            && let Some(visited) = visits.join_next().await
        {
            done.push(visited??);
        }
        visits.spawn(visit(item));
    }
    while let Some(visited) = visits.join_next().await {
        done.push(visited??);
    }
    Ok(done)
}
