//! The .proto files keep buf's rules and what was promised to clients, and a change that breaks either is seen.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::path::Path;

use dev::protos;

/// The .proto files and buf.yaml in a folder of their own.
fn copy() -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(&protos::folder().join("holdfast"), &to.path().join("holdfast"));
    fs::copy(protos::folder().join("buf.yaml"), to.path().join("buf.yaml")).unwrap();
    to
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        match path.is_dir() {
            true => copy_into(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn change(folder: &Path, file: &str, from: &str, to: &str) {
    let file = folder.join(file);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{} no longer says {from}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn the_proto_files_are_clean_and_keep_what_was_promised() {
    let nothing: [String; 0] = [];
    assert_eq!(protos::lint(&protos::folder()).unwrap(), nothing);
    let broken = protos::breaking(&protos::folder(), &protos::baseline()).unwrap();
    assert_eq!(broken, nothing, "if it is meant: `cargo dev proto baseline`");
}

#[test]
fn a_renamed_field_a_removed_method_and_a_device_message_that_changes_are_breaks() {
    let device = "holdfast/registry/v1/device.proto";
    for (file, from, to, said) in [
        (device, "string hardware_id =", "string serial =", "hardware_id"),
        (device, "rpc GetDevice(", "rpc FetchDevice(", "GetDevice"),
        ("holdfast/device/v1/device.proto", "uint64 sequence =", "uint32 sequence =", "sequence"),
    ] {
        let folder = copy();
        change(folder.path(), file, from, to);
        let found = protos::breaking(folder.path(), &protos::baseline()).unwrap();
        assert!(found.iter().any(|line| line.contains(file) && line.contains(said)), "{from}: {found:?}");
    }
}

#[test]
fn a_new_field_breaks_nothing_and_a_renewed_baseline_takes_a_break() {
    let folder = copy();
    let device = "holdfast/registry/v1/device.proto";
    change(folder.path(), device, "message Device {", "message Device {\n  string colour = 500;");
    let nothing: [String; 0] = [];
    assert_eq!(protos::breaking(folder.path(), &protos::baseline()).unwrap(), nothing);

    change(folder.path(), device, "string hardware_id =", "string serial =");
    let renewed = folder.path().join("renewed.binpb");
    protos::renew(folder.path(), &renewed).unwrap();
    assert_eq!(protos::breaking(folder.path(), &renewed).unwrap(), nothing);
}

#[test]
fn a_name_against_the_rules_is_found_and_what_does_not_compile_is_an_error() {
    let folder = copy();
    let device = "holdfast/registry/v1/device.proto";
    change(folder.path(), device, "message Device {", "message Device {\n  string badName = 500;");
    let found = protos::lint(folder.path()).unwrap();
    assert!(found.len() == 1 && found[0].contains("badName"), "{found:?}");
    change(folder.path(), device, "message Device {", "message Device {{");
    assert!(protos::renew(folder.path(), &folder.path().join("none.binpb")).is_err());
}
