//! What each module of a service may see (STYLE, "Inside a service"), and three rules for all code: who reads the environment, where
//! unsafe code may stand, and what does without the standard library.

use crate::Violation;
use crate::crates::Package;
use crate::source::{File, Named};

pub(crate) const RULES: [&str; 8] = [
    "model-sees-only-wire",
    "app-speaks-no-protocol",
    "edges-never-touch-the-store",
    "only-grpc-sees-tonic",
    "only-link-sees-topics",
    "only-config-reads-the-environment",
    "unsafe-stays-at-the-edge",
    "no-std",
];

/// A list of path prefixes that the files it applies to may not name.
struct Ban {
    rule: &'static str,
    applies: fn(&Package, &File) -> bool,
    paths: &'static [&'static str],
}

const BANS: &[Ban] = &[
    Ban {
        rule: "model-sees-only-wire",
        applies: |package, file| package.is_service() && file.layer() == Some("model"),
        paths: &[
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "SystemTime::now",
            "Instant::now",
        ],
    },
    Ban {
        rule: "app-speaks-no-protocol",
        applies: |package, file| package.is_service() && file.layer() == Some("app"),
        paths: &[
            "proto",
            "prost",
            "tonic",
            "tonic_types",
            "rumqttc",
            "rumqttd",
            "kit::mqtt",
            "kit::serve",
            "wire::topic",
            "wire::Topic",
            "wire::msg",
            "crate::grpc",
            "crate::link",
        ],
    },
    Ban {
        rule: "edges-never-touch-the-store",
        applies: |package, file| package.is_service() && matches!(file.layer(), Some("grpc" | "link")),
        paths: &[
            "crate::store",
            "kit::pg",
            "kit::redis",
            "tokio_postgres",
            "deadpool_postgres",
            "redis",
            "s3",
        ],
    },
    Ban {
        rule: "only-grpc-sees-tonic",
        applies: |package, file| {
            // The crate's root files put the parts together; the error type has the one conversion to a status.
            package.is_service() && !is_wiring(file) && !matches!(file.layer(), Some("grpc" | "error"))
        },
        paths: &["tonic", "tonic_types"],
    },
    Ban {
        rule: "only-link-sees-topics",
        applies: |package, file| {
            // The broker's model decides about topics: they are its subject.
            let subject = package.name == "svc-broker" && file.layer() == Some("model");
            package.is_service() && !is_wiring(file) && file.layer() != Some("link") && !subject
        },
        paths: &["wire::topic", "wire::Topic", "wire::rule", "kit::mqtt", "rumqttc", "rumqttd"],
    },
    Ban {
        rule: "only-config-reads-the-environment",
        applies: |package, file| {
            let is_config = file.path.file_name().is_some_and(|name| name == "config.rs");
            // The harness and the scenarios are tools, not services.
            file.in_src && !is_config && !matches!(package.name.as_str(), "dev" | "scenarios")
        },
        paths: &[
            "std::env::var",
            "std::env::vars",
            "std::env::var_os",
            "std::env::vars_os",
            "env::var",
            "env::vars",
            "env::var_os",
            "env::vars_os",
        ],
    },
    Ban {
        rule: "no-std",
        applies: |package, file| file.in_src && has_no_std(package),
        paths: &["std", "tokio"],
    },
];

/// Crates that a model may use: what the wire says, and data types without a world around them.
const MODEL_CRATES: [&str; 6] = ["wire", "core", "alloc", "std", "bytes", "thiserror"];

/// Root files of a service that put its parts together.
fn is_wiring(file: &File) -> bool {
    !file.in_src
        || file.module.is_empty()
        || (file.module.len() == 1 && matches!(file.layer(), Some("build" | "service" | "ready")))
}

fn has_no_std(package: &Package) -> bool {
    matches!(package.name.as_str(), "wire" | "noise" | "gateway-core")
}

pub(crate) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        for file in &package.files {
            for ban in BANS.iter().filter(|ban| (ban.applies)(package, file)) {
                let wrong =
                    file.named.iter().filter(|named| ban.paths.iter().any(|path| reaches(named, path)));
                violations.extend(wrong.map(|named| violation(ban.rule, file, named.path.join("::"))));
            }
            violations.extend(model(package, file));
            violations.extend(unsafe_code(package, file));
            if has_no_std(package) && file.is_crate_root() && !file.no_std {
                violations.push(violation("no-std", file, "#![no_std] is missing".to_owned()));
            }
        }
    }
    violations
}

/// A model is pure: no crate but those of plain data, no other module of the service, nothing asynchronous.
fn model(package: &Package, file: &File) -> Vec<Violation> {
    let rule = "model-sees-only-wire";
    if !package.is_service() || !file.in_src || file.layer() != Some("model") {
        return Vec::new();
    }
    let externs = package.extern_crates();
    let foreign = |named: &&Named| match &named.path[..] {
        [first, second, ..] if first == "crate" => second != "model",
        [first, ..] => {
            first == "crate" || (externs.contains(first) && !MODEL_CRATES.contains(&first.as_str()))
        }
        [] => false,
    };
    let mut wrong: Vec<Violation> =
        file.named.iter().filter(foreign).map(|named| violation(rule, file, named.path.join("::"))).collect();
    if file.asynchronous {
        wrong.push(violation(rule, file, "asynchronous code".to_owned()));
    }
    wrong
}

fn unsafe_code(package: &Package, file: &File) -> Vec<Violation> {
    // Applications have registers of their own to use; that nothing they do matters is what the walls are for.
    let edges = ["boards", "sdk", "apps"];
    let at_the_edge = package.dir.components().any(|part| part.as_os_str() == "gateway-firmware")
        && package.dir.components().any(|part| edges.iter().any(|edge| part.as_os_str() == *edge));
    if at_the_edge {
        return Vec::new();
    }
    file.unsafe_code.iter().map(|what| violation("unsafe-stays-at-the-edge", file, what.clone())).collect()
}

/// Whether a path is the banned one, lies below it, or opens something that holds it.
fn reaches(named: &Named, banned: &str) -> bool {
    let banned: Vec<&str> = banned.split("::").collect();
    let same = named.path.iter().zip(&banned).all(|(a, b)| a == b);
    same && (named.path.len() >= banned.len() || named.opens)
}

fn violation(rule: &'static str, file: &File, what: String) -> Violation {
    Violation { rule, file: file.path.clone(), what }
}
