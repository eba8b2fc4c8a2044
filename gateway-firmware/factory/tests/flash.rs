//! A flash as the factory makes it, damaged in every part: what the first stage and `inspect` say to it.

mod material;

use chip::map::secure::{MICROVISOR_AT, MICROVISOR_BYTES, RAM_AT};
use factory::image::{Image, Spec};
use factory::inspect::describe;
use factory::map;
use factory::memory::Region;
use factory::provision::{Host, Provision};
use gateway_core::boot::first::Record;
use material::{bundle, keyset, provision_json};
use wire::manifest::Component;

/// Three blocks that begin as an image does.
fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..40_000_u32).map(|at| (at / 7) as u8).collect();
    image[..4].copy_from_slice(&(RAM_AT + 0x1000).to_le_bytes());
    image[4..8].copy_from_slice(&(MICROVISOR_AT + 0x401).to_le_bytes());
    image
}

fn build(keyset: &[u8], microvisor: &[u8]) -> anyhow::Result<Image> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("provision.json");
    std::fs::write(&path, provision_json())?;
    let hosts: Vec<Host> = vec!["broker.test=10.0.2.2".parse()?];
    let provision = Provision::read(&path)?;
    Spec { provision: &provision, hardware_id: "an505-7", hosts: &hosts, keyset, microvisor }.build()
}

fn made() -> Vec<u8> {
    build(&keyset(), &bundle(&image(), |_| {})).expect("a good board").bytes().to_vec()
}

#[test]
fn a_board_is_made_and_says_what_it_is_without_its_secret() {
    let flash = made();
    let said = describe(&flash).expect("long enough");
    assert_eq!(said["provision"]["hardware_id"], "an505-7");
    assert_eq!(said["provision"]["hosts"][0], "broker.test=10.0.2.2");
    assert_eq!(said["provision"]["whole_copies"], 2);
    assert_eq!(said["boot_record"]["health"], "blank");
    assert_eq!((&said["identity"]["health"], &said["counter"]["floor"]), (&"blank".into(), &0.into()));
    assert_eq!(said["slots"]["a"]["verdict"], "runs");
    assert_eq!(said["slots"]["a"]["manifest"]["version"], "1.2.3");
    assert_eq!(said["slots"]["b"]["verdict"], "blank");
    assert!(!said.to_string().contains(&"09".repeat(32)), "the claim key");
}

#[test]
fn the_file_is_as_long_as_qemu_insists_and_blank_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flash.bin");
    build(&keyset(), &bundle(&image(), |_| {})).unwrap().write(&path).unwrap();
    let file = std::fs::read(path).unwrap();
    assert_eq!(file.len(), map::BYTES as usize);
    let store = map::STORE as usize..(map::STORE + map::STORE_BYTES) as usize;
    assert!(file[store].iter().all(|byte| *byte == 0xff));
}

/// Changes a good flash; what `inspect` then says of slot A.
fn verdict(change: impl FnOnce(&mut [u8])) -> String {
    let mut flash = made();
    change(&mut flash);
    let said = describe(&flash).expect("long enough");
    said["slots"]["a"]["verdict"].as_str().expect("text").to_owned()
}

fn flipped(at: u32) -> impl FnOnce(&mut [u8]) {
    move |flash| flash[at as usize] ^= 1
}

#[test]
fn damage_in_every_part_of_a_slot_is_refused_by_name() {
    let slot = map::SLOTS[0];
    assert_eq!(verdict(flipped(slot + map::SLOT_KEYSET + 300)), "keyset_unsigned");
    assert_eq!(verdict(flipped(slot + map::SLOT_KEYSET)), "keyset_malformed");
    assert_eq!(verdict(flipped(slot + map::SLOT_ENVELOPE + 250)), "manifest_malformed");
    for at in [0, 20_000, 39_999, 40_000, 49_151] {
        assert_eq!(verdict(flipped(slot + map::SLOT_IMAGE + at)), "digest_mismatch", "image byte {at}");
    }
    assert_eq!(
        verdict(flipped(slot + map::SLOT_IMAGE + 49_152)),
        "runs",
        "behind the area nothing is measured"
    );
    assert_eq!(verdict(flipped(map::PROVISION + 100)), "runs", "the other copy is whole");
    let both = |flash: &mut [u8]| {
        flipped(map::PROVISION + 100)(flash);
        flipped(map::PROVISION + map::PROVISION_BYTES / 2 + 100)(flash);
    };
    assert_eq!(verdict(both), "provisioning damaged");
}

#[test]
fn a_record_that_forbids_the_version_is_obeyed() {
    let with = |record: Record| {
        move |flash: &mut [u8]| {
            let mut region = Region::new(flash, map::BOOT_RECORD, map::BOOT_RECORD_BYTES).unwrap();
            record.write(&mut region).unwrap();
        }
    };
    assert_eq!(verdict(with(Record::default().raise_floor(5))), "runs");
    assert_eq!(verdict(with(Record::default().raise_floor(6))), "below_floor");
    assert_eq!(verdict(with(Record { revoked: 1, ..Record::default() })), "keyset_unsigned");
}

#[test]
fn a_microvisor_that_would_not_start_makes_no_board() {
    let refused = |keyset: &[u8], bundle: &[u8]| build(keyset, bundle).unwrap_err().to_string();
    let good = bundle(&image(), |_| {});
    let component = bundle(&image(), |spec| spec.component = Component::App);
    assert!(refused(&keyset(), &component).contains("key_scope"));
    let board = bundle(&image(), |spec| spec.board = "host".to_owned());
    assert!(refused(&keyset(), &board).contains("key_scope"));
    assert!(refused(&keyset(), &bundle(&[0; 100], |_| {})).contains("no_entry"));
    let large = bundle(&image(), |spec| spec.area_bytes = Some(MICROVISOR_BYTES + 16 * 1024));
    assert!(refused(&keyset(), &large).contains("too_large"));
    assert!(refused(b"no keyset", &good).contains("keyset_malformed"));
    assert!(refused(&keyset(), b"no bundle").contains("microvisor"));
}
