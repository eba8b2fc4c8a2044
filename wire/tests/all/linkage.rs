//! A device links neither std nor an allocator through this crate.

use std::process::Command;

/// Features that would bring std or alloc, of any crate below `wire` as firmware builds it.
#[test]
fn no_crate_below_wire_has_alloc_or_std_switched_on() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "wire", "--no-default-features"])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}\t{f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("UTF-8");
    assert!(tree.contains("p256 v"), "{tree}");
    for line in tree.lines() {
        let features = line.split('\t').nth(1).unwrap_or_default().trim_end_matches(" (*)");
        let brings = features.split(',').find(|feature| matches!(*feature, "std" | "alloc" | "sign"));
        assert_eq!(brings, None, "{line}");
    }
}

#[test]
fn wire_itself_names_alloc_only_behind_its_feature() {
    let root = include_str!("../../src/lib.rs");
    assert!(root.contains("#![no_std]\n"));
    assert!(root.contains("#[cfg(feature = \"alloc\")]\nextern crate alloc;"));
    assert_eq!(root.matches("extern crate").count(), 1);
}
