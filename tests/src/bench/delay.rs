//! A wire that is long: what goes in comes out later, in order, and as fast as it came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Taken from one side at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces under way in one direction; more wait at their sender.
const PIECES_MAX: usize = 1024;

/// TCP connections to one server, each direction late by half of a round trip.
#[derive(Debug)]
pub struct Delay {
    address: SocketAddr,
    round_trip_ms: Arc<AtomicU64>,
}

impl Delay {
    /// To the server at `host:port`; without a delay at first.
    pub async fn to(server: &str) -> Result<Delay> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let delay = Delay { address: listener.local_addr()?, round_trip_ms: Arc::default() };
        let (server, round_trip_ms) = (server.to_owned(), delay.round_trip_ms.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&server).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, round_trip_ms.clone()));
                tokio::spawn(carry(from_far, to_near, round_trip_ms.clone()));
            }
        });
        Ok(delay)
    }

    /// Where it is reached, in place of the server.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What is sent from now on has this round trip.
    pub fn set(&self, round_trip: Duration) {
        let ms = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
        self.round_trip_ms.store(ms, Ordering::Relaxed);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, round_trip_ms: Arc<AtomicU64>) -> Result<()> {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let next = under_way.front().map(|(at, _)| *at);
        tokio::select! {
            read = from.read(&mut piece), if under_way.len() < PIECES_MAX => {
                let read = read?;
                if read == 0 {
                    break;
                }
                let late = Duration::from_millis(round_trip_ms.load(Ordering::Relaxed)) / 2;
                under_way.push_back((Instant::now() + late, piece[..read].to_vec()));
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let (_, bytes) = under_way.pop_front().context("a piece is due")?;
                to.write_all(&bytes).await?;
            }
        }
    }
    for (at, bytes) in under_way {
        sleep_until(at).await;
        to.write_all(&bytes).await?;
    }
    Ok(to.shutdown().await?)
}
