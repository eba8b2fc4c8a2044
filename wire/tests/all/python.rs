//! Another language, other libraries, the same page: what we sign is read and verified by Python's cbor2 and pycose, and
//! refused there after any flipped bit. Needs Python 3 with venv; makes the environment itself when there is none.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use wire::directive::{Directive, Order, Target};
use wire::manifest::Component;
use wire::sign::{Signer, sign_directive};

use crate::sample::{self, DEPLOYMENT, DEVICE, NONCE, TENANT, director, release, root, roots};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
const REQUIREMENTS: &str = include_str!("../../../dev/requirements.txt");

#[test]
fn python_verifies_what_we_sign_and_refuses_it_after_any_flipped_bit() {
    let python = python();
    let directory = tempfile::tempdir().expect("a directory");
    write_objects(directory.path());
    let run =
        Command::new(python).arg(format!("{TESTS}/check.py")).arg(directory.path()).output().expect("runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.matches("bits flipped").count(), 3, "{stdout}");
    println!("{stdout}");
}

fn write_objects(directory: &Path) {
    let layers = sample::layers();
    let manifest = sample::manifest(&layers).sign(&release()).expect("signs");
    let target = Target { manifest: manifest.digest, deployment: DEPLOYMENT, component: Component::App };
    let order = Order::Install(target);
    let directive = Directive { device: DEVICE, nonce: NONCE, issued_at_s: 1_790_000_000, order };
    let keyset = sample::keyset(1, roots(2), 2).sign(&[&root(0), &root(1)]).expect("signs");
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).expect("writes");
    write("manifest.suit", &manifest.envelope);
    write("directive.cose", &sign_directive(&directive, &director()).expect("signs"));
    write("keyset.cose", &keyset);
    write("facts.json", facts(&layers, &manifest.digest.to_string()).as_bytes());
}

/// What the objects must say, as JSON.
fn facts(layers: &[Vec<u8>], digest: &str) -> String {
    let layers: Vec<String> = layers.iter().map(|layer| hex(layer)).collect();
    let roots: Vec<String> = roots(2).iter().map(ToString::to_string).collect();
    let (release, director) = (release().public_key(), director().public_key());
    format!(
        r#"{{"release": "{release}", "director": "{director}", "layers": {layers:?},
            "manifest": ["{digest}", "app", "1.2.3", "host", 7, 1790000000],
            "directive": ["{DEVICE}", "{}", 1790000000, "{digest}", "{DEPLOYMENT}", "app"],
            "keyset": ["{TENANT}", 1, {roots:?}, 2, "{director}"]}}"#,
        hex(&NONCE.0)
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The environment named by HOLDFAST_PYTHON, or the one `cargo dev setup` made, or one made here and kept in target/.
fn python() -> PathBuf {
    if let Some(given) = std::env::var_os("HOLDFAST_PYTHON") {
        return interpreter(Path::new(&given));
    }
    let prepared = workspace().join(".dev/python");
    if is_complete(&prepared) {
        return interpreter(&prepared);
    }
    let kept = workspace().join("target/python-venv");
    if !is_complete(&kept) {
        make_environment(&kept);
    }
    interpreter(&kept)
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin/python3")
}

/// Its own copy of the requirements is written last.
fn is_complete(environment: &Path) -> bool {
    std::fs::read_to_string(environment.join("requirements.txt")).is_ok_and(|text| text == REQUIREMENTS)
}

fn make_environment(at: &Path) {
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(at));
    let requirements = workspace().join("dev/requirements.txt");
    run(Command::new(interpreter(at))
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(requirements));
    std::fs::write(at.join("requirements.txt"), REQUIREMENTS).expect("writes");
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
