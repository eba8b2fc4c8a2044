//! The command line.

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;
use gateway_core::ports::Geometry;

/// Devices of one process, at most.
pub(crate) const COUNT_MAX: u32 = 20_000;

/// A Holdfast device, or thousands, as a Linux process.
#[derive(Debug, Parser)]
#[command(name = "board-host", version)]
pub(crate) struct Args {
    /// What the board is given once: written by `holdfast claim create --out DIR`.
    #[arg(long, value_name = "FILE")]
    pub(crate) provision: PathBuf,
    /// Where flash, keys and counter are kept: one folder a device.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Devices in this process, each with its own key, certificate and flash.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(COUNT_MAX)))]
    pub(crate) count: u32,
    /// Names the board; with --count it gets -0, -1, ... behind it. Without it a random one is made and kept.
    #[arg(long, value_name = "ID")]
    pub(crate) hardware_id: Option<String>,
    /// Erase size / write size of the flash.
    #[arg(long, value_name = "ERASE/WRITE", default_value = "4096/1", value_parser = geometry)]
    pub(crate) geometry: Geometry,
    /// Shows what the application logs.
    #[arg(long)]
    pub(crate) log_echo: bool,
    /// Prints one JSON line for everything that happens.
    #[arg(long)]
    pub(crate) json: bool,
    /// Devices started a second, 0 for all at once.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0)]
    pub(crate) connect_rate: u32,
    /// What the operating system's clock is said to be, Unix seconds: it must not matter.
    #[arg(long, value_name = "UNIX")]
    pub(crate) clock: Option<u64>,
}

/// Bytes of a host device's flash.
const FLASH_BYTES: u32 = 8 * 1024 * 1024;

fn geometry(text: &str) -> anyhow::Result<Geometry> {
    match text {
        "4096/1" => Ok(Geometry { bytes: FLASH_BYTES, erase_bytes: 4096, write_bytes: 1, write_once: false }),
        "8192/16" => {
            Ok(Geometry { bytes: FLASH_BYTES, erase_bytes: 8192, write_bytes: 16, write_once: true })
        }
        _ => bail!("geometry is 4096/1 or 8192/16"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_geometries_are_known_and_no_other() {
        assert!(!geometry("4096/1").unwrap().write_once);
        assert!(geometry("8192/16").unwrap().write_once);
        assert!(geometry("4096/2").is_err());
    }

    #[test]
    fn the_number_of_devices_is_bounded() {
        let with = |count: &str| {
            Args::try_parse_from(["board-host", "--provision", "p", "--state", "s", "--count", count])
        };
        assert!(with("20000").is_ok());
        assert!(with("20001").is_err());
        assert!(with("0").is_err());
    }
}
