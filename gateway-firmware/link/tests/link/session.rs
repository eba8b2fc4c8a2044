//! What a session does with a server that is ours.

use std::sync::Arc;

use gateway_core::net::link::End;
use gateway_link::tls::{RECORD_BYTES_MAX, SEND_RECORD_BYTES_MAX};
use rustls::crypto::aws_lc_rs::Ticketer;

use crate::pki::Pki;
use crate::server::Pair;

#[test]
fn bytes_go_both_ways_whatever_their_number() {
    let mut pair = Pair::open(&Pki::new());
    for count in [1, 2, 1000, SEND_RECORD_BYTES_MAX - 5, SEND_RECORD_BYTES_MAX, 16_384, 100_000] {
        let bytes: Vec<u8> = (0..count).map(|at| (at * 7 % 251) as u8).collect();
        pair.echo(&bytes).unwrap();
    }
}

#[test]
fn new_keys_are_taken_and_given_whenever_the_server_asks() {
    let mut pair = Pair::open(&Pki::new());
    for _ in 0..10 {
        pair.theirs.refresh_traffic_keys().unwrap();
        pair.echo(b"under new keys").unwrap();
    }
}

/// After a handshake with a server that sends so many session tickets.
fn with_tickets(setup: crate::server::Setup) -> (Pair, Result<(), End>) {
    let pki = Pki::new();
    let mut pair = Pair::new(&pki, &pki.server(), setup);
    let end = pair.run();
    (pair, end)
}

#[test]
fn session_tickets_change_nothing() {
    let (mut pair, end) = with_tickets(|config| {
        config.ticketer = Ticketer::new().unwrap();
        config.send_tls13_tickets = 8;
    });
    assert_eq!(end, Ok(()));
    pair.echo(b"after them").unwrap();
}

#[test]
fn more_tickets_in_one_flight_than_a_record_holds_end_the_session() {
    let (pair, end) = with_tickets(|config| {
        config.ticketer = Ticketer::new().unwrap();
        config.send_tls13_tickets = 1000;
    });
    assert_eq!(end, Err(End::Lost));
    drop(pair);
}

#[test]
fn the_servers_goodbye_is_the_end() {
    let mut pair = Pair::open(&Pki::new());
    pair.theirs.send_close_notify();
    assert_eq!(pair.run(), Err(End::Lost));
    assert_eq!(pair.ours.write(b"late"), Err(End::Lost));
    assert!(pair.ours.room().is_empty());
}

#[test]
fn our_goodbye_is_understood() {
    let mut pair = Pair::open(&Pki::new());
    pair.ours.close();
    let bytes = pair.ours.pending().to_vec();
    pair.theirs.read_tls(&mut &bytes[..]).unwrap();
    assert!(pair.theirs.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn no_more_than_a_record_is_taken_before_it_is_read() {
    let mut pair = Pair::open(&Pki::new());
    std::io::Write::write_all(&mut pair.theirs.writer(), &[7; 60_000]).unwrap();
    let mut taken = 0;
    while !pair.ours.is_readable() {
        let mut record = vec![0; pair.ours.room().len()];
        assert!(record.len() <= RECORD_BYTES_MAX);
        let count = pair.theirs.write_tls(&mut &mut record[..]).unwrap();
        pair.ours.room()[..count].copy_from_slice(&record[..count]);
        pair.ours.received(count);
        taken += count;
        pair.ours.turn().unwrap();
    }
    assert!(taken <= RECORD_BYTES_MAX);
    assert!(pair.ours.room().is_empty());
    // Writing is possible all the same: an answer may be due before the next can be read.
    assert_eq!(pair.ours.write(b"answer"), Ok(6));
}

#[test]
fn one_configuration_serves_no_second_session_from_memory() {
    let pki = Pki::new();
    for _ in 0..2 {
        let mut pair = Pair::new(&pki, &pki.server(), |config| config.ticketer = Ticketer::new().unwrap());
        pair.run().unwrap();
        pair.echo(b"full").unwrap();
        assert_eq!(pair.theirs.handshake_kind(), Some(rustls::HandshakeKind::Full));
        drop(Arc::new(pair.ours));
    }
}
