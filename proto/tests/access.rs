//! The build's own check, on .proto files made here: a method that does not say who may call it stops the build.

#[path = "../build/table.rs"]
mod table;

use std::fs;

use prost_reflect::DescriptorPool;

#[expect(clippy::unwrap_used, reason = "a test's own files")]
fn pool_of(method: &str) -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.proto");
    let source = format!(
        "syntax = \"proto3\";\npackage probe.v1;\nimport \"holdfast/auth/v1/auth.proto\";\n\
         message M {{}}\nservice Probe {{ rpc Ask(M) returns (M) {method} }}\n"
    );
    fs::write(&file, source).unwrap();
    let includes = [folder.path(), env!("CARGO_MANIFEST_DIR").as_ref()];
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler.include_imports(true).open_file(&file).unwrap();
    compiler.descriptor_pool()
}

#[test]
fn a_method_without_the_option_fails_the_build_and_is_named() {
    for silent in [";", "{ option (holdfast.auth.v1.access) = ACCESS_UNSPECIFIED; }"] {
        let error = table::rust_source(&pool_of(silent)).unwrap_err();
        assert!(error.starts_with("probe.v1.Probe.Ask does not say who may call it: add `option"), "{error}");
    }
}

#[test]
fn a_method_with_the_option_gets_its_row() {
    let source =
        table::rust_source(&pool_of("{ option (holdfast.auth.v1.access) = ACCESS_DEVELOPER; }")).unwrap();
    assert!(
        source.contains("path: \"/probe.v1.Probe/Ask\", access: Access::Developer, streaming: false"),
        "{source}"
    );
}
