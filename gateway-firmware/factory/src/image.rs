//! A flash image: provisioning, a microvisor in both slots, and a store with the first keyset and applications.
//!
//! What every board of a run has in common is checked and laid out once ([`Spec::prepare`]); each then gets its name.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chip::map::secure;
use gateway_core::boot::first::{Given, Parts, Record, Refused, Scratch, Slot, Verified, check};
use gateway_core::commission::make::{Application, Making, Unfit};
use gateway_core::provision as record;
use wire::bundle::Bundle;
use wire::cose::P256;
use wire::manifest::Version;

use crate::memory::{BOARD, LAYOUT, Region, machine};
use crate::provision::{Host, Provision, unreadable};
use crate::{Error, Result, map, names};

/// The first byte that nothing ever uses: everything before it must read as erased.
const USED_BYTES: u32 = map::CRASH + map::CRASH_BYTES;
/// The version of a microvisor whose own says none.
const UNKNOWN: Version = Version { major: 0, minor: 0, patch: 0 };
/// Who a run's common part is checked as.
const NOBODY: &str = "nobody";

/// What boards are made of. Files, as they were read.
#[derive(Debug)]
pub struct Spec<'a> {
    pub provision: &'a Provision,
    pub hosts: &'a [Host],
    /// The tenant's first signed keyset: it vouches for the microvisor, and the store begins with it.
    pub keyset: &'a [u8],
    /// A bundle file with component `microvisor`.
    pub microvisor: &'a [u8],
    /// A bundle file: the first application.
    pub app: Option<&'a [u8]>,
    /// A bundle file: what tests the hardware before anything else runs.
    pub test: Option<&'a [u8]>,
    /// Unix seconds: claims end.
    pub now_s: u64,
}

/// What all boards of a run have in common.
#[derive(Debug)]
pub struct Run<'a> {
    provision: &'a Provision,
    hosts: &'a [Host],
    build_time_s: u64,
    flash: Vec<u8>,
    /// What the first stage will make of it.
    pub microvisor: Verified,
}

/// A flash.
#[derive(Debug)]
pub struct Image(Vec<u8>);

impl<'a> Spec<'a> {
    /// Lays the flash out but for the board's name, with the board's own code, which looks at every input first.
    pub fn prepare(&self) -> Result<Run<'a>> {
        self.provision.check(self.now_s)?;
        let microvisor = bundle("--microvisor", self.microvisor)?;
        let build_time_s = microvisor.manifest.build_time_s;
        let region = self.provision.region(NOBODY, self.hosts, build_time_s)?;
        let mut flash = vec![0xff; USED_BYTES as usize];
        put(&mut flash, map::PROVISION, &region, map::PROVISION_BYTES, "the provisioning")?;
        self.store(&mut flash, &region, &microvisor)?;
        // In both: a board that was never updated has something to fall back on, too.
        for slot in map::SLOTS {
            self.slot(&mut flash, slot, &microvisor)?;
        }
        let microvisor = first_stage(&mut flash, Slot::A).map_err(Error::Microvisor)?;
        Ok(Run { provision: self.provision, hosts: self.hosts, build_time_s, flash, microvisor })
    }

    fn slot(&self, flash: &mut [u8], slot: u32, microvisor: &Bundle<'_>) -> Result<()> {
        let keyset_room = map::SLOT_ENVELOPE - map::SLOT_KEYSET;
        put(flash, slot + map::SLOT_KEYSET, self.keyset, keyset_room, "--keyset")?;
        let envelope_room = map::SLOT_IMAGE - map::SLOT_ENVELOPE;
        put(flash, slot + map::SLOT_ENVELOPE, microvisor.envelope, envelope_room, "--microvisor's envelope")?;
        let image = area(microvisor);
        put(flash, slot + map::SLOT_IMAGE, &image, secure::MICROVISOR_BYTES, "--microvisor's image")
    }

    fn store(&self, flash: &mut [u8], region: &[u8], microvisor: &Bundle<'_>) -> Result<()> {
        let roots = record::roots(region).map_err(|error| unreadable("root_key_hashes", error.name()))?;
        let read = |what, file: Option<&'a [u8]>| {
            let bundle = file.map(|file| bundle(what, file)).transpose()?;
            Ok::<_, Error>(bundle.map(|bundle| (bundle.envelope, area(&bundle))))
        };
        let (first, test) = (read("--app", self.app)?, read("--test", self.test)?);
        let making = Making {
            board: BOARD,
            // As the board does: a version of another shape needs no less than any application may ask for.
            microvisor: microvisor.manifest.version.parse().unwrap_or(UNKNOWN),
            root_key_hashes: &roots.hashes,
            root_threshold: roots.threshold,
            build_time_s: microvisor.manifest.build_time_s,
            keyset: self.keyset,
            first: first.as_ref().map(|(envelope, area)| Application { envelope, area }),
            test: test.as_ref().map(|(envelope, area)| Application { envelope, area }),
        };
        let mut store = Region::new(flash, map::STORE, map::STORE_BYTES)
            .ok_or_else(|| Error::Store("the flash is too short".to_owned()))?;
        making.write(&mut store, &P256).map_err(|unfit| match unfit {
            Unfit::Keyset(error) => Error::Keyset(error),
            Unfit::Application(role, reason) => Error::Application(role, reason),
            other => Error::Store(format!("{other:?}")),
        })
    }
}

impl Run<'_> {
    /// The flash of the board with this hardware id.
    pub fn board(&self, hardware_id: &str) -> Result<Image> {
        names::check(hardware_id)?;
        let region = self.provision.region(hardware_id, self.hosts, self.build_time_s)?;
        let mut flash = self.flash.clone();
        put(&mut flash, map::PROVISION, &region, map::PROVISION_BYTES, "the provisioning")?;
        Ok(Image(flash))
    }
}

impl Image {
    /// The flash up to the last byte that is ever used.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes the flash file QEMU insists on, 16 MiB of which the unused end is a hole. It holds the claim's key: only its
    /// owner can read it. An existing file is another board's, unless it is to be made anew.
    pub fn write(&self, path: &Path, force: bool) -> Result<()> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        if force
            && let Err(source) = std::fs::remove_file(path)
            && source.kind() != ErrorKind::NotFound
        {
            return Err(failed(source));
        }
        let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
            _ => failed(source),
        })?;
        let written = file.write_all(&self.0).and_then(|()| file.set_len(map::BYTES.into()));
        written.and_then(|()| file.sync_all()).map_err(failed)
    }
}

/// What the first stage makes of a slot of this flash, or why it refuses it; nothing is changed.
pub fn first_stage(flash: &mut [u8], slot: Slot) -> std::result::Result<Verified, String> {
    let provision = map::PROVISION as usize..(map::PROVISION + map::PROVISION_BYTES) as usize;
    let region = flash.get(provision).ok_or("the file is too short")?;
    let roots = record::roots(region).map_err(|error| format!("provisioning {}", error.name()))?;
    let mut copies: Vec<Vec<u8>> = std::iter::repeat_n(flash.to_vec(), 3).collect();
    let [a, b, c] = copies.as_mut_slice() else { return Err("three copies".to_owned()) };
    let short = || "the file is too short".to_owned();
    let mut record = Region::new(a, map::BOOT_RECORD, map::BOOT_RECORD_BYTES).ok_or_else(short)?;
    let mut slot_a = Region::new(b, map::SLOTS[0], map::SLOT_BYTES).ok_or_else(short)?;
    let mut slot_b = Region::new(c, map::SLOTS[1], map::SLOT_BYTES).ok_or_else(short)?;
    let (now, _) = Record::read(&mut record);
    let mut parts = Parts {
        record: &mut record,
        slots: [&mut slot_a, &mut slot_b],
        layout: LAYOUT,
        place: &mut vec![0; secure::MICROVISOR_BYTES as usize],
        scratch: &mut Scratch::new(),
    };
    let given = Given { machine: machine(), root_key_hashes: &roots.hashes, root_threshold: roots.threshold };
    check(slot, &now, &mut parts, &given, &P256).map_err(|reason: Refused| reason.name().to_owned())
}

fn bundle<'b>(what: &'static str, file: &'b [u8]) -> Result<Bundle<'b>> {
    Bundle::read(file).map_err(|source| Error::Bundle { what, source })
}

/// What a bundle's layers make, up to the last byte of them.
fn area(bundle: &Bundle<'_>) -> Vec<u8> {
    let mut area = Vec::new();
    for layer in &bundle.manifest.layers {
        // Layers ascend, and `Bundle::read` found each of them.
        area.resize(layer.destination as usize, 0xff);
        area.extend_from_slice(bundle.layer(&layer.digest).unwrap_or_default());
    }
    area
}

fn put(flash: &mut [u8], at: u32, bytes: &[u8], room: u32, what: &'static str) -> Result<()> {
    let too_large = Error::TooLarge { what, bytes: bytes.len(), room: room as usize };
    if bytes.len() > room as usize {
        return Err(too_large);
    }
    let place = flash.get_mut(at as usize..at as usize + bytes.len()).ok_or(too_large)?;
    place.copy_from_slice(bytes);
    Ok(())
}
