//! What networks and servers should not send. Nothing may panic, hang, or take memory that was not counted on.

use gateway_core::net::link::End;
use gateway_link::tls::{HANDSHAKE_BYTES_MAX, RECORD_BYTES_MAX};

use crate::cable::{Dice, Weather};
use crate::corpus;
use crate::pki::{AT_2024, Pki};
use crate::secrets::Traitor;
use crate::server::{Pair, server_config, session};
use crate::world::{S, World};

#[test]
fn dns_answers_that_are_none_are_no_addresses() {
    for (what, bytes) in corpus::DNS {
        let mut world = World::up(Weather::default());
        world.peer.says.dns_bytes = Some(bytes);
        world.connect();
        assert_eq!(world.end(30 * S), End::Unreachable, "{what}");
        world.peer.says.dns_bytes = None;
        world.connect();
        assert_eq!(world.echo(10, S), Ok(()), "{what}");
    }
}

#[test]
fn dhcp_answers_that_are_none_do_not_last() {
    for (what, bytes) in corpus::DHCP {
        let mut world = World::new(Weather::default());
        world.peer.says.dhcp_bytes = Some(bytes);
        let later_us = 600 * S;
        world.until(601 * S, |world| world.now_us > later_us);
        // Nobody is kept busy by it.
        assert!(world.steps < 1000, "{what}: {} steps", world.steps);
        world.peer.says.dhcp_bytes = None;
        // An hour at most, and a new lease after it.
        world.until(2 * 3600 * S, |world| {
            world.connect();
            world.outcome(30 * S) == gateway_link::Progress::Open
        });
        assert_eq!(world.echo(10, S), Ok(()), "{what}");
    }
}

#[test]
fn damaged_frames_cost_a_connection_at_most() {
    for seed in 0..60 {
        let mut world = World::new(Weather {
            seed,
            damaged: 5 + seed % 40,
            lost: 2,
            jitter_us: 500,
            ..Weather::default()
        });
        for _ in 0..4 {
            let later_us = world.now_us + 60 * S;
            world.connect();
            // Neither how it ends nor whether: only that time goes on.
            while world.now_us < later_us && world.echo_or_time(4000, later_us).is_ok() {}
        }
    }
}

#[test]
fn frames_seen_before_and_changed_cost_a_connection_at_most() {
    let mut world = World::new(Weather::default());
    world.cable.borrow_mut().kept = Some(Vec::new());
    world.until(60 * S, |world| world.network.is_up());
    world.connect();
    world.echo(20_000, 10 * S).unwrap();
    let kept = world.cable.borrow_mut().kept.take().unwrap();
    assert!(kept.len() > 20);
    let mut dice = Dice::new(5);
    for _ in 0..40 {
        let weather = Weather { damaged: 1, ..Weather::default() };
        let mut world = World::up(weather);
        world.connect();
        for _ in 0..100 {
            let mut frame = kept[dice.roll(kept.len() as u64) as usize].clone();
            dice.damage(&mut frame);
            world.cable.borrow_mut().inject(frame);
            world.step();
        }
        let later_us = world.now_us + 40 * S;
        let _ = world.echo_or_time(2000, later_us);
    }
}

#[test]
fn a_damaged_handshake_ends_or_comes_through() {
    let pki = Pki::new();
    let (server, device) = (pki.server(), pki.device());
    let config = server_config(&pki, &server, |_| ());
    let mut dice = Dice::new(1);
    for _ in 0..400 {
        let mut pair = Pair::of(session(&pki, &device, AT_2024), config.clone());
        pair.ours.turn().unwrap();
        let count = pair.theirs.read_tls(&mut pair.ours.pending()).unwrap();
        pair.ours.sent(count);
        pair.theirs.process_new_packets().unwrap();
        let mut flight = Vec::new();
        while pair.theirs.wants_write() {
            pair.theirs.write_tls(&mut flight).unwrap();
        }
        // Of what is protected, every change is the same change.
        let mut hello = flight.split_off(0);
        let rest = hello.split_off(hello.len().min(128));
        dice.damage(&mut hello);
        hello.extend_from_slice(&rest);
        let end = feed(&mut pair, &hello);
        assert!(matches!(end, Ok(()) | Err(End::Unreachable | End::CertificateRefused)), "{end:?}");
    }
}

#[test]
fn random_records_end_a_handshake() {
    let pki = Pki::new();
    let device = pki.device();
    let config = server_config(&pki, &pki.server(), |_| ());
    let mut dice = Dice::new(2);
    for _ in 0..400 {
        let mut pair = Pair::of(session(&pki, &device, AT_2024), config.clone());
        pair.ours.turn().unwrap();
        let mut bytes = Vec::new();
        for _ in 0..20 {
            let length = dice.roll(2000) as usize;
            bytes.extend_from_slice(&[20 + dice.roll(5) as u8, 3, 3 - dice.roll(2) as u8]);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
            bytes.extend((0..length).map(|_| dice.roll(256) as u8));
        }
        assert_eq!(feed(&mut pair, &bytes), Err(End::Unreachable));
    }
}

#[test]
fn a_handshake_larger_than_any_of_ours_ends_in_little_memory() {
    let pki = Pki::new();
    for kind in [22, 23] {
        let mut pair = Pair::new(&pki, &pki.server(), |_| ());
        pair.ours.turn().unwrap();
        // A server hello of 64 KiB, in records as large as there are.
        let mut bytes = vec![];
        for part in 0..5 {
            bytes.extend_from_slice(&[kind, 3, 3, 0x40, 0]);
            let mut record = vec![0; 1 << 14];
            if part == 0 {
                record[..4].copy_from_slice(&[2, 0, 0xff, 0xff]);
            }
            bytes.extend_from_slice(&record);
        }
        assert_eq!(feed(&mut pair, &bytes), Err(End::Unreachable));
    }
}

/// Hands bytes to our side until it ends; it never takes more at a time than it may.
fn feed(pair: &mut Pair, mut bytes: &[u8]) -> Result<(), End> {
    while !bytes.is_empty() {
        let open = pair.ours.is_open();
        let room = pair.ours.room();
        assert!(!room.is_empty() && room.len() <= if open { RECORD_BYTES_MAX } else { HANDSHAKE_BYTES_MAX });
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        pair.ours.received(count);
        bytes = &bytes[count..];
        pair.ours.turn()?;
    }
    Ok(())
}

#[test]
fn no_message_after_the_handshake_does_more_than_end_it() {
    let pki = Pki::new();
    for (what, kind, content) in corpus::INNER {
        let mut traitor = Traitor::new(&pki);
        let record = traitor.protect(kind, content);
        let end = traitor.hand(&record);
        assert!(matches!(end, Ok(()) | Err(End::Lost)), "{what}: {end:?}");
        // Whatever it was, what follows is understood or refused.
        if end.is_ok() {
            let record = traitor.protect(23, b"after it");
            let _ = traitor.hand(&record);
        }
    }
}

#[test]
fn random_messages_after_the_handshake_do_no_more_than_end_it() {
    let pki = Pki::new();
    let mut dice = Dice::new(3);
    for _ in 0..150 {
        let mut traitor = Traitor::new(&pki);
        for _ in 0..20 {
            let length = dice.roll(300) as usize;
            let mut content: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
            let kind = if dice.roll(4) == 0 { dice.roll(256) as u8 } else { 22 };
            if kind == 22 && dice.roll(4) > 0 {
                let message = [4, 24, 13, 11, dice.roll(256) as u8][dice.roll(5) as usize];
                content.splice(0..0, [message, 0, (length >> 8) as u8, length as u8]);
            }
            let record = traitor.protect(kind, &content);
            if traitor.hand(&record).is_err() {
                break;
            }
        }
    }
}

#[test]
fn a_flood_of_new_keys_ends_the_session() {
    let mut traitor = Traitor::new(&Pki::new());
    // All in one record, so that the keys are those that we know.
    let record = traitor.protect(22, &[24, 0, 0, 1, 1].repeat(1000));
    assert_eq!(traitor.hand(&record), Err(End::Lost));
}

#[test]
fn empty_records_cost_nothing() {
    let mut traitor = Traitor::new(&Pki::new());
    for _ in 0..1000 {
        let record = traitor.protect(23, &[]);
        if traitor.hand(&record).is_err() {
            return;
        }
    }
    let record = traitor.protect(23, b"still there");
    assert_eq!(traitor.hand(&record), Ok(()));
}
