//! Every method that changes something can be repeated and can be asked about first, or says here why not.

use prost_reflect::{DescriptorPool, Kind};
use proto::auth::v1::Access;

/// How the names of methods begin that change nothing.
const READS: [&str; 5] = ["Get", "List", "Watch", "Tail", "BatchGet"];
/// Without `request_id`, and why.
const UNNAMED: [(&str, &str); 3] = [
    (
        "/holdfast.debug.v1.DebugSessionService/AttachDebugSession",
        "a stream; its position says what is done already",
    ),
    ("/holdfast.ota.v1.BundleService/WriteLayer", "a stream; its offsets say what is done already"),
    ("/holdfast.ota.v1.BundleService/UploadSymbols", "a stream; the file's digest says what is done already"),
];
/// Without `validate_only`, and why.
const UNASKED: [(&str, &str); 4] = [
    (
        "/holdfast.debug.v1.DebugSessionService/AttachDebugSession",
        "a stream may be ended before its first frame",
    ),
    ("/holdfast.ota.v1.BundleService/WriteLayer", "there is nothing to check before the bytes are there"),
    ("/holdfast.ota.v1.BundleService/UploadSymbols", "there is nothing to check before the bytes are there"),
    (
        "/holdfast.ota.v1.BundleService/FinishUpload",
        "to check is to do: the layers are read, hashed and stored",
    ),
];

#[test]
fn every_method_that_changes_something_has_a_request_id_and_can_be_asked_first() {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    let people = |access| !matches!(access, Access::Public | Access::Service);
    let mut seen = 0;
    for row in proto::METHODS.iter().filter(|row| people(row.access)) {
        let (service, name) = row.path.trim_start_matches('/').split_once('/').unwrap();
        if READS.iter().any(|read| name.starts_with(read)) {
            continue;
        }
        seen += 1;
        let service = pool.get_service_by_name(service).unwrap();
        let input = service.methods().find(|method| method.name() == name).unwrap().input();
        for (field, kind, without) in
            [("request_id", Kind::String, &UNNAMED[..]), ("validate_only", Kind::Bool, &UNASKED[..])]
        {
            let has = input.get_field_by_name(field).is_some_and(|field| field.kind() == kind);
            let excused = without.iter().any(|(path, _)| *path == row.path);
            assert!(has != excused, "{}: {field}", row.path);
        }
    }
    assert!(seen >= 15, "only {seen} methods");
}
