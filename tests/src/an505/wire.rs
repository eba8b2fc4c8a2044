//! The cable between an emulated board and QEMU's network: every frame passes through here, in both directions, and may be lost,
//! doubled or late, by a rule that follows from a seed.
//!
//! It also stands in for what QEMU's network cannot do: it answers DNS for names of ours, and it makes leases so short that
//! renewals happen in seconds. A frame that nothing happens to goes on as it came, at once and in order.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::qemu::{Net, wire_sockets};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use super::frame;
use crate::broker::random::Random;
use crate::tap::Tape;

/// Largest frame: what the board's controller takes, with some room.
const FRAME_BYTES_MAX: u32 = 4096;
/// Frames under way in one direction; more are lost, as in any queue of a network.
const UNDER_WAY_MAX: usize = 1024;

/// What happens to frames, each chance in a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub lost: u16,
    pub doubled: u16,
    /// Late by up to `late_by_max`, so that others overtake it.
    pub late: u16,
    pub late_by_max: Duration,
}

impl Weather {
    /// Nothing happens.
    pub const FAIR: Weather = Weather { lost: 0, doubled: 0, late: 0, late_by_max: Duration::ZERO };
    /// Nothing gets through.
    pub const CUT: Weather = Weather { lost: 1000, ..Weather::FAIR };
}

/// What the network is made to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Names that DNS knows, besides those of this machine's own resolver.
    pub hosts: Vec<(String, Ipv4Addr)>,
    /// How long a lease is, instead of QEMU's day.
    pub lease_s: Option<u32>,
}

/// What passed.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames the board sent.
    pub up: AtomicU64,
    /// Frames for the board.
    pub down: AtomicU64,
    pub lost: AtomicU64,
    pub doubled: AtomicU64,
    pub late: AtomicU64,
    /// TCP connections the board began.
    pub connections: AtomicU64,
    /// Leases given or renewed, to be awaited.
    pub leases: watch::Sender<u64>,
    /// Questions answered here.
    pub dns_answers: AtomicU64,
}

impl Counts {
    /// One of them, now.
    pub fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// A cable; boards may be plugged into it one after the other.
#[derive(Debug)]
pub struct Wire {
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    weather: Mutex<Weather>,
    network: Network,
    counts: Counts,
    tape: Option<Tape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Wire {
    /// A cable in fair weather; what happens later follows from the seed and the order of frames.
    pub fn new(seed: u64, network: Network) -> Result<Wire> {
        Wire::with(seed, network, None)
    }

    /// The same, but what passes is kept: what TCP carries of the board's in the first lane, what it carries for the board in the second.
    pub fn taped(seed: u64, network: Network) -> Result<(Wire, Tape)> {
        let tape = Tape::default();
        Ok((Wire::with(seed, network, Some(tape.clone()))?, tape))
    }

    fn with(seed: u64, network: Network, tape: Option<Tape>) -> Result<Wire> {
        // Below /tmp: the path of a socket has 108 bytes.
        let folder = TempDir::with_prefix("holdfast-wire-")?;
        let listeners = wire_sockets(folder.path()).map(UnixListener::bind);
        let [up_out, up_in, down_out, down_in] = listeners;
        let shared = Arc::new(Shared { weather: Mutex::default(), network, counts: Counts::default(), tape });
        let (to_network, for_network) = mpsc::channel(UNDER_WAY_MAX);
        let (to_board, for_board) = mpsc::channel(UNDER_WAY_MAX);
        tokio::spawn(deliver(up_in?, for_network));
        tokio::spawn(deliver(down_in?, for_board));
        let up = Lane {
            direction: Direction::Up,
            shared: Arc::clone(&shared),
            random: Random::new(seed, 0),
            ahead: to_network,
            back: to_board.clone(),
        };
        let down = Lane {
            direction: Direction::Down,
            random: Random::new(seed, 1),
            ahead: to_board,
            back: up.ahead.clone(),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(up.carry(up_out?));
        tokio::spawn(down.carry(down_out?));
        Ok(Wire { folder, shared })
    }

    /// What a machine is plugged into.
    pub fn net(&self) -> Net {
        Net::Through(PathBuf::from(self.folder.path()))
    }

    /// From the next frame on.
    pub fn set_weather(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What passed so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

/// One direction of the cable.
#[derive(Debug)]
struct Lane {
    direction: Direction,
    shared: Arc<Shared>,
    random: Random,
    ahead: mpsc::Sender<Vec<u8>>,
    back: mpsc::Sender<Vec<u8>>,
}

impl Lane {
    async fn carry(mut self, listener: UnixListener) {
        while let Ok((mut board, _)) = listener.accept().await {
            while let Ok(frame) = read(&mut board).await {
                self.frame(frame);
            }
        }
    }

    fn frame(&mut self, mut frame: Vec<u8>) {
        let counts = &self.shared.counts;
        let count = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        if let Some(tape) = &self.shared.tape {
            tape.keep(usize::from(self.direction == Direction::Down), frame::payload(&frame));
        }
        match self.direction {
            Direction::Up => {
                count(&counts.up);
                if frame::opens_connection(&frame) {
                    count(&counts.connections);
                }
                if let Some(answer) = frame::dns_answer(&frame, &self.shared.network.hosts) {
                    count(&counts.dns_answers);
                    return send(&self.back, answer, counts);
                }
            }
            Direction::Down => {
                count(&counts.down);
                if frame::shorten_lease(&mut frame, self.shared.network.lease_s) {
                    counts.leases.send_modify(|leases| *leases += 1);
                }
            }
        }
        let weather = *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner);
        // All of it is drawn for every frame: what happens to one changes nothing for the next.
        let mut drawn = || self.random.below(1000);
        let [lost, doubled, late] =
            [weather.lost, weather.doubled, weather.late].map(|chance| drawn() < usize::from(chance));
        let late_by = weather.late_by_max.mul_f64(drawn() as f64 / 1000.0);
        if lost {
            count(&counts.lost);
            return;
        }
        if doubled {
            count(&counts.doubled);
            send(&self.ahead, frame.clone(), counts);
        }
        if late {
            count(&counts.late);
            let (ahead, shared) = (self.ahead.clone(), Arc::clone(&self.shared));
            tokio::spawn(async move {
                tokio::time::sleep(late_by).await;
                send(&ahead, frame, &shared.counts);
            });
            return;
        }
        send(&self.ahead, frame, counts);
    }
}

fn send(to: &mpsc::Sender<Vec<u8>>, frame: Vec<u8>, counts: &Counts) {
    if to.try_send(frame).is_err() {
        counts.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Hands frames to QEMU, and to the next one as soon as it is there; what comes between two is lost.
async fn deliver(listener: UnixListener, mut frames: mpsc::Receiver<Vec<u8>>) {
    let mut stream = None;
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((next, _)) => stream = Some(next),
                Err(_) => return,
            },
            frame = frames.recv() => {
                let Some(frame) = frame else { return };
                if let Some(connected) = &mut stream
                    && write(connected, &frame).await.is_err()
                {
                    stream = None;
                }
            }
        }
    }
}

/// QEMU's framing (net/net.c, `net_fill_rstate`).
async fn read(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write(stream: &mut UnixStream, frame: &[u8]) -> Result<()> {
    let length = u32::try_from(frame.len()).context("a frame of 4 GiB")?;
    stream.write_all(&[&length.to_be_bytes(), frame].concat()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The four ends that QEMU would hold.
    async fn plugged(wire: &Wire) -> Result<[UnixStream; 4]> {
        let Net::Through(folder) = wire.net() else { anyhow::bail!("no folder") };
        let [a, b, c, d] = wire_sockets(&folder);
        let connect = UnixStream::connect;
        Ok([connect(a).await?, connect(b).await?, connect(c).await?, connect(d).await?])
    }

    #[tokio::test]
    async fn in_fair_weather_frames_go_on_as_they_came_and_to_the_next_machine_too() -> Result<()> {
        let wire = Wire::new(1, Network::default())?;
        for _ in 0..2 {
            let [mut up_out, mut up_in, mut down_out, mut down_in] = plugged(&wire).await?;
            for frame in [b"one".as_slice(), b"two"] {
                write(&mut up_out, frame).await?;
                write(&mut down_out, frame).await?;
            }
            for frame in [b"one".as_slice(), b"two"] {
                assert_eq!(
                    (read(&mut up_in).await?, read(&mut down_in).await?),
                    (frame.to_vec(), frame.to_vec())
                );
            }
        }
        assert_eq!(Counts::read(&wire.counts().up), 4);
        Ok(())
    }

    #[tokio::test]
    async fn what_happens_to_frames_follows_from_the_seed() -> Result<()> {
        let mut heard = Vec::new();
        for seed in [7, 7, 8] {
            let wire = Wire::new(seed, Network::default())?;
            wire.set_weather(Weather { lost: 300, doubled: 300, ..Weather::FAIR });
            let [mut up_out, mut up_in, _down_out, _down_in] = plugged(&wire).await?;
            for number in 0..100_u8 {
                write(&mut up_out, &[number]).await?;
            }
            while Counts::read(&wire.counts().up) < 100 {
                tokio::task::yield_now().await;
            }
            wire.set_weather(Weather::FAIR);
            write(&mut up_out, b"end").await?;
            let mut frames = Vec::new();
            loop {
                let frame = read(&mut up_in).await?;
                if frame == b"end" {
                    break;
                }
                frames.push(frame);
            }
            heard.push(frames);
        }
        assert_eq!(heard[0], heard[1]);
        assert_ne!(heard[0], heard[2]);
        Ok(())
    }
}
