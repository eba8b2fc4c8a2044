//! Callers that make one call after the other for a while, all at once: how many calls a second came back, and after how long.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::raw::Raw;

/// One call, ready to be made again and again.
#[derive(Debug, Clone)]
pub struct Call {
    /// `/holdfast.registry.v1.DeviceService/GetDevice`
    pub path: &'static str,
    /// One for each caller, in turn: writes of the same thing at the same time get in each other's way, as they should.
    pub messages: Vec<Vec<u8>>,
    /// None: the method asks for none, or for the channel's certificate.
    pub token: Option<String>,
}

/// What came of a load.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub per_s: f64,
    pub p99_ms: f64,
}

/// Makes the call from `callers` tasks spread over the channels until the time is over; every answer must be good.
pub async fn run(channels: &[Channel], call: &Call, callers: usize, time: Duration) -> Result<Answered> {
    // Connections, caches and prepared statements are nobody's news.
    for channel in channels {
        once(&mut Grpc::new(channel.clone()), call, 0).await?;
    }
    let (began, mut tasks) = (Instant::now(), JoinSet::new());
    for caller in 0..callers {
        let channel = channels[caller % channels.len()].clone();
        tasks.spawn(until(channel, call.clone(), caller, began + time));
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.append(&mut done??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let p99_ms = percentile(&mut times, 0.99).context("no call came back")?;
    Ok(Answered { per_s: times.len() as f64 / seconds, p99_ms })
}

async fn once(grpc: &mut Grpc<Channel>, call: &Call, caller: usize) -> Result<()> {
    grpc.ready().await?;
    let mut request = Request::new(call.messages[caller % call.messages.len()].clone());
    if let Some(token) = &call.token {
        let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let answer = grpc.unary(request, PathAndQuery::from_static(call.path), Raw).await;
    answer.map(drop).with_context(|| format!("calling {}", call.path))
}

async fn until(channel: Channel, call: Call, caller: usize, end: Instant) -> Result<Vec<Duration>> {
    let (mut grpc, mut times) = (Grpc::new(channel), Vec::new());
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(times);
        }
        once(&mut grpc, &call, caller).await?;
        times.push(began.elapsed());
    }
}

/// The time below which so large a part of all lies, in milliseconds.
pub fn percentile(times: &mut [Duration], part: f64) -> Option<f64> {
    times.sort();
    let index = ((times.len() as f64 * part).ceil() as usize).saturating_sub(1);
    Some(times.get(index)?.as_secs_f64() * 1e3)
}

/// The middle of several runs.
pub fn median(runs: &[Answered]) -> Result<Answered> {
    let middle = |of: fn(&Answered) -> f64| -> Result<f64> {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        ensure!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Ok(values[values.len() / 2])
    };
    Ok(Answered { per_s: middle(|run| run.per_s)?, p99_ms: middle(|run| run.p99_ms)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_lies_above_the_99th_percentile() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.99), Some(198.0));
        assert_eq!(percentile(&mut times[..1], 0.99), Some(1.0));
        assert_eq!(percentile(&mut [], 0.99), None);
    }
}
