//! Hands the linker this package's script.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/boot.ld");
    println!("cargo:rustc-link-arg=-T{script}");
    // Functions that are alike are one.
    println!("cargo:rustc-link-arg=--icf=all");
    println!("cargo:rerun-if-changed={script}");
}
