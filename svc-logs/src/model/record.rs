//! A log record and what names it.

use std::fmt;
use std::time::SystemTime;

use wire::DeviceId;

/// One start of a device's microvisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Boot {
    pub(crate) counter: u32,
    pub(crate) random: u64,
}

/// How severe a record is; the lower, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

/// Who wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Microvisor = 1,
    App = 2,
}

/// A record as a device sent it, within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) uptime_us: u64,
    pub(crate) level: Level,
    pub(crate) source: Source,
    pub(crate) text: String,
}

/// A record as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    pub(crate) boot: Boot,
    pub(crate) record: Record,
    pub(crate) receive_time: SystemTime,
    pub(crate) gap_before: u64,
}

/// Which records of a device to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) device: DeviceId,
    /// Only after this one.
    pub(crate) after: Option<(Boot, u64)>,
    pub(crate) level: Level,
    pub(crate) start: Option<SystemTime>,
    pub(crate) end: Option<SystemTime>,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.counter, self.random)
    }
}

impl Level {
    pub(crate) const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// As stored; a number no version of ours wrote reads as `Debug`, so that it is not lost.
    pub(crate) fn from_number(number: i16) -> Self {
        Self::ALL.into_iter().find(|level| *level as i16 == number).unwrap_or(Level::Debug)
    }
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::Microvisor => "microvisor",
            Source::App => "app",
        }
    }

    pub(crate) fn from_number(number: i16) -> Self {
        if number == Source::Microvisor as i16 { Source::Microvisor } else { Source::App }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_prints_its_counter_and_sixteen_digits() {
        assert_eq!(Boot { counter: 7, random: 0xab }.to_string(), "7-00000000000000ab");
    }

    #[test]
    fn levels_and_sources_read_back_from_what_is_stored() {
        for level in Level::ALL {
            assert_eq!(Level::from_number(level as i16), level);
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        for source in [Source::Microvisor, Source::App] {
            assert_eq!(Source::from_number(source as i16), source);
        }
        assert_eq!(Level::from_name("fatal"), None);
    }
}
