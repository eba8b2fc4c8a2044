//! Requests that change something, as they name their call: one row a request, made at build time from its fields.
//!
//! What names a call is no part of what it asks for: `kit::once` takes it out and keeps a digest of the rest.

/// A request that may come again (AIP-155) or only ask whether it would be accepted (AIP-163).
pub trait Mutation: prost::Message {
    /// `CreateDeployment`.
    const METHOD: &'static str;

    /// The caller's name for the call, or empty; the request has none any more.
    fn take_request_id(&mut self) -> String;

    /// Nothing is to be done; the request says no more of it.
    fn take_validate_only(&mut self) -> bool;
}

include!(concat!(env!("OUT_DIR"), "/mutations.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::v1::DeleteDeviceRequest;

    #[test]
    fn what_names_a_call_is_taken_out_of_it() {
        let bare = DeleteDeviceRequest { name: "n".into(), ..Default::default() };
        let mut request =
            DeleteDeviceRequest { request_id: "id".into(), validate_only: true, ..bare.clone() };
        assert_eq!(request.take_request_id(), "id");
        assert!(request.take_validate_only());
        assert_eq!(request, bare);
        assert_eq!(DeleteDeviceRequest::METHOD, "DeleteDevice");
    }
}
