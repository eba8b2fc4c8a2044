//! Where an application is linked is the SDK's to say.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tholdfast.ld");
    println!("cargo:rerun-if-env-changed=HOLDFAST_APP_VERSION");
    println!("cargo:rerun-if-env-changed=HOLDFAST_APP_UNWELL");
    println!("cargo:rerun-if-env-changed=HOLDFAST_APP_BUSY");
}
