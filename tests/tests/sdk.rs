//! What applications in C are written against: the header, beside the table the gateway is made from.
//!
//! The header is compiled by the compiler applications are built with: what it says of sizes, offsets and numbers is what counts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use abi::{CALLS, Kind, Parameter};
use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Removed from the ancestor's last header; its slot stays.
const UNDECLARED: &str = "mvTemporaryStructTest";

fn sdk() -> PathBuf {
    dev::root().join("gateway-firmware/sdk/c")
}

fn header() -> Result<String> {
    let read = |name: &str| std::fs::read_to_string(sdk().join(name)).context("reading the header");
    Ok(read("holdfast.h")? + &read("holdfast_later.h")?)
}

/// Compiles for the board as strictly as applications are.
fn compile(source: &Path) -> Result<()> {
    let folder = TempDir::new()?;
    let mut gcc = Command::new(dev::program("arm-none-eabi-gcc")?);
    gcc.args([
        "-mcpu=cortex-m33+nofp",
        "-mthumb",
        "-std=c11",
        "-ffreestanding",
        "-Os",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
    ]);
    gcc.arg("-I").arg(sdk()).arg("-c").arg(source).arg("-o").arg(folder.path().join("object"));
    let output = gcc.output().context("starting arm-none-eabi-gcc")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sdk").join(name)
}

#[test]
fn a_source_written_for_the_ancestor_compiles_against_our_header() -> Result<()> {
    let source = fixture("ancestor.c");
    let text = std::fs::read_to_string(&source)?;
    for call in CALLS.iter().filter(|call| call.works || call.tests) {
        ensure!(text.contains(&format!("{}(", call.name)), "it does not use {}", call.name);
    }
    compile(&source)
}

#[test]
fn every_number_is_the_ancestors() -> Result<()> {
    compile(&fixture("numbers.c"))
}

#[test]
fn calls_have_the_slots_and_parameters_of_the_table() -> Result<()> {
    let stubs = std::fs::read_to_string(sdk().join("holdfast_calls.S"))?;
    ensure!(
        stubs.contains("GATEWAY_AT, 0x10010400") && stubs.contains("SLOT_BYTES, 8") && abi::SLOT_BYTES == 8
    );
    let mut stubs: Vec<(&str, u8)> = stubs
        .lines()
        .filter_map(|line| line.trim().strip_prefix("call ")?.split_once(", "))
        .map(|(name, slot)| Ok((name, slot.parse()?)))
        .collect::<Result<_>>()?;
    stubs.sort_by_key(|(_, slot)| *slot);
    ensure!(stubs == CALLS.iter().map(|call| (call.name, call.slot)).collect::<Vec<_>>(), "{stubs:?}");

    let header = header()?.split_whitespace().collect::<Vec<_>>().join(" ");
    for call in CALLS.iter().filter(|call| call.name != UNDECLARED) {
        let from = header.split_once(&format!("enum MvStatus {}(", call.name));
        let (_, rest) = from.with_context(|| format!("{} is not declared", call.name))?;
        let declared = rest.split(')').next().unwrap_or_default();
        let declared: Vec<&str> = declared.split(", ").filter(|one| *one != "void").collect();
        let right = declared.len() == call.parameters.len()
            && declared.iter().zip(call.parameters).all(|(text, parameter)| fits(text, parameter));
        ensure!(right, "{}({})", call.name, declared.join(", "));
    }
    Ok(())
}

fn fits(declared: &str, parameter: &Parameter) -> bool {
    let kind = match parameter.kind {
        Kind::Pointer(_) => declared.contains('*'),
        Kind::Narrow16 => declared.starts_with("uint16_t "),
        Kind::Value => !declared.contains('*') && !declared.starts_with("uint16_t "),
    };
    kind && declared.ends_with(parameter.name)
}

#[test]
fn structures_and_statuses_lie_as_the_gateway_reads_them() -> Result<()> {
    let folder = TempDir::new()?;
    let source = folder.path().join("layout.c");
    let mut text = String::from("#include <stddef.h>\n#include \"holdfast.h\"\n");
    let structures = include_str!("../../gateway-firmware/abi/src/structures.rs");
    let (_, structures) = structures.split_once("\nstructures! {").context("no table of structures")?;
    let (mut sizes, mut count) = (Vec::<(String, u32, u32)>::new(), 0);
    for one in structures.split(';').filter(|one| one.contains('{')) {
        let (name, rest) = one.trim().split_once(" {").context("no name")?;
        let (fields, bytes) = rest.rsplit_once("} = ").context("no size")?;
        let (mut at, mut align) = (0, 1);
        for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (field, kind) = field.split_once(": ").context("no kind")?;
            let (size, aligned) = measure(kind, &sizes)?;
            at = u32::next_multiple_of(at, aligned);
            align = align.max(aligned);
            let inner = if fields.contains(" version: ") && field != "version" { "v1." } else { "" };
            writeln!(
                text,
                "_Static_assert(offsetof(struct Mv{name}, {inner}{field}) == {at}, \"{name}.{field}\");"
            )?;
            at += size;
        }
        let bytes: u32 = bytes.trim().parse()?;
        writeln!(
            text,
            "_Static_assert(sizeof(Mv{name}) == {bytes} && _Alignof(Mv{name}) == {align}, \"{name}\");"
        )?;
        sizes.push((name.to_owned(), bytes, align));
        count += 1;
    }
    ensure!(count > 30, "{count} structures were found");
    for code in 0.. {
        let Some(status) = abi::Status::from_code(code) else { break };
        let name = format!("{status:?}").to_uppercase();
        writeln!(text, "_Static_assert(MV_STATUS_{name} == {code}, \"{name}\");")?;
    }
    for (name, number) in [
        ("MV_DEVICE_ID_BYTES", abi::DEVICE_ID_BYTES),
        ("MV_LOG_MESSAGE_BYTES_MAX", abi::LOG_MESSAGE_BYTES_MAX),
        ("MV_LOG_BUFFER_BYTES_MAX", abi::LOG_BUFFER_BYTES_MAX as usize),
        ("MV_LOG_BUFFER_UNIT_BYTES", abi::LOG_BUFFER_UNIT_BYTES as usize),
        ("MV_NOTIFICATION_CENTRES_MAX", abi::notification::CENTRES_MAX),
        ("MV_NETWORK_REQUESTS_MAX", abi::listener::NETWORK_REQUESTS_MAX),
        ("MV_SYSTEM_NOTIFICATIONS_MAX", abi::listener::SYSTEM_NOTIFICATIONS_MAX),
        ("HF_TELEMETRY_BYTES_MAX", abi::telemetry::TELEMETRY_BYTES_MAX),
        ("HF_CONTENT_TYPE_BYTES_MAX", abi::telemetry::CONTENT_TYPE_BYTES_MAX),
    ] {
        writeln!(text, "_Static_assert({name} == {number}, \"{name}\");")?;
    }
    std::fs::write(&source, text)?;
    compile(&source)
}

/// Bytes and alignment of a field, by the rules of C on 32-bit Arm.
fn measure(kind: &str, structures: &[(String, u32, u32)]) -> Result<(u32, u32)> {
    Ok(match kind {
        "u8" => (1, 1),
        "u16" => (2, 2),
        "u32" | "Address" => (4, 4),
        "u64" => (8, 8),
        other => {
            let found = structures.iter().find(|(name, ..)| name == other);
            found.map(|(_, bytes, align)| (*bytes, *align)).with_context(|| format!("what is {other}?"))?
        }
    })
}
