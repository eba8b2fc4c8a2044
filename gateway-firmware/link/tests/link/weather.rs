//! A connection through loss, doubling, delay and cuts.

use gateway_core::net::link::End;
use gateway_link::{Progress, SILENCE_TIMEOUT_US};

use crate::cable::Weather;
use crate::world::{S, World};

#[test]
fn a_hundred_kilobytes_go_both_ways_in_good_weather() {
    let mut world = World::up(Weather::default());
    world.connect();
    assert_eq!(world.outcome(S), Progress::Open);
    assert_eq!(world.echo(100_000, 10 * S), Ok(()));
}

#[test]
fn a_hundred_kilobytes_go_both_ways_in_any_weather() {
    for seed in 0..24 {
        let bad = Weather {
            seed,
            lost: seed % 8,
            doubled: seed % 5 * 4,
            jitter_us: seed % 3 * 2000,
            ..Weather::default()
        };
        let mut world = World::up(bad);
        world.connect();
        assert_eq!(world.outcome(25 * S), Progress::Open, "{bad:?}");
        assert_eq!(world.echo(100_000, 600 * S), Ok(()), "{bad:?}");
    }
}

#[test]
fn where_most_is_lost_a_connection_comes_or_ends() {
    for seed in 0..8 {
        let mut world =
            World::up(Weather { seed, lost: 30, doubled: 30, jitter_us: 20_000, ..Weather::default() });
        world.connect();
        if world.outcome(26 * S) == Progress::Open {
            // Whether it comes through, or how it ends, is the weather's; that one of them happens is ours.
            let _ = world.echo(20_000, 3600 * S);
        }
    }
}

#[test]
fn a_dead_peer_is_noticed_in_silence() {
    let mut world = World::up(Weather::default());
    world.connect();
    assert_eq!(world.outcome(S), Progress::Open);
    world.cable.borrow_mut().weather.cut = true;
    assert_eq!(world.end(SILENCE_TIMEOUT_US + S), End::Lost);
}

#[test]
fn a_dead_peer_is_noticed_while_talking() {
    let mut world = World::up(Weather::default());
    world.connect();
    assert_eq!(world.echo(10, S), Ok(()));
    world.cable.borrow_mut().weather.cut = true;
    assert!(world.connection.as_mut().unwrap().write(&[1; 100]) > 0);
    assert_eq!(world.end(SILENCE_TIMEOUT_US + S), End::Lost);
}

#[test]
fn an_idle_connection_lasts() {
    let mut world = World::up(Weather::default());
    world.connect();
    assert_eq!(world.echo(10, S), Ok(()));
    let later_us = world.now_us + 3600 * S;
    world.until(3601 * S, |world| {
        assert_eq!(world.step(), Progress::Open);
        world.now_us > later_us
    });
    assert_eq!(world.echo(10, S), Ok(()));
}

#[test]
fn a_server_that_restarts_is_connected_to_again() {
    let mut world = World::up(Weather::default());
    for _ in 0..5 {
        world.connect();
        assert_eq!(world.outcome(S), Progress::Open);
        assert_eq!(world.echo(5000, 5 * S), Ok(()));
        world.peer.reset();
        assert_eq!(world.end(S), End::Lost);
    }
}

#[test]
fn one_connection_follows_the_other_at_once() {
    let mut world = World::up(Weather::default());
    for _ in 0..20 {
        world.connect();
        assert_eq!(world.outcome(5 * S), Progress::Open);
        assert_eq!(world.echo(100, 5 * S), Ok(()));
    }
}
