//! The directions between crates and modules, held by parsing every manifest and every `use` and path of the workspace.
//!
//! Each rule has a fixture, `tests/fixtures/architecture/RULE/`: a small tree in which every file with `breaks` in its path breaks
//! that rule in another way, and no other file breaks any. So a rule that stopped seeing anything fails here too.

mod crates;
mod docs;
mod modules;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One place that goes against a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    rule: &'static str,
    /// Relative to the root that was checked.
    file: PathBuf,
    what: String,
}

/// Every rule there is.
fn rules() -> BTreeSet<&'static str> {
    crates::RULES.into_iter().chain(modules::RULES).collect()
}

fn check(root: &Path) -> Vec<Violation> {
    let packages = crates::packages(root);
    let mut violations = crates::check(&packages);
    violations.extend(modules::check(&packages));
    for violation in &mut violations {
        violation.file = violation.file.strip_prefix(root).unwrap_or(&violation.file).to_path_buf();
    }
    violations.sort();
    violations.dedup();
    violations
}

fn fixtures() -> PathBuf {
    dev::root().join("tests/fixtures/architecture")
}

#[test]
fn the_workspace_keeps_every_rule() {
    let violations = check(dev::root());
    let lines: Vec<String> =
        violations.iter().map(|v| format!("{}: {} ({})", v.file.display(), v.what, v.rule)).collect();
    assert!(lines.is_empty(), "{} places break STYLE's directions:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn the_check_sees_every_package_and_every_layer() {
    let packages = crates::packages(dev::root());
    for name in [
        "wire",
        "noise",
        "proto",
        "kit",
        "svc-broker",
        "svc-ota",
        "gateway-core",
        "gateway-link",
        "board-host",
        "abi",
        "chip",
        "microvisor",
        "first",
        "holdfast",
        "dev",
        "scenarios",
    ] {
        assert!(packages.iter().any(|package| package.name == name), "{name} was not found");
    }
    for layer in ["model", "app", "grpc", "link"] {
        let seen = packages
            .iter()
            .filter(|p| p.is_service())
            .flat_map(|p| &p.files)
            .any(|f| f.layer() == Some(layer));
        assert!(seen, "no file of any service lies in {layer}");
    }
}

#[test]
fn a_rule_reports_every_file_that_breaks_it_and_no_other() {
    for rule in rules() {
        let root = fixtures().join(rule);
        let broken: BTreeSet<PathBuf> = files(&root).into_iter().filter(|file| breaks(&root, file)).collect();
        assert!(!broken.is_empty(), "{rule} has no fixture that breaks it");
        let violations = check(&root);
        let by_it = violations.iter().filter(|violation| violation.rule == rule);
        let reported: BTreeSet<PathBuf> = by_it.map(|violation| violation.file.clone()).collect();
        assert_eq!(reported, broken, "{rule}: {violations:#?}");
        // What breaks one rule may break another as well; what keeps them is reported by none.
        assert!(
            violations.iter().all(|violation| broken.contains(&violation.file)),
            "{rule}: {violations:#?}"
        );
    }
}

#[test]
fn every_fixture_belongs_to_a_rule() {
    let entries = std::fs::read_dir(fixtures()).expect("the fixtures");
    let names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let rules = rules();
    for name in names {
        assert!(rules.contains(name.as_str()), "no rule is called {name}");
    }
}

/// A manifest is what breaks only where there is no source beside it.
fn breaks(root: &Path, file: &Path) -> bool {
    let beside_source = file.ends_with("Cargo.toml") && root.join(file).with_file_name("src").is_dir();
    file.to_string_lossy().contains("breaks") && !beside_source
}

/// All files below a folder, relative to it.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.iter().map(|path| path.strip_prefix(root).expect("below the root").to_path_buf()).collect()
}
