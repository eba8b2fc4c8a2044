//! A connection as the core wishes it: which certificates, which key signs, whom we believe.

use alloc::sync::Arc;

use gateway_core::device::Device;
use gateway_core::gateway::{Credential, Dial};
use gateway_core::net::link::End;
use gateway_link::Connection;
use gateway_link::tls;
use heapless::Vec;
use wire::limits::BROKER_ANCHORS_MAX;

use crate::ports::{An505, Signer, seed_link};

/// Begins it. The provisioned anchor is believed beside those of the keyset.
pub(super) fn start(
    dial: Dial<'_>,
    device: &Device<An505>,
    provisioned: &[u8],
    now_us: u64,
) -> Result<Connection, End> {
    let keyset = device.keyset();
    let mut anchors: Vec<&[u8], { BROKER_ANCHORS_MAX + 1 }> = Vec::new();
    let held = keyset.iter().flat_map(|keyset| keyset.broker_anchors.iter().copied());
    // It has room for all of them.
    [provisioned].into_iter().chain(held).for_each(|anchor| {
        let _ = anchors.push(anchor);
    });
    let (chain, signer): (&[&[u8]], Arc<dyn tls::Signer>) = match &dial.credential {
        Credential::Claim(claim) => (core::slice::from_ref(claim), Arc::new(Signer::Claim)),
        Credential::Birth(birth) => (core::slice::from_ref(birth), Arc::new(Signer::Identity)),
        Credential::Chain(chain) => (chain, Arc::new(Signer::Identity)),
    };
    seed_link();
    let credential = tls::Credential { chain, signer };
    Connection::start(dial.address, credential, &anchors, device.time_bound_s(), now_us)
}
