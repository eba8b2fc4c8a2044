//! Generates the no-alloc device messages from the one .proto that device and cloud share.

fn main() {
    let source = "../proto/holdfast/device/v1/device.proto";
    println!("cargo::rerun-if-changed={source}");
    femtopb_build::compile_protos(&[source], &["../proto"]).expect("device.proto compiles");
}
