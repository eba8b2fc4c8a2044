//! Everything that keeps a slot's microvisor from running, each with its reason.

use gateway_core::boot::first::{Record, Refused, Slot, Verdict};
use proptest::prelude::*;
use wire::manifest::Component;
use wire::sign::{ReleaseKeySpec, Signer as _};

use super::{Board, CODE_AT, Filling, IMAGE_BYTES, LAYOUT, STACK_AT, image, keyset};
use crate::sim::{Maker, SMALL};

/// What the first stage says of this in slot A.
fn verdict(filling: &Filling) -> Verdict {
    let mut board = Board::new(SMALL);
    board.fill(Slot::A, filling);
    let outcome = board.start();
    assert_eq!(outcome.chosen.is_some_and(|it| it.slot == Slot::A), outcome.verdicts[0] == Verdict::Runs);
    outcome.verdicts[0]
}

fn refused(filling: &Filling) -> Refused {
    match verdict(filling) {
        Verdict::Refused(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_vouches_for_it_must_be_believed() {
    let maker = Maker::new();
    let good = Filling::version(1);
    assert_eq!(verdict(&good), Verdict::Runs);
    let blank = Filling { keyset: vec![0xff; 10], envelope: vec![], image: vec![] };
    assert_eq!(refused(&blank), Refused::Blank);
    assert_eq!(refused(&Filling { keyset: vec![0; 10], ..good.clone() }), Refused::KeysetMalformed);
    let mut spec = maker.keyset_spec(1);
    spec.root_keys = vec![maker.stranger.public_key()];
    let foreign = spec.sign(&[&maker.stranger]).unwrap();
    assert_eq!(refused(&Filling { keyset: foreign, ..good.clone() }), Refused::KeysetUnsigned);
    let later = keyset(|spec| spec.version = 9);
    assert_eq!(verdict(&Filling { keyset: later, ..good.clone() }), Verdict::Runs, "any version");
    assert_eq!(refused(&Filling { envelope: vec![], ..good.clone() }), Refused::Blank);
    assert_eq!(refused(&Filling { envelope: vec![0xd8; 9], ..good }), Refused::ManifestMalformed);
    let stranger = Filling::made(&image(1), 1, |_| {}, &maker.stranger);
    assert_eq!(refused(&stranger), Refused::ManifestUnsigned);
}

#[test]
fn a_release_key_is_good_for_its_component_and_board_only() {
    let maker = Maker::new();
    let good = Filling::version(1);
    for (component, board) in [(Some(Component::App), None), (None, Some("other".to_owned()))] {
        let scoped = keyset(|spec| {
            spec.release_keys =
                vec![ReleaseKeySpec { key: maker.release.public_key(), component, board: board.clone() }];
        });
        assert_eq!(refused(&Filling { keyset: scoped, ..good.clone() }), Refused::KeyScope);
    }
}

#[test]
fn it_must_be_a_microvisor_for_this_board_that_fits() {
    let any = |change: &dyn Fn(&mut wire::sign::ManifestSpec<'_>)| {
        let filling = Filling::made(&image(1), 1, change, &Maker::new().release);
        let keyset = keyset(|spec| {
            spec.release_keys[0].component = None;
            spec.release_keys[0].board = None;
        });
        refused(&Filling { keyset, ..filling })
    };
    assert_eq!(any(&|spec| spec.component = Component::App), Refused::WrongComponent);
    assert_eq!(any(&|spec| spec.board = "other".to_owned()), Refused::WrongBoard);
    assert_eq!(any(&|spec| spec.area_bytes = Some(IMAGE_BYTES + 16 * 1024)), Refused::TooLarge);
}

#[test]
fn it_must_begin_with_a_stack_in_ram_and_code_in_itself() {
    let with = |stack: u32, code: u32| {
        let mut image = image(1);
        image[..4].copy_from_slice(&stack.to_le_bytes());
        image[4..8].copy_from_slice(&code.to_le_bytes());
        verdict(&Filling::made(&image, 1, |_| {}, &Maker::new().release))
    };
    let no_entry = Verdict::Refused(Refused::NoEntry);
    let (stack, code) = (STACK_AT + 0x1000, CODE_AT + 1);
    assert_eq!(with(stack, code), Verdict::Runs);
    assert_eq!(with(stack, CODE_AT + IMAGE_BYTES - 1), Verdict::Runs, "the last halfword of the area");
    for (stack, code) in [
        (STACK_AT - 8, code),
        (STACK_AT + 0x1008, code),
        (stack - 4, code),
        (stack, code - 1),
        (stack, CODE_AT - 1),
        (stack, CODE_AT + IMAGE_BYTES + 1),
        (stack, 0),
        (stack, u32::MAX),
    ] {
        assert_eq!(with(stack, code), no_entry, "{stack:#x} {code:#x}");
    }
}

#[test]
fn a_revoked_root_vouches_for_nothing() {
    let maker = Maker::new();
    let mut board = Board::new(SMALL);
    board.roots = vec![maker.stranger.public_key().hash().unwrap(), maker.root_hash()];
    assert_eq!(board.runs(), Some((1, 0)));
    board.set(Record { revoked: 0b01, ..Record::default() });
    assert_eq!(board.runs(), Some((1, 0)));
    board.set(Record { revoked: 0b10, ..Record::default() });
    let outcome = board.start();
    assert_eq!(outcome.verdicts, [Refused::KeysetUnsigned; 2].map(Verdict::Refused));
    board.set(Record::default());
    board.threshold = 2;
    assert_eq!(board.runs(), None, "one root signed, two are wanted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_flipped_bit_of_a_slot_runs(at in 0_u32..64 * 1024, bit in 0..8_u8) {
        let good = Filling::version(1);
        let parts = [
            (LAYOUT.keyset_at, good.keyset.len()),
            (LAYOUT.envelope_at, good.envelope.len()),
            (LAYOUT.image_at, IMAGE_BYTES as usize),
        ];
        let (start, length) = parts[at as usize % 3];
        let offset = at % length as u32;
        let mut board = Board::new(SMALL);
        let mut filling = good.clone();
        match start {
            0 => filling.keyset[offset as usize] ^= 1 << bit,
            8192 => filling.envelope[offset as usize] ^= 1 << bit,
            _ => {
                filling.image.resize(IMAGE_BYTES as usize, 0xff);
                filling.image[offset as usize] ^= 1 << bit;
            }
        }
        board.fill(Slot::A, &filling);
        prop_assert!(matches!(board.start().verdicts[0], Verdict::Refused(_)));
    }

    #[test]
    fn no_bytes_in_a_slot_make_it_panic(keyset: Vec<u8>, envelope: Vec<u8>, image: Vec<u8>) {
        let _ = verdict(&Filling { keyset, envelope, image });
    }
}
