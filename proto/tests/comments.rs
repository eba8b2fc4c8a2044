//! What the APIs say of themselves: every service, method, field and value, to people and to reflection.

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Field numbers of `descriptor.proto`, as `SourceCodeInfo.Location.path` uses them.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const SERVICE_METHOD: i32 = 2;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;

/// (path, name) of everything that must be explained.
fn parts(file: &FileDescriptorProto) -> Vec<(Vec<i32>, String)> {
    let mut parts = Vec::new();
    for (at, service) in (0..).zip(&file.service) {
        let path = vec![FILE_SERVICE, at];
        parts.push((path.clone(), service.name().to_owned()));
        for (at, method) in (0..).zip(&service.method) {
            let name = format!("{}.{}", service.name(), method.name());
            parts.push(([&path[..], &[SERVICE_METHOD, at]].concat(), name));
        }
    }
    for (at, message) in (0..).zip(&file.message_type) {
        in_message(&[FILE_MESSAGE, at], message, &mut parts);
    }
    for (at, it) in (0..).zip(&file.enum_type) {
        in_enum(&[FILE_ENUM, at], it, &mut parts);
    }
    parts
}

fn in_message(path: &[i32], message: &DescriptorProto, parts: &mut Vec<(Vec<i32>, String)>) {
    // The entries of a map are protobuf's own.
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    for (at, field) in (0..).zip(&message.field) {
        let name = format!("{}.{}", message.name(), field.name());
        parts.push(([path, &[MESSAGE_FIELD, at]].concat(), name));
    }
    for (at, nested) in (0..).zip(&message.nested_type) {
        in_message(&[path, &[MESSAGE_NESTED, at]].concat(), nested, parts);
    }
    for (at, it) in (0..).zip(&message.enum_type) {
        in_enum(&[path, &[MESSAGE_ENUM, at]].concat(), it, parts);
    }
}

fn in_enum(path: &[i32], it: &EnumDescriptorProto, parts: &mut Vec<(Vec<i32>, String)>) {
    for (at, value) in (0..).zip(&it.value) {
        parts.push(([path, &[ENUM_VALUE, at]].concat(), value.name().to_owned()));
    }
}

#[test]
fn every_service_method_field_and_value_of_the_apis_is_explained() {
    let set: FileDescriptorSet = prost::Message::decode(proto::DESCRIPTORS).unwrap();
    let (mut explained, mut silent) = (0, Vec::new());
    for file in &set.file {
        // Devices' messages are explained in docs/protocol.md.
        let ours = file.name().starts_with("holdfast/") && !file.name().starts_with("holdfast/device/");
        let Some(info) = file.source_code_info.as_ref().filter(|_| ours) else { continue };
        for (path, name) in parts(file) {
            let comment = info.location.iter().find(|location| location.path == path);
            match comment.is_some_and(|location| !location.leading_comments().trim().is_empty()) {
                true => explained += 1,
                false => silent.push(format!("{}: {name}", file.name())),
            }
        }
    }
    assert!(silent.is_empty(), "nothing is said of\n{}", silent.join("\n"));
    assert!(explained > 250, "only {explained}: are the comments in the descriptors?");
}
