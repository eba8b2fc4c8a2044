//! A flash as the factory makes it, damaged in every part: what the first stage and `inspect` say to it.

mod material;

use std::os::unix::fs::PermissionsExt as _;

use chip::map::secure::{MICROVISOR_AT, MICROVISOR_BYTES, RAM_AT};
use factory::image::{Image, Spec};
use factory::inspect::describe;
use factory::memory::Region;
use factory::provision::{Host, Provision};
use factory::{Error, map};
use gateway_core::boot::first::Record;
use gateway_core::commission::make::Role;
use material::{bundle, certificate, keyset, keyset_of, provision_json, signed_bundle};
use wire::keyset::KeysetError;
use wire::manifest::{Component, Version};
use wire::msg::UpdateReason;
use wire::sign::ManifestSpec;

/// When boards are made here.
const NOW_S: u64 = 1_800_000_000;

/// Three blocks that begin as an image does.
fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..40_000_u32).map(|at| (at / 7) as u8).collect();
    image[..4].copy_from_slice(&(RAM_AT + 0x1000).to_le_bytes());
    image[4..8].copy_from_slice(&(MICROVISOR_AT + 0x401).to_le_bytes());
    image
}

/// Whatever a board is made of.
struct Inputs {
    provision: String,
    hardware_id: String,
    hosts: Vec<Host>,
    keyset: Vec<u8>,
    microvisor: Vec<u8>,
    app: Option<Vec<u8>>,
    test: Option<Vec<u8>>,
}

impl Inputs {
    /// Good ones, without applications.
    fn new() -> Inputs {
        Inputs {
            provision: provision_json(),
            hardware_id: "an505-7".to_owned(),
            hosts: vec!["broker.test=10.0.2.2".parse().expect("a host")],
            keyset: keyset(),
            microvisor: bundle(&image(), |_| {}),
            app: None,
            test: None,
        }
    }

    fn build(&self) -> factory::Result<Image> {
        let provision = Provision::parse(&self.provision)?;
        let spec = Spec {
            provision: &provision,
            hosts: &self.hosts,
            keyset: &self.keyset,
            microvisor: &self.microvisor,
            app: self.app.as_deref(),
            test: self.test.as_deref(),
            now_s: NOW_S,
        };
        spec.prepare()?.board(&self.hardware_id)
    }
}

/// An application that a board takes, unless `change` makes it another.
fn application(image: &[u8], change: impl FnOnce(&mut ManifestSpec<'_>)) -> Vec<u8> {
    signed_bundle(image, Component::App, 5, change)
}

fn build(keyset: &[u8], microvisor: &[u8]) -> factory::Result<Image> {
    Inputs { keyset: keyset.to_vec(), microvisor: microvisor.to_vec(), ..Inputs::new() }.build()
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
    assert_eq!(said["slots"]["b"]["verdict"], "runs", "both slots are filled");
    assert!(!said.to_string().contains(&"09".repeat(32)), "the claim key");
    let store = &said["store"];
    assert_eq!((&store["stage"], &store["keyset_version"]), (&"production".into(), &1.into()));
    assert!(store["applications"].as_array().expect("a list").is_empty());
}

#[test]
fn the_file_is_as_long_as_qemu_insists_and_blank_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flash.bin");
    let board = Inputs::new().build().unwrap();
    board.write(&path, false).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len(), map::BYTES as usize);
    let record = map::BOOT_RECORD as usize..map::SLOTS[0] as usize;
    assert!(file[record].iter().all(|byte| *byte == 0xff));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds the claim's key");
    assert!(matches!(board.write(&path, false), Err(Error::Exists { .. })));
    board.write(&path, true).unwrap();
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
    assert_eq!(verdict(flipped(slot + map::SLOT_KEYSET + 600)), "keyset_unsigned");
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
    assert!(refused(b"no keyset", &good).contains("--keyset"));
    assert!(refused(&keyset(), b"no bundle").contains("microvisor"));
}

#[test]
fn a_board_comes_with_its_first_application_and_a_test() {
    let (app, test) = (application(&[1; 50_000], |_| {}), application(&[2; 20_000], |_| {}));
    let inputs = Inputs { app: Some(app), test: Some(test), ..Inputs::new() };
    let said = describe(inputs.build().expect("a good board").bytes()).expect("long enough");
    let store = &said["store"];
    assert_eq!((&store["stage"], &store["health"]), (&"testing".into(), &"sound".into()));
    let first = &store["applications"][0];
    assert_eq!((&first["status"], &first["version"]), (&"confirmed".into(), &"1.2.3".into()));
    assert_ne!(store["test_manifest"], first["manifest"]);
    assert_eq!(said["slots"]["a"]["verdict"], "runs");
}

/// Why a board of these inputs is none.
fn refused(change: impl FnOnce(&mut Inputs)) -> Error {
    let mut inputs = Inputs::new();
    change(&mut inputs);
    inputs.build().expect_err("it is refused")
}

#[test]
fn an_application_that_a_board_would_refuse_is_not_put_into_one() {
    let at = |change: fn(&mut ManifestSpec<'_>)| application(&[1; 100], change);
    let cases = [
        (at(|spec| spec.board = "host".to_owned()), UpdateReason::WrongBoard),
        (
            at(|spec| spec.microvisor_min = Version { major: 1, minor: 2, patch: 4 }),
            UpdateReason::MicrovisorTooOld,
        ),
        (at(|spec| spec.area_bytes = Some(1024 * 1024 + 16 * 1024)), UpdateReason::TooLarge),
        (signed_bundle(&[1; 100], Component::App, 6, |_| {}), UpdateReason::UnknownKey),
        (signed_bundle(&[1; 100], Component::App, 3, |_| {}), UpdateReason::UnknownKey),
        (bundle(&image(), |_| {}), UpdateReason::WrongComponent),
    ];
    for (file, reason) in cases {
        for role in [Role::First, Role::Test] {
            let error = refused(|inputs| match role {
                Role::First => inputs.app = Some(file.clone()),
                Role::Test => inputs.test = Some(file.clone()),
            });
            assert!(matches!(error, Error::Application(at, why) if (at, why) == (role, reason)), "{error}");
        }
    }
    let mut torn = application(&[1; 100], |_| {});
    torn.pop();
    let error = refused(|inputs| inputs.test = Some(torn));
    assert!(matches!(error, Error::Bundle { what: "--test", .. }), "{error}");
}

#[test]
fn what_belongs_to_another_tenant_or_board_or_time_is_refused() {
    let error = refused(|inputs| inputs.keyset = keyset_of([6, 7]));
    assert!(matches!(error, Error::Keyset(KeysetError::Threshold)), "{error}");
    let with = |field: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&provision_json()).expect("JSON");
        json[field] = value;
        refused(|inputs| inputs.provision = json.to_string())
    };
    let error = with("board", "host".into());
    assert!(matches!(&error, Error::Board { found, .. } if found == "host"), "{error}");
    let error = with("claim_certificate_pem", certificate(9, 2020).into());
    assert!(matches!(error, Error::ClaimEnded { .. }), "{error}");
    let error = with("claim_certificate_pem", certificate(8, 2100).into());
    assert!(error.to_string().contains("claim_key_pem"), "{error}");
    let error = with("claim_key_pem", "no key".into());
    assert!(error.to_string().contains("claim_key_pem"), "{error}");
    let both = certificate(8, 2100) + &certificate(9, 2100);
    assert!(with("server_ca_pem", both.into()).to_string().contains("more than one certificate"));
    assert!(with("root_threshold", 3.into()).to_string().contains("root threshold"));
    assert!(matches!(refused(|inputs| inputs.provision = "{}".to_owned()), Error::Json(_)));
    for id in ["", "a b", &"x".repeat(65)] {
        let error = refused(|inputs| inputs.hardware_id = id.to_owned());
        assert!(matches!(error, Error::HardwareId { .. }), "{error}");
    }
    let error = refused(|inputs| inputs.hosts = vec!["a=10.0.0.1".parse().expect("a host"); 5]);
    assert!(matches!(error, Error::Host(_)), "{error}");
    for host in ["a", "a=b", "=10.0.0.1"] {
        assert!(matches!(host.parse::<Host>(), Err(Error::Host(_))), "{host}");
    }
    assert!(!format!("{:?}", Provision::parse(&provision_json())).contains("PRIVATE"));
}
