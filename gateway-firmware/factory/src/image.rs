//! A flash image: provisioning, a microvisor in slot A, and blank flash.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use chip::map::secure;
use gateway_core::boot::first::{Given, Parts, Record, Refused, Scratch, Slot, Verified, check};
use gateway_core::provision as record;
use wire::bundle::Bundle;
use wire::cose::P256;

use crate::map;
use crate::memory::{LAYOUT, Region, machine};
use crate::provision::{Host, Provision};

/// The first byte that nothing ever uses: everything before it must read as erased.
const USED_BYTES: u32 = map::STORE + map::STORE_BYTES;

/// What a board is made of.
#[derive(Debug)]
pub struct Spec<'a> {
    pub provision: &'a Provision,
    pub hardware_id: &'a str,
    pub hosts: &'a [Host],
    /// The signed keyset that vouches for the microvisor.
    pub keyset: &'a [u8],
    /// A bundle file with component `microvisor`.
    pub microvisor: &'a [u8],
}

/// A flash and what the first stage will make of it.
#[derive(Debug)]
pub struct Image {
    flash: Vec<u8>,
    pub microvisor: Verified,
}

impl Spec<'_> {
    /// Lays the flash out, and has the first stage's own code look at it.
    pub fn build(&self) -> Result<Image> {
        let bundle = Bundle::read(self.microvisor).context("--microvisor")?;
        let mut flash = vec![0xff; USED_BYTES as usize];
        let region = self.provision.region(self.hardware_id, self.hosts, bundle.manifest.build_time_s)?;
        put(&mut flash, map::PROVISION, &region, map::PROVISION_BYTES).context("provisioning")?;
        let slot = map::SLOTS[0];
        let keyset_room = map::SLOT_ENVELOPE - map::SLOT_KEYSET;
        put(&mut flash, slot + map::SLOT_KEYSET, self.keyset, keyset_room).context("keyset")?;
        let envelope_room = map::SLOT_IMAGE - map::SLOT_ENVELOPE;
        put(&mut flash, slot + map::SLOT_ENVELOPE, bundle.envelope, envelope_room).context("envelope")?;
        for layer in &bundle.manifest.layers {
            let bytes = bundle.layer(&layer.digest).context("a bundle holds its layers")?;
            let room = secure::MICROVISOR_BYTES.saturating_sub(layer.destination);
            put(&mut flash, slot + map::SLOT_IMAGE + layer.destination, bytes, room).context("image")?;
        }
        match first_stage(&mut flash, Slot::A) {
            Ok(microvisor) => Ok(Image { flash, microvisor }),
            Err(reason) => bail!("the first stage would refuse this microvisor: {reason}"),
        }
    }
}

impl Image {
    /// The flash up to the last byte that is ever used.
    pub fn bytes(&self) -> &[u8] {
        &self.flash
    }

    /// Writes the flash file QEMU insists on, 16 MiB of which the unused end is a hole.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        file.write_all(&self.flash)
            .and_then(|()| file.set_len(map::BYTES.into()))
            .with_context(|| format!("cannot write {}", path.display()))
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

fn put(flash: &mut [u8], at: u32, bytes: &[u8], room: u32) -> Result<()> {
    if bytes.len() > room as usize {
        bail!("{} bytes, and there is room for {room}", bytes.len());
    }
    let place = flash.get_mut(at as usize..at as usize + bytes.len()).context("outside the flash")?;
    place.copy_from_slice(bytes);
    Ok(())
}
