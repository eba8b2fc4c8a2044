//! Where an application is linked is the SDK's to say.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tholdfast.ld");
}
