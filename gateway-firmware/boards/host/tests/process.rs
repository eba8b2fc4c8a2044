//! The board as a process: how it starts, what it says, how it ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A provisioning file whose listener nobody serves: the port was free a moment ago.
fn provision(folder: &Path) -> PathBuf {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let file = folder.join("provision.json");
    let content = serde_json::json!({
        "enroll_address": address.to_string(),
        "server_ca_pem": certificate.pem(),
        "claim_certificate_pem": certificate.pem(),
        "claim_key_pem": key.serialize_pem(),
        "root_key_hashes": ["ab".repeat(32)],
        "board": "host",
    });
    std::fs::write(&file, content.to_string()).unwrap();
    file
}

fn board(provision: &Path, state: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_board-host"));
    command.arg("--provision").arg(provision).arg("--state").arg(state).arg("--json").args(extra);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn first_line(child: &mut Child) -> serde_json::Value {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn terminate(mut child: Child) -> Option<i32> {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    child.wait().unwrap().code()
}

#[test]
fn a_term_signal_ends_many_devices_with_success() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut child =
        board(&provision(folder.path()), &state, &["--count", "20", "--hardware-id", "b"]).spawn().unwrap();
    let started = first_line(&mut child);
    assert_eq!((&started["event"], &started["devices"]), (&"started".into(), &20.into()));
    assert_eq!(terminate(child), Some(0));
}

#[test]
fn a_board_keeps_the_name_it_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (provision(folder.path()), folder.path().join("state"));
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut child = board(&file, &state, &["--geometry", "8192/16"]).spawn().unwrap();
        first_line(&mut child);
        assert_eq!(terminate(child), Some(0));
        names.push(std::fs::read_to_string(state.join("hardware-id")).unwrap());
    }
    assert!(names[0].starts_with("host-"));
    assert_eq!(names[0], names[1]);
}

#[test]
fn what_is_wrong_with_the_start_is_said_and_the_exit_code_is_not_zero() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (provision(folder.path()), folder.path().join("state"));
    let long = "x".repeat(65);
    for (file, extra, word) in [
        (folder.path().join("nowhere.json"), vec![], "nowhere.json"),
        (file.clone(), vec!["--hardware-id", "no spaces"], "hardware id"),
        (file.clone(), vec!["--hardware-id", &long], "hardware id"),
        (file.clone(), vec!["--geometry", "1/1"], "geometry"),
        (file.clone(), vec!["--count", "0"], "count"),
    ] {
        let output = board(&file, &state, &extra).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(word), "{word}: {said}");
    }
}
