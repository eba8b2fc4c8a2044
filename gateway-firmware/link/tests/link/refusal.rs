//! Whom we refuse, who refuses us, and what the core is told of it.

use gateway_core::net::link::End;
use rcgen::ExtendedKeyUsagePurpose;

use crate::pki::{AT_2024, Identity, Leaf, Pki};
use crate::server::{Pair, server_config, session};

const AT_2046: u64 = 2_398_377_600;

fn verdict(pki: &Pki, server: &Identity) -> Result<(), End> {
    Pair::new(pki, server, |_| ()).run()
}

#[test]
fn a_server_of_ours_is_believed() {
    let pki = Pki::new();
    assert_eq!(verdict(&pki, &pki.server()), Ok(()));
}

#[test]
fn a_server_under_another_root_is_refused() {
    assert_eq!(verdict(&Pki::new(), &Pki::new().server()), Err(End::ServerRefused));
}

#[test]
fn a_leaf_that_acts_as_a_ca_is_refused() {
    let pki = Pki::new();
    assert_eq!(verdict(&pki, &pki.by_a_leaf()), Err(End::ServerRefused));
}

#[test]
fn another_name_is_refused() {
    let pki = Pki::new();
    let other = pki.issue(&Leaf { name: "other.test", ..Leaf::default() });
    assert_eq!(verdict(&pki, &other), Err(End::ServerRefused));
}

#[test]
fn a_device_is_no_server() {
    let pki = Pki::new();
    let device = pki.issue(&Leaf { usage: ExtendedKeyUsagePurpose::ClientAuth, ..Leaf::default() });
    assert_eq!(verdict(&pki, &device), Err(End::ServerRefused));
}

#[test]
fn expiry_is_judged_by_the_bound_and_nothing_else() {
    let pki = Pki::new();
    let expired = pki.issue(&Leaf { years: (2020, 2023), ..Leaf::default() });
    assert_eq!(verdict(&pki, &expired), Err(End::ServerRefused));
    // A bound proves nothing about what has not begun.
    let future = pki.issue(&Leaf { years: (2030, 2040), ..Leaf::default() });
    assert_eq!(verdict(&pki, &future), Ok(()));
}

#[test]
fn a_server_that_refuses_us_says_so_after_our_handshake() {
    let (servers, strangers) = (Pki::new(), Pki::new());
    let ours = session(&servers, &strangers.device(), AT_2024);
    let mut pair = Pair::of(ours, server_config(&servers, &servers.server(), |_| ()));
    assert_eq!(pair.run(), Err(End::CertificateRefused));
    assert!(pair.refused.is_some());
}

#[test]
fn the_server_learns_why_we_left() {
    let pki = Pki::new();
    let mut pair =
        Pair::of(session(&pki, &pki.device(), AT_2046), server_config(&pki, &pki.server(), |_| ()));
    assert_eq!(pair.run(), Err(End::ServerRefused));
    let alert = pair.ours.pending().to_vec();
    pair.theirs.read_tls(&mut &alert[..]).unwrap();
    assert_eq!(
        pair.theirs.process_new_packets(),
        Err(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired))
    );
}
