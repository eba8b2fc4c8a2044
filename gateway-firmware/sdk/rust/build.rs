//! Lets an application link by `-Tholdfast.ld` (its own build script says so: see `apps/first`).

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells a build script where to write by the environment"
    )]
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("holdfast.ld", out.join("holdfast.ld")).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=holdfast.ld");
}
