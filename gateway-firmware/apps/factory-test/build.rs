//! Where an application is linked is the SDK's to say.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tholdfast.ld");
    println!("cargo:rerun-if-env-changed=HOLDFAST_TEST_FAILS");
    println!("cargo:rerun-if-env-changed=HOLDFAST_TEST_ENDLESS");
}
