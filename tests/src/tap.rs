//! Ears on a wire: every byte that passes is kept, to be searched for what must not be in it.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes passed on at once.
const PIECE_BYTES: usize = 16 * 1024;

/// What passed, lane by lane: a direction of a connection, in the order of its bytes.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<Vec<Vec<u8>>>>);

impl Tape {
    /// To the end of a lane, which is there from now on.
    pub fn keep(&self, lane: usize, bytes: &[u8]) {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() <= lane {
            lanes.resize_with(lane + 1, Vec::new);
        }
        lanes[lane].extend_from_slice(bytes);
    }

    /// All there is so far.
    pub fn lanes(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A way to a TCP server that keeps what passes, and changes nothing.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    tape: Tape,
}

impl Tap {
    /// To the server at `host:port`.
    pub async fn to(server: &str) -> Result<Tap> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let tap = Tap { port: listener.local_addr()?.port(), tape: Tape::default() };
        let (server, tape) = (server.to_owned(), tap.tape.clone());
        tokio::spawn(async move {
            let mut lane = 0;
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&server).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, tape.clone(), lane));
                tokio::spawn(carry(from_far, to_near, tape.clone(), lane + 1));
                lane += 2;
            }
        });
        Ok(tap)
    }

    /// Where it is reached, in place of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tape(&self) -> &Tape {
        &self.tape
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, tape: Tape, lane: usize) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(to.shutdown().await?);
        }
        tape.keep(lane, &piece[..read]);
        to.write_all(&piece[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_passes_is_kept_by_direction_and_arrives() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0").await?;
        let tap = Tap::to(&server.local_addr()?.to_string()).await?;
        let mut near = TcpStream::connect(("127.0.0.1", tap.port())).await?;
        let (mut far, _) = server.accept().await?;
        let mut heard = [0; 5];
        near.write_all(b"there").await?;
        far.read_exact(&mut heard).await?;
        far.write_all(b"back!").await?;
        near.read_exact(&mut heard).await?;
        assert_eq!((&heard, tap.tape().lanes()), (b"back!", vec![b"there".to_vec(), b"back!".to_vec()]));
        Ok(())
    }
}
