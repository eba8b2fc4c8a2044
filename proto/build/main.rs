//! Compiles holdfast/**/*.proto with protox (no protoc on anyone's machine) into prost and tonic code, the descriptor
//! set that reflection serves, the table of who may call what, and what the requests that change something have in common.
//!
//! The build fails when a method does not say who may call it.

#![expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]

mod mutations;
mod table;

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Fields that carry bulk: decoded as `Bytes`, without a copy of each chunk.
const BULK_FIELDS: [&str; 7] = [
    ".holdfast.debug.v1.DebugFrame.data",
    ".holdfast.device.v1.DebugDown.data",
    ".holdfast.device.v1.DebugUp.data",
    ".holdfast.device.v1.LayerDown.data",
    ".holdfast.ota.v1.GetSymbolsResponse.data",
    ".holdfast.ota.v1.UploadSymbolsRequest.data",
    ".holdfast.ota.v1.WriteLayerRequest.data",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed={}", root.join("holdfast").display());
    println!("cargo::rerun-if-changed={}", root.join("build").display());

    let mut files = Vec::new();
    proto_files(&root.join("holdfast"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;

    let pool = compiler.descriptor_pool();
    fs::write(out_dir.join("methods.rs"), table::rust_source(&pool)?)?;
    fs::write(out_dir.join("mutations.rs"), mutations::rust_source(&pool)?)?;
    fs::write(out_dir.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // Maps in the order of their keys: equal messages have equal bytes, which a request's digest relies on.
    let mut builder = tonic_prost_build::configure().emit_rerun_if_changed(false).btree_map(".");
    for field in BULK_FIELDS {
        builder = builder.bytes(field);
    }
    builder.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
