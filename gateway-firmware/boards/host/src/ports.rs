//! The small ports: counter, clock, randomness, reset reason, watchdog.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use gateway_core::ports::{
    Board, BootReason, Clock, Counter, CounterError, Entropy, EntropyError, NoFirmware, NoProbe, Reset,
    Watchdog,
};

use crate::flash::FileFlash;
use crate::keys::{FastVerify, FileKeys};
use crate::script::ScriptApp;

/// This board.
#[derive(Debug)]
pub(crate) enum Host {}

impl Board for Host {
    type Flash = FileFlash;
    type Counter = FileCounter;
    type Keys = FileKeys;
    type Clock = ProcessClock;
    type Entropy = SystemEntropy;
    type Reset = ProcessStart;
    type Watchdog = NoWatchdog;
    type App = ScriptApp;
    type Firmware = NoFirmware;
    type Probe = NoProbe;
    type Verify = FastVerify;
}

/// Eight bytes in a file of their own.
#[derive(Debug)]
pub(crate) struct FileCounter(File);

impl FileCounter {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < 8 {
            file.write_all_at(&[0; 8], 0)?;
        }
        Ok(Self(file))
    }
}

impl Counter for FileCounter {
    fn value(&mut self) -> Result<u64, CounterError> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0).map_err(|_| CounterError)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn raise(&mut self, to: u64) -> Result<(), CounterError> {
        if to > self.value()? {
            self.0.write_all_at(&to.to_le_bytes(), 0).map_err(|_| CounterError)?;
        }
        Ok(())
    }
}

/// Time since the device started; the operating system's date is never read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessClock(Instant);

impl ProcessClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The moment of a core time.
    pub(crate) fn instant(&self, ms: u64) -> Option<Instant> {
        self.0.checked_add(std::time::Duration::from_millis(ms))
    }
}

impl Clock for ProcessClock {
    fn now_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError> {
        SystemRandom::new().fill(into).map_err(|_| EntropyError)
    }
}

/// Every start of the process is a power-on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessStart;

impl Reset for ProcessStart {
    fn reason(&self) -> BootReason {
        BootReason::PowerOn
    }
}

/// A process that hangs is its supervisor's to restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoWatchdog;

impl Watchdog for NoWatchdog {
    fn feed(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_only_rises_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("counter");
        let mut counter = FileCounter::open(&path).unwrap();
        counter.raise(7).unwrap();
        counter.raise(3).unwrap();
        assert_eq!(FileCounter::open(&path).unwrap().value(), Ok(7));
    }
}
