//! Free loopback ports that stay ours.
//!
//! A stack leases a block of ports below the kernel's ephemeral range (so that no outgoing connection takes one while a
//! service is stopped for a moment) and holds a lock file for as long as it lives: two stacks, of one checkout or of two, never meet.
//! A port some foreign program listens on is skipped.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const FIRST: u16 = 20_000;
const BLOCK_PORTS: u16 = 32;
/// 375 blocks of 32 ports end at 32,000: below Linux's ephemeral range, which starts at 32,768.
const BLOCKS_MAX: u16 = 375;

/// A leased block of ports; the lease ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Ports {
    block: u16,
    next: u16,
    _lock: File,
}

impl Ports {
    /// Leases a free block: the preferred one when it is free, else any.
    pub(crate) fn lease(preferred: Option<u16>) -> Result<Ports> {
        let start = preferred.unwrap_or(u16::from_str_radix(&crate::secret::hex(2)?, 16)?);
        for step in 0..BLOCKS_MAX {
            let block = (start % BLOCKS_MAX + step) % BLOCKS_MAX;
            if let Some(lock) = try_lock(block)? {
                return Ok(Ports { block, next: 0, _lock: lock });
            }
        }
        bail!("all {BLOCKS_MAX} port blocks are leased: are that many stacks running?")
    }

    /// Which block it is, to lease the same again.
    pub(crate) fn block(&self) -> u16 {
        self.block
    }

    /// The next port of the block that nobody listens on.
    pub(crate) fn take(&mut self) -> Result<u16> {
        while self.next < BLOCK_PORTS {
            let port = FIRST + self.block * BLOCK_PORTS + self.next;
            self.next += 1;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port left in block {}", self.block)
    }
}

fn try_lock(block: u16) -> Result<Option<File>> {
    let dir = lock_dir();
    if std::fs::create_dir(&dir).is_ok() {
        // Shared by every user of the machine, like /tmp itself; a file of another user counts as leased.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777))?;
    }
    let Ok(file) = File::options().create(true).append(true).open(dir.join(block.to_string())) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("locking a port block"),
    }
}

fn lock_dir() -> PathBuf {
    std::env::temp_dir().join("holdfast-dev-ports")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leases_never_share_a_port() {
        let mut one = Ports::lease(None).expect("a free block");
        let mut two = Ports::lease(Some(one.block())).expect("another free block");
        assert_ne!(one.block(), two.block());
        assert_ne!(one.take().expect("a port"), two.take().expect("a port"));
    }

    #[test]
    fn a_port_in_use_is_skipped_and_a_block_ends() {
        let mut ports = Ports::lease(None).expect("a free block");
        let first = FIRST + ports.block() * BLOCK_PORTS;
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first));
        assert!(ports.take().expect("a port") > first);
        while ports.take().is_ok() {}
        assert_eq!(ports.next, BLOCK_PORTS);
    }
}
