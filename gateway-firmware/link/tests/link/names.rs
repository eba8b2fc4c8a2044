//! From a name to a server.

use std::net::Ipv4Addr;

use gateway_core::net::link::End;
use gateway_link::{CONNECT_TIMEOUT_US, Progress};

use crate::cable::Weather;
use crate::peer::{PEER, PORT};
use crate::world::{S, World};

const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 66);

#[test]
fn addresses_are_tried_in_turn() {
    let mut world = World::up(Weather::default());
    world.peer.says.dns = Some(vec![NOBODY, NOBODY, PEER]);
    world.connect();
    assert_eq!(world.outcome(CONNECT_TIMEOUT_US), Progress::Open);
}

#[test]
fn a_second_dns_server_is_asked_when_the_first_is_silent() {
    let mut world = World::new(Weather::default());
    world.peer.says.dns_servers = vec![NOBODY, PEER];
    world.until(60 * S, |world| world.network.is_up());
    world.connect();
    assert_eq!(world.outcome(CONNECT_TIMEOUT_US), Progress::Open);
}

#[test]
fn a_name_that_is_none_is_unreachable_soon() {
    let mut world = World::up(Weather::default());
    world.peer.says.dns = Some(vec![]);
    world.connect();
    assert_eq!(world.end(S), End::Unreachable);
}

#[test]
fn silence_is_unreachable_in_time() {
    let mut world = World::up(Weather::default());
    world.peer.says.dns = None;
    world.connect();
    assert_eq!(world.end(CONNECT_TIMEOUT_US + S), End::Unreachable);
    world.peer.says.dns = Some(vec![NOBODY; 4]);
    world.connect();
    assert_eq!(world.end(CONNECT_TIMEOUT_US + S), End::Unreachable);
}

#[test]
fn a_board_without_an_address_is_unreachable_in_time() {
    let mut world = World::new(Weather::default());
    world.peer.says.dhcp = false;
    world.connect();
    assert_eq!(world.end(CONNECT_TIMEOUT_US + S), End::Unreachable);
    assert_eq!(world.connection.as_ref().unwrap().deadline_us(), None);
}

#[test]
fn a_closed_port_is_unreachable_soon() {
    let mut world = World::up(Weather::default());
    world.connect_to("10.0.0.1:9").unwrap();
    assert_eq!(world.end(S), End::Unreachable);
}

#[test]
fn a_listed_name_and_a_literal_need_no_dns() {
    let mut world = World::up(Weather::default());
    world.peer.says.dns = None;
    for host in ["listed.test", "10.0.0.1"] {
        world.connect_to(&format!("{host}:{PORT}")).unwrap();
        // It is there, and does not have that name.
        assert_eq!(world.end(S), End::ServerRefused, "{host}");
    }
}

#[test]
fn what_is_no_address_is_unreachable_at_once() {
    let mut world = World::up(Weather::default());
    let long = format!("{}:1", "a.".repeat(200));
    for address in ["", "broker.test", "[::1]:8883", "a b:1", &long] {
        let end = world.connect_to(address).err().unwrap_or_else(|| world.end(S));
        assert_eq!(end, End::Unreachable, "{address}");
    }
}
