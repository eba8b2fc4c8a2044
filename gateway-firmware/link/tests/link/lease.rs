//! The board's own address: got, kept, changed and lost.

use std::net::Ipv4Addr;

use gateway_core::net::link::End;
use gateway_link::Progress;

use crate::cable::Weather;
use crate::world::{S, World};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

#[test]
fn a_lease_is_renewed_under_a_connection() {
    let mut world = World::new(Weather::default());
    world.peer.says.lease_s = 300;
    world.until(60 * S, |world| world.network.is_up());
    world.connect();
    assert_eq!(world.outcome(S), Progress::Open);
    let later_us = world.now_us + 3600 * S;
    world.until(3601 * S, |world| {
        assert_eq!(world.step(), Progress::Open);
        world.now_us > later_us
    });
    assert!(world.peer.leases > 10);
    assert_eq!(world.echo(1000, S), Ok(()));
}

#[test]
fn a_changed_address_ends_the_connection_and_serves_the_next() {
    let mut world = World::new(Weather::default());
    world.peer.says.lease_s = 300;
    world.until(60 * S, |world| world.network.is_up());
    world.connect();
    assert_eq!(world.outcome(S), Progress::Open);
    world.peer.says.address = OTHER;
    assert_eq!(world.end(400 * S), End::Lost);
    world.until(60 * S, |world| world.network.address() == Some(OTHER));
    world.connect();
    assert_eq!(world.outcome(S), Progress::Open);
    assert_eq!(world.echo(1000, S), Ok(()));
}

#[test]
fn a_lost_lease_ends_the_connection() {
    let mut world = World::new(Weather::default());
    world.peer.says.lease_s = 300;
    world.until(60 * S, |world| world.network.is_up());
    world.connect();
    assert_eq!(world.outcome(S), Progress::Open);
    world.peer.says.dhcp = false;
    assert_eq!(world.end(400 * S), End::Lost);
    assert!(!world.network.is_up() && world.network.address().is_none());
}
