//! Which crate may depend on which (STYLE, "Crate directions"), read from the manifests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::Violation;
use crate::source::{self, File};

pub(crate) const RULES: [&str; 2] = ["crate-directions", "firmware-without-runtime"];

/// What each of our packages may depend on, of ours. What is not listed may not.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("noise", &["wire"]),
    ("proto", &["wire"]),
    ("kit", &["proto", "wire"]),
    ("svc-", &["kit", "proto", "wire"]),
    ("holdfast", &["factory", "noise", "proto", "wire"]),
    (SDK, &["abi"]),
    ("gateway-core", &["noise", "wire"]),
    ("gateway-link", &["gateway-core", "wire"]),
    ("board-", &["gateway-core", "gateway-link", "wire"]),
    ("chip", &["gateway-core"]),
    ("boot", &["chip", "gateway-core", "wire"]),
    ("factory", &["chip", "gateway-core", "wire"]),
    ("abi", &[]),
    ("microvisor", &["abi", "chip", "gateway-core", "gateway-link", "wire"]),
    (APPS, &["abi", "holdfast"]),
    ("probe", &["abi", "holdfast"]),
    ("dev", &[]),
    ("scenarios", &["abi", "dev", "wire", "noise", "proto", "kit", "gateway-core", "factory"]),
];

/// The crate an application links against. It has the name of the command line, which no application ever meets.
const SDK: &str = "gateway-firmware/sdk";

/// Every application: it knows what it links against.
const APPS: &str = "gateway-firmware/apps";

/// The tests of these may use the harness, which runs binaries and knows no other crate.
const TESTED_WITH_HARNESS: &[&str] = &["kit", "svc-", "holdfast", "board-"];

/// What the hardware-free core may not depend on: it has no runtime and no standard library.
const RUNTIMES: &[&str] = &["tokio", "futures", "async-std", "rustls", "anyhow"];

/// One package: its manifest and every source file.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    manifest: Table,
    pub(crate) files: Vec<File>,
}

impl Package {
    pub(crate) fn is_service(&self) -> bool {
        self.name.starts_with("svc-")
    }

    /// Its name in [`DIRECTIONS`].
    fn role(&self) -> &str {
        let lies_in = |folder| self.dir.parent().is_some_and(|dir| dir.ends_with(folder));
        if self.name == "holdfast" && lies_in(SDK) {
            SDK
        } else if lies_in(APPS) {
            APPS
        } else {
            &self.name
        }
    }

    /// The packages of one kind of dependency, by the name they are published under.
    fn dependencies(&self, section: &str) -> Vec<String> {
        let targets = self.manifest.get("target").and_then(Value::as_table);
        let of_targets = targets.into_iter().flat_map(|t| t.values()).filter_map(Value::as_table);
        std::iter::once(&self.manifest)
            .chain(of_targets)
            .filter_map(|table| table.get(section)?.as_table())
            .flatten()
            .map(|(key, value)| value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned())
            .collect()
    }

    /// Every crate a path of this package may begin with, as it is written in Rust.
    pub(crate) fn extern_crates(&self) -> BTreeSet<String> {
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        let mut names: BTreeSet<String> = sections
            .iter()
            .filter_map(|s| self.manifest.get(*s)?.as_table())
            .flat_map(|t| t.keys())
            .cloned()
            .collect();
        names.extend(["std", "core", "alloc"].map(str::to_owned));
        names.into_iter().map(|name| name.replace('-', "_")).collect()
    }
}

/// Every package below a root, sources parsed.
pub(crate) fn packages(root: &Path) -> Vec<Package> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder != root && is_outside(&folder) {
            continue;
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.extend(entries.filter(|path| path.is_dir()));
        let manifest = folder.join("Cargo.toml");
        if manifest.is_file() {
            found.extend(package(&manifest));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Builds, state, and the fixtures, which are wrong on purpose.
fn is_outside(folder: &Path) -> bool {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name == "target" || name == "fixtures" || name.starts_with('.')
}

fn package(manifest: &Path) -> Option<Package> {
    let text = std::fs::read_to_string(manifest).expect("a manifest that was just listed");
    let table: Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    let name = table.get("package")?.get("name")?.as_str()?.to_owned();
    let dir = manifest.parent().expect("a manifest lies in a folder").to_path_buf();
    Some(Package { name, files: source::files(&dir), dir, manifest: table })
}

pub(crate) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        violations.extend(directions(package));
        if package.name == "gateway-core" {
            violations.extend(runtimes(package));
        }
    }
    violations
}

fn directions(package: &Package) -> Vec<Violation> {
    let rule = "crate-directions";
    let file = package.dir.join("Cargo.toml");
    let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| matches(package.role(), name)) else {
        let what = format!("`{}` has no place in STYLE's crate directions", package.name);
        return vec![Violation { rule, file, what }];
    };
    let mut wrong = Vec::new();
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let harness = section == "dev-dependencies"
            && TESTED_WITH_HARNESS.iter().any(|name| matches(&package.name, name));
        for dependency in package.dependencies(section) {
            let ours = DIRECTIONS.iter().any(|(name, _)| matches(&dependency, name));
            let may = allowed.contains(&dependency.as_str())
                || (section == "dev-dependencies" && dependency == package.name)
                || (harness && dependency == "dev");
            if ours && !may {
                wrong.push(format!("`{}` may not depend on `{dependency}` ({section})", package.name));
            }
        }
    }
    wrong.into_iter().map(|what| Violation { rule, file: file.clone(), what }).collect()
}

fn runtimes(package: &Package) -> Vec<Violation> {
    let dependencies =
        package.dependencies("dependencies").into_iter().chain(package.dependencies("build-dependencies"));
    dependencies
        .filter(|dependency| RUNTIMES.contains(&dependency.as_str()))
        .map(|dependency| Violation {
            rule: "firmware-without-runtime",
            file: package.dir.join("Cargo.toml"),
            what: format!("the core depends on `{dependency}`"),
        })
        .collect()
}

/// Names that end in a dash are families.
fn matches(name: &str, pattern: &str) -> bool {
    name == pattern || (pattern.ends_with('-') && name.starts_with(pattern))
}
