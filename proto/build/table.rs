//! Reads `option (holdfast.auth.v1.access)` of every method and writes the table `proto::METHODS`.
//!
//! A method without the option is an error, never a default: unknown means no.

use std::fmt::Write;

use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

const OPTION: &str = "holdfast.auth.v1.access";

/// The Rust expression `&[Method { .. }, ..]`, sorted by path.
pub(crate) fn rust_source(pool: &DescriptorPool) -> Result<String, String> {
    let mut rows = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            rows.push((path, access_of(pool, &method)?, method));
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));

    let mut source = String::from("&[\n");
    for (path, access, method) in rows {
        let streaming = method.is_client_streaming() || method.is_server_streaming();
        writeln!(
            source,
            "    Method {{ path: {path:?}, access: Access::{access}, streaming: {streaming} }},"
        )
        .expect("writing to a String does not fail");
    }
    source.push_str("]\n");
    Ok(source)
}

/// The variant's Rust name (`Operator`).
fn access_of(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String, String> {
    let missing = || {
        format!(
            "{} does not say who may call it: add `option ({OPTION}) = ACCESS_...;` to it in its .proto file",
            method.full_name()
        )
    };
    let extension = pool.get_extension_by_name(OPTION).ok_or_else(missing)?;
    let options = method.options();
    let Value::EnumNumber(number) = *options.get_extension(&extension) else {
        return Err(missing());
    };
    let kind = extension.kind();
    let access = kind.as_enum().and_then(|e| e.get_value(number)).ok_or_else(missing)?;
    if number == 0 {
        return Err(missing());
    }
    let name = access.name().trim_start_matches("ACCESS_").to_lowercase();
    Ok(name[..1].to_uppercase() + &name[1..])
}
