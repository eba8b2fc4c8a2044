//! Who may call what: one row a method, made at build time from `option (holdfast.auth.v1.access)`.
//!
//! kit enforces the table; a path that is not in it is refused.

use crate::auth::v1::Access;

/// One RPC and who may call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// HTTP/2 path: `/holdfast.ota.v1.BundleService/GetBundle`.
    pub path: &'static str,
    pub access: Access,
    /// Either side streams, so the call has no fixed length.
    pub streaming: bool,
}

/// Every method of every service, sorted by path.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// The row of an HTTP/2 path, or `None` for one that no service of ours has.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|m| m.path.cmp(path)).ok().map(|at| &METHODS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path_and_none_is_unspecified() {
        assert!(METHODS.len() > 30);
        for row in METHODS {
            assert_eq!(method(row.path), Some(row));
            assert_ne!(row.access, Access::Unspecified);
        }
    }

    #[test]
    fn the_table_says_what_the_proto_file_says() {
        let row = method("/holdfast.ota.v1.BundleService/GetBundle").expect("declared in bundle.proto");
        assert_eq!((row.access, row.streaming), (Access::Viewer, false));
        let row = method("/holdfast.logs.v1.LogService/TailRecords").expect("declared in log.proto");
        assert_eq!((row.access, row.streaming), (Access::Viewer, true));
        let row = method("/holdfast.broker.v1.BrokerControlService/Disconnect").expect("in control.proto");
        assert_eq!(row.access, Access::Service);
    }

    #[test]
    fn an_unknown_path_has_no_row() {
        for path in ["", "/", "/grpc.health.v1.Health/Check", "/holdfast.ota.v1.BundleService/GetBundle/"] {
            assert_eq!(method(path), None, "{path}");
        }
    }
}
