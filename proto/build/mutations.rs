//! Finds the requests that name their call (`request_id`, AIP-155) and writes `proto::Mutation` for each.
//!
//! A request that asks with `validate_only` (AIP-163) says so through the same trait; one without it never does.

use std::fmt::Write;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

const REQUEST_ID: &str = "request_id";
const VALIDATE_ONLY: &str = "validate_only";

/// Rust items: one `impl Mutation for …` a request.
pub(crate) fn rust_source(pool: &DescriptorPool) -> Result<String, String> {
    let inputs = pool.services().flat_map(|service| service.methods().map(|m| m.input()).collect::<Vec<_>>());
    let mut inputs: Vec<_> = inputs.filter(|input| input.get_field_by_name(REQUEST_ID).is_some()).collect();
    inputs.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    inputs.dedup();
    let mut source = String::new();
    for input in inputs {
        let validate_only = match is(&input, VALIDATE_ONLY, &Kind::Bool)? {
            true => "std::mem::take(&mut self.validate_only)",
            false => "false",
        };
        is(&input, REQUEST_ID, &Kind::String)?;
        let (path, method) = (rust_path(&input)?, input.name().trim_end_matches("Request"));
        writeln!(
            source,
            "impl Mutation for {path} {{\n    const METHOD: &'static str = {method:?};\n\n    \
             fn take_request_id(&mut self) -> String {{\n        std::mem::take(&mut self.request_id)\n    }}\n\n    \
             fn take_validate_only(&mut self) -> bool {{\n        {validate_only}\n    }}\n}}\n"
        )
        .expect("writing to a String does not fail");
    }
    Ok(source)
}

/// Whether the message has the field, which must be of this kind.
fn is(message: &MessageDescriptor, name: &str, kind: &Kind) -> Result<bool, String> {
    match message.get_field_by_name(name) {
        None => Ok(false),
        Some(field) if field.kind() == *kind && !field.is_list() => Ok(true),
        Some(field) => Err(format!("{} must be a {kind:?}", field.full_name())),
    }
}

/// `holdfast.ota.v1.X` is `crate::ota::v1::X`.
fn rust_path(message: &MessageDescriptor) -> Result<String, String> {
    let name = message.full_name();
    let ours = name.strip_prefix("holdfast.").ok_or_else(|| format!("{name} is none of ours"))?;
    Ok(format!("crate::{}", ours.replace('.', "::")))
}
