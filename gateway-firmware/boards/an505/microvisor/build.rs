//! Makes what the linker and the assembler have to know from the places where it is decided: addresses from the map, the
//! gateway page from the table of calls.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

#[expect(dead_code, unreachable_pub, reason = "it is the firmware's, and the linker needs little of it")]
#[path = "../chip/src/map.rs"]
mod map;

fn main() {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells a build script where to write by the environment"
    )]
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), memory()).expect("OUT_DIR is writable");
    fs::write(out.join("gateway.s"), gateway()).expect("OUT_DIR is writable");
    fs::copy("microvisor.ld", out.join("microvisor.ld")).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tmicrovisor.ld");
    println!("cargo:rerun-if-changed=microvisor.ld");
    println!("cargo:rerun-if-changed=../chip/src/map.rs");
}

fn memory() -> String {
    use map::secure::*;
    format!(
        "MEMORY {{\n  IMAGE (rx) : ORIGIN = {MICROVISOR_AT:#x}, LENGTH = {MICROVISOR_BYTES:#x}\n  \
         RAM (rw) : ORIGIN = {RAM_AT:#x}, LENGTH = {RAM_BYTES:#x}\n}}\n\
         _gateway_at = {GATEWAY_AT:#x};\n_gateway_end = {:#x};\n",
        GATEWAY_AT + GATEWAY_BYTES
    )
}

/// A veneer for every call there is, and nothing that could be entered for every slot that has none. A veneer has no room
/// for its number: it goes on to a step, outside of what is callable, that has.
fn gateway() -> String {
    let mut page = String::from(".section .gateway,\"ax\",%progbits\n");
    let mut steps = String::from(".section .text.gateway_steps,\"ax\",%progbits\n");
    for slot in 0..abi::SLOTS {
        if let Some(call) = u8::try_from(slot).ok().and_then(abi::call_at) {
            let _ = writeln!(page, "sg\nb.w gateway_step_{slot} @ {}", call.name);
            let _ =
                writeln!(steps, ".thumb_func\ngateway_step_{slot}:\nmovw r12, #{slot}\nb.w gateway_enter");
        } else {
            let _ = writeln!(page, "udf #0\nudf #0\nudf #0\nudf #0");
        }
    }
    page + &steps
}
