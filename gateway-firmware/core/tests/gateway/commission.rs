//! A board that is being tested, or that failed its test, and a network that would have it.

use gateway_core::commission::Stage;
use gateway_core::commission::make::{Application, Making};
use gateway_core::device::Notice;
use gateway_core::gateway::Happening;

use crate::world::*;

/// Longer than any wait of a board that is offline.
const LONG_MS: u64 = 24 * 3_600_000;

/// A board with a test, at its first start.
fn tested() -> World {
    let mut world = World::new();
    let test = world.maker.bundle(9).known_on(&world.bench);
    let (keyset, area) = (world.maker.keyset(1), test.bytes());
    let facts = &world.bench.facts;
    let making = Making {
        board: &facts.board,
        microvisor: facts.microvisor,
        root_key_hashes: &facts.root_key_hashes,
        root_threshold: facts.root_threshold,
        build_time_s: facts.build_time_s,
        keyset: &keyset,
        first: None,
        test: Some(Application { envelope: &test.envelope, area: &area }),
    };
    making.write(&mut world.bench.flash.clone(), &wire::cose::P256).unwrap();
    world.reboot();
    world.opened.clear();
    world.happened.clear();
    world
}

#[test]
fn a_board_has_nothing_to_do_with_a_network_before_its_test_is_passed() {
    let mut world = tested();
    world.pass_ms(LONG_MS);
    assert!(world.opened.is_empty(), "it dialed while it was tested");
    world.bench.app.borrow_mut().tested = Some(0);
    world.until("question", |world| world.take_enroll().is_some());
    assert!(world.happened.contains(&Happening::Device(Notice::Commission(Stage::Production))));
    assert_eq!(world.opened.last().unwrap().credential, "claim");
}

#[test]
fn a_board_that_failed_its_test_never_enrols() {
    let mut world = tested();
    world.bench.app.borrow_mut().tested = Some(7);
    for _ in 0..3 {
        world.pass_ms(LONG_MS);
        assert!(world.happened.contains(&Happening::Device(Notice::Commission(Stage::Failed(7)))));
        assert!(world.opened.is_empty(), "it dialed");
        world.happened.clear();
        world.reboot();
    }
}
