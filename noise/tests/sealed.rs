//! What is sealed to a key: by whom it is opened, and what becomes of what was altered or cut.
#![cfg(feature = "sealed")]

use noise::{
    Error, KEY_BYTES, OPENING_BYTES, Opener, RECORD_PLAIN_BYTES_MAX, RECORD_SEALED_BYTES_MAX, Sealer,
    StaticKey,
};
use proptest::prelude::*;

const PROLOGUE: &[u8] = b"for all to see";

fn owner() -> StaticKey {
    StaticKey::new([7; KEY_BYTES])
}

fn sealer() -> (Sealer, [u8; OPENING_BYTES]) {
    Sealer::new(&owner().public(), PROLOGUE, [9; KEY_BYTES]).expect("begun")
}

fn opener(opening: &[u8; OPENING_BYTES]) -> Opener {
    Opener::new(&owner(), PROLOGUE, opening).expect("its own")
}

fn seal(sealer: &mut Sealer, plain: &[u8], is_last: bool) -> Vec<u8> {
    let mut sealed = vec![0; RECORD_SEALED_BYTES_MAX];
    let length = sealer.seal(plain, is_last, &mut sealed).expect("sealed");
    sealed.truncate(length);
    sealed
}

/// What opened, and then whether the last of it was the last there is.
fn opened(opener: &mut Opener, records: &[Vec<u8>]) -> (Vec<Vec<u8>>, Result<bool, Error>) {
    let (mut plain, mut is_over) = (Vec::new(), false);
    for record in records {
        match opener.open(record) {
            Ok((bytes, is_last)) => {
                plain.push(bytes.to_vec());
                is_over = is_last;
            }
            Err(error) => return (plain, Err(error)),
        }
    }
    (plain, Ok(is_over))
}

/// By Python over `cryptography` (OpenSSL), which knows nothing of this code: N by the specification, a key a record by its §4.2 and §11.3.
#[test]
fn records_are_those_of_an_independent_implementation() {
    let (mut sealer, opening) = sealer();
    assert_eq!(
        hex::encode(opening),
        "57db4b359f23ae5e146e4e2512056704722506348c150c14753d0c933d04d421466d861f715c0539a2c7762534df258d"
    );
    let frozen = [
        ("first", false, "713dc538a6a7880b453542612b35771b00afa08eca98"),
        ("", false, "7ea29f373048970452fb5456c8e0046de2"),
        ("the end", true, "4055d9d00c6cd2dace6a20721da82442b9aa91b55695faf1"),
    ];
    let mut opener = opener(&opening);
    for (plain, is_last, sealed) in frozen {
        assert_eq!(hex::encode(seal(&mut sealer, plain.as_bytes(), is_last)), sealed);
        let (opened, last) = opener.open(&hex::decode(sealed).expect("hex")).expect("opened");
        assert_eq!((opened.as_slice(), last), (plain.as_bytes(), is_last));
    }
}

#[test]
fn nothing_comes_after_the_last_record() {
    let (mut sealer, opening) = sealer();
    let last = seal(&mut sealer, b"the end", true);
    assert_eq!(sealer.seal(b"more", false, &mut [0; 64]), Err(Error::NotNext));
    let mut opener = opener(&opening);
    opener.open(&last).expect("opened");
    assert_eq!(opener.open(&last).err(), Some(Error::NotNext));
}

#[test]
fn another_key_another_prologue_and_another_opening_open_nothing() {
    let (_, opening) = sealer();
    assert!(Opener::new(&StaticKey::new([8; KEY_BYTES]), PROLOGUE, &opening).is_err());
    assert!(Opener::new(&owner(), b"something else", &opening).is_err());
    assert!(Opener::new(&owner(), PROLOGUE, &[0; OPENING_BYTES]).is_err(), "a point of low order");
    assert!(Sealer::new(&[0; KEY_BYTES], PROLOGUE, [9; KEY_BYTES]).is_err(), "a key that is everybody's");
}

#[test]
fn a_record_holds_as_much_as_it_says_and_no_more() {
    let (mut sealer, opening) = sealer();
    let mut sealed = vec![0; RECORD_SEALED_BYTES_MAX];
    let most = vec![0x55; RECORD_PLAIN_BYTES_MAX];
    let more = vec![0x55; RECORD_PLAIN_BYTES_MAX + 1];
    assert_eq!(sealer.seal(&more, false, &mut sealed), Err(Error::TooLong));
    assert_eq!(sealer.seal(b"four", false, &mut [0; 20]), Err(Error::TooLong), "no room for it");
    assert_eq!(sealer.seal(&most, false, &mut sealed), Ok(RECORD_SEALED_BYTES_MAX));
    assert_eq!(*opener(&opening).open(&sealed).expect("opened").0, most);
}

proptest! {
    #[test]
    fn what_was_altered_moved_or_left_out_opens_nothing_of_it(
        plain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
        at in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        how in 0..3u8,
    ) {
        let (mut sealer, opening) = sealer();
        let last = plain.len() - 1;
        let mut records: Vec<_> =
            plain.iter().enumerate().map(|(n, plain)| seal(&mut sealer, plain, n == last)).collect();
        prop_assert_eq!(opened(&mut opener(&opening), &records), (plain.clone(), Ok(true)));
        let at = at.index(records.len());
        match how {
            0 => {
                let bit = bit.index(records[at].len() * 8);
                records[at][bit / 8] ^= 1 << (bit % 8);
            }
            1 => drop(records.remove(at)),
            _ => { let again = records[at].clone(); records.insert(at, again) }
        }
        // Of one repeated, the first is still right.
        let right = if how == 2 { at + 1 } else { at };
        let (prefix, end) = opened(&mut opener(&opening), &records);
        // Only what lost nothing but its end is right so far.
        let is_right_so_far = how == 1 && at == last;
        prop_assert_eq!(&prefix[..], &plain[..right]);
        prop_assert_eq!(end.ok(), is_right_so_far.then_some(false));
    }

    #[test]
    fn noise_is_no_record(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, opening) = sealer();
        prop_assert!(opener(&opening).open(&noise).is_err());
    }
}
