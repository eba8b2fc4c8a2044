//! The firmware of the emulated board as built: where its images are, and what they take of the chip.
//!
//! `cargo dev firmware` puts them into `.dev/firmware`, whichever compiler made them; a board and a bundle are made from there.
//! The limits are those of docs/performance.md; linker scripts keep the same ones.

mod elf;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{places, qemu};

/// An image of the firmware, or an application for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The first stage.
    Boot,
    Microvisor,
    /// A microvisor that may misbehave: [`misbehaving`].
    Trial,
    /// `apps/first`, which says that it works.
    First(&'static str),
    /// `apps/first`, which never says so.
    Unwell(&'static str),
    /// `apps/first`, which never rests.
    Busy(&'static str),
    /// `apps/factory-test`, whose verdict is good.
    FactoryTest,
    /// `apps/factory-test`, whose verdict is this number.
    FactoryTestFails(&'static str),
    /// `apps/factory-test`, which never has one.
    FactoryTestEndless,
    /// `apps/blinky-rust`.
    BlinkyRust,
    /// `apps/blinky-c`: built by make.
    BlinkyC,
    /// `apps/embassy`.
    Embassy,
    /// `apps/rtos-c`: built by make.
    RtosC,
    /// `apps/patient`, which is there to be debugged: built by make.
    Patient,
    /// `apps/patient-rust`, the same in Rust.
    PatientRust,
    /// A microvisor without first stage, store and network, which computes all the time: for what the walls must hold.
    Walls,
    /// A microvisor without all that, which holds a small application in every way it can run, and tells what came of it.
    Hold,
    /// An application that attacks the walls and tells what came of it.
    Probe,
    /// One of `apps/hostile`, by its name in [`HOSTILE`].
    Hostile(&'static str),
}

/// The applications of `apps/hostile`, each of which tries to hurt the device in one way, and those they are measured by.
pub const HOSTILE: &[&str] = &[
    "aircr",
    "bad-pointers",
    "basepri-spin",
    "bus-fault",
    "call-for-ever",
    "call-storm",
    "deep-sleep",
    "divide",
    "dma",
    "fault-storm",
    "faultmask-spin",
    "floating-point",
    "foreign-peripherals",
    "forged-exception-return",
    "forged-function-return",
    "forgotten-calls",
    "handler-spin",
    "healthy-crash",
    "interrupt-storm",
    "lent-buffer",
    "lock-up",
    "log-flood",
    "log-lines",
    "measure",
    "mem-manage",
    "mpu-lent",
    "network-flood",
    "notification-flood",
    "ns-watchdog",
    "nvic",
    "overlapping-notifications",
    "past-sg",
    "pendsv-storm",
    "primask-spin",
    "quiet",
    "restart-flood",
    "secure-jump",
    "secure-read",
    "secure-registers",
    "secure-stack",
    "secure-write",
    "self-modifying",
    "semihosting",
    "stack-limit",
    "stack-overflow",
    "supervisor-calls",
    "systick-fault",
    "systick-flood",
    "telemetry-flood",
    "unaligned",
    "undefined",
    "unprivileged",
    "vtor",
];

/// What a microvisor on trial does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Nothing happens after its first instructions, and the watchdog is not fed.
    Hang,
    /// It faults at its start.
    Fault,
    /// It faults where no fault can be taken: the processor locks up, at which QEMU ends.
    LockUp,
    /// It works, and is connected no earlier than this after its start; none: never.
    Online { from_ms: Option<u32> },
}

/// What an image may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    flash_at: u32,
    flash_bytes: u32,
    ram_at: u32,
    ram_bytes: u32,
    /// Of these, what the linker does not give out: it outlives a reset.
    kept_bytes: u32,
}

// The addresses of `chip::map`; a test compares. This crate depends on no other of ours.
const BOOT: Limits = Limits {
    flash_at: 0x1000_0000,
    flash_bytes: 48 * 1024,
    ram_at: 0x3804_0000,
    ram_bytes: 64 * 1024,
    kept_bytes: 0,
};
const MICROVISOR: Limits = Limits {
    flash_at: 0x1001_0000,
    flash_bytes: 576 * 1024,
    ram_at: 0x3800_0000,
    ram_bytes: 224 * 1024,
    kept_bytes: 11 * 1024,
};
const APP: Limits = Limits {
    flash_at: 0x0020_0000,
    flash_bytes: 1024 * 1024,
    ram_at: 0x2820_0000,
    ram_bytes: 512 * 1024,
    kept_bytes: 0,
};

/// What stands before the plan of [`Image::Trial`]; its source has the same.
const TRIAL_MARK: &[u8; 16] = b"holdfast trial: ";
/// The stack of an image that starts by itself, before it has its own.
const VECTORS_STACK_BYTES: u32 = 4096;
/// Where the store is in the flash (`chip::map::flash::STORE`), with the first application at its beginning for [`Image::Walls`].
const STORE_AT: u64 = 0x20_0000;

/// What an image takes: flash with the initial values of its data, RAM with its stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    pub flash_bytes: u32,
    pub flash_bytes_max: u32,
    pub ram_bytes: u32,
    pub ram_bytes_max: u32,
}

impl Footprint {
    /// Whether it keeps its limits.
    pub fn fits(&self) -> bool {
        self.flash_bytes <= self.flash_bytes_max && self.ram_bytes <= self.ram_bytes_max
    }
}

impl Image {
    /// The name of its file.
    pub fn name(self) -> String {
        match self {
            Image::Boot => "boot".to_owned(),
            Image::Microvisor => "microvisor".to_owned(),
            Image::Trial => "trial".to_owned(),
            Image::First(version) => format!("first-{version}"),
            Image::Unwell(version) => format!("first-{version}-unwell"),
            Image::Busy(version) => format!("first-{version}-busy"),
            Image::FactoryTest => "factory-test".to_owned(),
            Image::FactoryTestFails(verdict) => format!("factory-test-fails-{verdict}"),
            Image::FactoryTestEndless => "factory-test-endless".to_owned(),
            Image::BlinkyRust => "blinky-rust".to_owned(),
            Image::BlinkyC => "blinky-c".to_owned(),
            Image::Embassy => "embassy".to_owned(),
            Image::RtosC => "rtos-c".to_owned(),
            Image::Patient => "patient".to_owned(),
            Image::PatientRust => "patient-rust".to_owned(),
            Image::Walls => "walls".to_owned(),
            Image::Hold => "hold".to_owned(),
            Image::Probe => "probe".to_owned(),
            Image::Hostile(name) => format!("hostile-{name}"),
        }
    }

    /// Where `cargo dev firmware` puts it.
    pub fn file(self) -> PathBuf {
        folder().join(self.name())
    }

    /// The file, which is there; the error says how to build it.
    pub fn built(self) -> Result<PathBuf> {
        let file = self.file();
        if !file.is_file() {
            bail!("{} is not built: run `cargo dev firmware` first", file.display());
        }
        Ok(file)
    }

    /// What it takes, by its ELF file.
    pub fn footprint(self) -> Result<Footprint> {
        let limits = self.limits();
        let (flash, ram) = (span(limits.flash_at), span(limits.ram_at));
        let mut footprint = Footprint {
            flash_bytes: 0,
            flash_bytes_max: limits.flash_bytes,
            ram_bytes: 0,
            ram_bytes_max: limits.ram_bytes,
        };
        for segment in elf::segments(&self.read()?)? {
            if segment.file_bytes > 0 && flash.contains(&segment.load_at) {
                let end = segment.load_at - limits.flash_at + segment.file_bytes;
                footprint.flash_bytes = footprint.flash_bytes.max(end);
            }
            if ram.contains(&segment.run_at) {
                let end = segment.run_at - limits.ram_at + segment.memory_bytes;
                footprint.ram_bytes = footprint.ram_bytes.max(end);
            }
        }
        footprint.ram_bytes += limits.kept_bytes;
        Ok(footprint)
    }

    /// The image as it lies in flash.
    pub fn flat(self) -> Result<Vec<u8>> {
        let (elf, at) = (self.read()?, self.limits().flash_at);
        let mut flat = vec![0xff; self.footprint()?.flash_bytes as usize];
        for segment in elf::segments(&elf)?.into_iter().filter(|segment| segment.file_bytes > 0) {
            let (from, bytes) = (segment.file_at as usize, segment.file_bytes as usize);
            let to = segment.load_at.checked_sub(at).context("a segment before the image")? as usize;
            let to = flat.get_mut(to..to + bytes).context("a segment after the image")?;
            to.copy_from_slice(elf.get(from..from + bytes).context("the ELF file is cut short")?);
        }
        Ok(flat)
    }

    /// What the processor finds at its reset vectors where there is no first stage: a stack, and where this image starts.
    pub fn vectors(self) -> Result<[u32; 2]> {
        Ok([self.limits().ram_at + VECTORS_STACK_BYTES, elf::entry(&self.read()?)?])
    }

    /// Where a function of this image begins.
    pub fn function(self, name: &str) -> Result<u32> {
        let found = elf::symbol(&self.read()?, name)?;
        // The lowest bit says that it is Thumb code.
        found.map(|value| value & !1).with_context(|| format!("{} has no {name}", self.name()))
    }

    /// So many bytes of this image at an address.
    pub fn code(self, at: u32, bytes: usize) -> Result<Vec<u8>> {
        let start = at.checked_sub(self.limits().flash_at).context("an address before the image")? as usize;
        let code = self.flat()?.get(start..start + bytes).map(<[u8]>::to_vec);
        code.with_context(|| format!("{at:#x} is not in {}", self.name()))
    }

    fn read(self) -> Result<Vec<u8>> {
        let file = self.built()?;
        std::fs::read(&file).with_context(|| format!("reading {}", file.display()))
    }

    fn limits(self) -> Limits {
        match self {
            Image::Boot => BOOT,
            Image::Microvisor | Image::Trial | Image::Walls | Image::Hold => MICROVISOR,
            Image::First(_)
            | Image::Unwell(_)
            | Image::Busy(_)
            | Image::FactoryTest
            | Image::FactoryTestFails(_)
            | Image::FactoryTestEndless
            | Image::BlinkyRust
            | Image::BlinkyC
            | Image::Embassy
            | Image::RtosC
            | Image::Patient
            | Image::PatientRust
            | Image::Probe
            | Image::Hostile(_) => APP,
        }
    }
}

/// [`Image::Trial`] as it lies in flash, told what to do wrong.
pub fn misbehaving(how: Misbehaviour) -> Result<Vec<u8>> {
    let mut image = Image::Trial.flat()?;
    let (number, from_ms) = match how {
        Misbehaviour::Hang => (1, 0),
        Misbehaviour::Fault => (2, 0),
        Misbehaviour::LockUp => (3, 0),
        Misbehaviour::Online { from_ms } => (4, from_ms.unwrap_or(u32::MAX)),
    };
    let mut places = image.windows(TRIAL_MARK.len()).enumerate().filter(|(_, bytes)| *bytes == TRIAL_MARK);
    let (Some((at, _)), None) = (places.next(), places.next()) else {
        bail!("the image does not say once where it is told what to do");
    };
    let at = at + TRIAL_MARK.len();
    let plan = image.get_mut(at..at + 8).context("the image ends in its plan")?;
    plan.copy_from_slice(&[number, from_ms].map(u32::to_le_bytes).concat());
    Ok(image)
}

/// Makes a flash file for [`Image::Walls`]: nothing but an application where the store begins.
pub fn bare_flash(application: Image, file: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let flash = blank_flash(file)?;
    flash.write_all_at(&application.flat()?, STORE_AT).with_context(|| format!("writing {}", file.display()))
}

/// Makes a flash file in which nothing lies, for [`Image::Hold`].
pub fn blank_flash(file: &Path) -> Result<File> {
    let flash = File::create(file).with_context(|| format!("making {}", file.display()))?;
    flash.set_len(qemu::FLASH_BYTES)?;
    Ok(flash)
}

/// Where the images are.
pub fn folder() -> PathBuf {
    places::dot_dev().join("firmware")
}

/// What follows an address up to what else there is: further than any limit, so that an excess is seen.
fn span(at: u32) -> Range<u32> {
    let whole = if at == MICROVISOR.ram_at { BOOT.ram_at - at } else { 0x20_0000 };
    at..at + whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_boards_memory_map() {
        let map = include_str!("../../gateway-firmware/boards/an505/chip/src/map.rs");
        for line in [
            "pub const BOOT_AT: u32 = 0x1000_0000;",
            "pub const BOOT_BYTES: u32 = 48 * 1024;",
            "pub const BOOT_RAM_AT: u32 = 0x3804_0000;",
            "pub const BOOT_RAM_BYTES: u32 = 64 * 1024;",
            "pub const MICROVISOR_AT: u32 = 0x1001_0000;",
            "pub const MICROVISOR_BYTES: u32 = 576 * 1024;",
            "pub const RAM_AT: u32 = 0x3800_0000;",
            "pub const RAM_BYTES: u32 = 213 * 1024;",
            "pub const KEPT_BYTES: u32 = 11 * 1024;",
            "pub const CODE_AT: u32 = 0x0020_0000;",
            "pub const CODE_BYTES: u32 = 1024 * 1024;",
            "pub const RAM_AT: u32 = 0x2820_0000;",
            "pub const RAM_BYTES: u32 = 512 * 1024;",
            "pub const STORE: u32 = 0x20_0000;",
        ] {
            assert!(map.contains(line), "the memory map has changed: no `{line}`");
        }
    }

    #[test]
    fn the_mark_is_that_of_the_microvisor_for_trials() {
        let source = include_str!("../../gateway-firmware/boards/an505/microvisor/src/bin/trial.rs");
        let mark = std::str::from_utf8(TRIAL_MARK).expect("it is text");
        assert!(source.contains(&format!("*b\"{mark}\"")));
    }

    #[test]
    fn every_hostile_application_is_named() {
        let folder = crate::root().join("gateway-firmware/apps/hostile/src/bin");
        let files = std::fs::read_dir(folder).expect("the folder is there").flatten();
        let mut names: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        names.sort();
        let named: Vec<String> = HOSTILE.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names, named);
    }

    #[test]
    fn an_image_beyond_a_limit_does_not_fit() {
        let fits = Footprint { flash_bytes: 10, flash_bytes_max: 10, ram_bytes: 5, ram_bytes_max: 5 };
        assert!(fits.fits());
        assert!(!Footprint { flash_bytes: 11, ..fits }.fits());
        assert!(!Footprint { ram_bytes: 6, ..fits }.fits());
    }
}
