//! A transcript as a file: records sealed to its owner, one behind the other (docs/decisions/0023).
//!
//! ```text
//! "holdfast transcript 1\n"  owner's public key (32)  opening (48)  then, until the last: length (2, the highest byte first)  sealed record
//! ```
//!
//! Whoever writes one cannot read it. Whoever reads one gets what was written, in order and from the beginning, up to where it was altered or cut:
//! never anything else.

use std::io::{self, Read, Write};

use noise::{
    KEY_BYTES, OPENING_BYTES, Opener, PublicKey, RECORD_PLAIN_BYTES_MAX, RECORD_SEALED_BYTES_MAX, Sealer,
    StaticKey,
};
use prost::Message as _;
use proto::debug::v1::TranscriptRecord;
use zeroize::Zeroizing;

/// Names format and version; both sides have it in their prologue.
const MAGIC: &[u8; 22] = b"holdfast transcript 1\n";
/// What is the same in every version.
const MAGIC_OF_ALL: &[u8] = b"holdfast transcript ";
const LENGTH_BYTES: usize = 2;
const _: () = assert!(RECORD_SEALED_BYTES_MAX <= u16::MAX as usize);

/// What a record is longer by when it is sealed.
const SEAL_BYTES: usize = RECORD_SEALED_BYTES_MAX - RECORD_PLAIN_BYTES_MAX;

/// The longest record.
pub(crate) const RECORD_BYTES_MAX: usize = RECORD_PLAIN_BYTES_MAX;

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a record of {0} bytes is longer than {RECORD_BYTES_MAX}")]
    TooLong(usize),
    #[error("the key it is for is no X25519 key")]
    Key,
    #[error("it is at its end already")]
    Over,
}

/// Why there is nothing more to be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is not a transcript of `holdfast debug --record`")]
    NotOne,
    #[error("was written by another version of holdfast, in a format that this one does not know")]
    OtherVersion,
    #[error("is sealed to {}, and the key is {}: name the key of that public half with --key", hex::encode(.owner), hex::encode(.key))]
    OtherKey { owner: PublicKey, key: PublicKey },
    #[error(
        "was altered or damaged after record {0}: what comes before is as it was written, and nothing behind it can be believed"
    )]
    Altered(u64),
    #[error(
        "ends after record {0} without its end: it was cut off, or `holdfast debug` was killed; what there is is as it was written"
    )]
    Cut(u64),
    #[error("goes on behind its end (record {0}): somebody put something there that is not of this session")]
    Trailing(u64),
    #[error(
        "has a record that cannot be read ({0}), though it is as it was written: is it of a newer holdfast?"
    )]
    Unreadable(u64),
}

/// What is written as records.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    into: W,
    sealer: Sealer,
}

impl<W: Write> Writer<W> {
    /// Writes what comes before the first record.
    pub(crate) fn begin(mut into: W, owner: &PublicKey) -> Result<Writer<W>, WriteError> {
        let (sealer, opening) = Sealer::new(owner, MAGIC, rand::random()).map_err(|_| WriteError::Key)?;
        into.write_all(&[&MAGIC[..], owner, &opening].concat())?;
        Ok(Writer { into, sealer })
    }

    /// When it returns, the record is the file's. After an error nothing more may be written.
    pub(crate) fn write(&mut self, record: &TranscriptRecord, is_last: bool) -> Result<(), WriteError> {
        let plain = Zeroizing::new(record.encode_to_vec());
        if plain.len() > RECORD_BYTES_MAX {
            return Err(WriteError::TooLong(plain.len()));
        }
        let mut framed = vec![0; LENGTH_BYTES + plain.len() + SEAL_BYTES];
        let (head, sealed) = framed.split_at_mut(LENGTH_BYTES);
        let length = self.sealer.seal(&plain, is_last, sealed).map_err(|_| WriteError::Over)?;
        head.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        // In one piece: a process that is killed leaves whole records, almost always.
        self.into.write_all(&framed[..LENGTH_BYTES + length])?;
        Ok(())
    }

    pub(crate) fn file(&self) -> &W {
        &self.into
    }
}

/// What is read back.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    opener: Opener,
    /// Records read.
    read: u64,
    is_over: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn open(mut from: R, key: &StaticKey) -> Result<Reader<R>, ReadError> {
        let mut magic = [0; MAGIC.len()];
        let length = fill(&mut from, &mut magic)?;
        match &magic[..length] {
            whole if whole == MAGIC => {}
            // Nothing at all is no beginning of one.
            begun if !begun.is_empty() && MAGIC.starts_with(begun) => return Err(ReadError::Cut(0)),
            other if other.starts_with(MAGIC_OF_ALL) => return Err(ReadError::OtherVersion),
            _ => return Err(ReadError::NotOne),
        }
        let (mut owner, mut opening) = ([0; KEY_BYTES], [0; OPENING_BYTES]);
        if fill(&mut from, &mut owner)? < KEY_BYTES || fill(&mut from, &mut opening)? < OPENING_BYTES {
            return Err(ReadError::Cut(0));
        }
        if owner != key.public() {
            return Err(ReadError::OtherKey { owner, key: key.public() });
        }
        let opener = Opener::new(key, MAGIC, &opening).map_err(|_| ReadError::Altered(0))?;
        Ok(Reader { from, opener, read: 0, is_over: false })
    }

    /// The next record; none after the last. After an error there is nothing more.
    pub(crate) fn next(&mut self) -> Result<Option<TranscriptRecord>, ReadError> {
        let mut head = [0; LENGTH_BYTES];
        let length = fill(&mut self.from, &mut head)?;
        if self.is_over {
            return if length == 0 { Ok(None) } else { Err(ReadError::Trailing(self.read)) };
        }
        let mut sealed = vec![0; usize::from(u16::from_be_bytes(head))];
        if length < LENGTH_BYTES || fill(&mut self.from, &mut sealed)? < sealed.len() {
            return Err(ReadError::Cut(self.read));
        }
        let (plain, is_last) = self.opener.open(&sealed).map_err(|_| ReadError::Altered(self.read))?;
        self.read += 1;
        self.is_over = is_last;
        TranscriptRecord::decode(plain.as_slice()).map(Some).map_err(|_| ReadError::Unreadable(self.read))
    }
}

/// As much as there is; less than asked only at the end.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::debug::v1::TranscriptEnd;
    use proto::debug::v1::transcript_record::Event;

    pub(crate) fn owner() -> StaticKey {
        StaticKey::new([7; KEY_BYTES])
    }

    fn record(at_us: u64, said: &[u8]) -> TranscriptRecord {
        TranscriptRecord { at_us, event: Some(Event::GdbSaid(said.to_vec())) }
    }

    /// A transcript of these, the last one being the end.
    pub(crate) fn written(records: &[TranscriptRecord]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, &owner().public()).unwrap();
        for (n, record) in records.iter().enumerate() {
            writer.write(record, n + 1 == records.len()).unwrap();
        }
        file
    }

    /// What there is, and how it ends.
    pub(crate) fn read(file: &[u8], key: &StaticKey) -> (Vec<TranscriptRecord>, Result<(), ReadError>) {
        let mut records = Vec::new();
        let mut reader = match Reader::open(file, key) {
            Ok(reader) => reader,
            Err(error) => return (records, Err(error)),
        };
        loop {
            match reader.next() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => return (records, Ok(())),
                Err(error) => return (records, Err(error)),
            }
        }
    }

    #[test]
    fn what_was_written_is_read_back_by_the_owner_alone() {
        let records = [record(1, b"first"), record(2, b""), record(3, b"last")];
        let file = written(&records);
        let (back, end) = read(&file, &owner());
        assert!(end.is_ok() && back == records);
        let other = StaticKey::new([8; KEY_BYTES]);
        let (back, end) = read(&file, &other);
        assert!(back.is_empty() && matches!(end, Err(ReadError::OtherKey { .. })));
        let words = end.unwrap_err().to_string();
        assert!(words.contains(&hex::encode(owner().public())) && words.contains("--key"), "{words}");
        // Who says that it is theirs has still not the key.
        let mut claimed = file;
        claimed[MAGIC.len()..MAGIC.len() + KEY_BYTES].copy_from_slice(&other.public());
        assert!(matches!(read(&claimed, &other), (back, Err(ReadError::Altered(0))) if back.is_empty()));
        assert!(matches!(Writer::begin(Vec::new(), &[0; KEY_BYTES]), Err(WriteError::Key)));
    }

    #[test]
    fn what_is_no_transcript_is_told_from_one_of_another_version_and_one_that_was_cut() {
        let read = |file: &[u8]| read(file, &owner()).1.unwrap_err();
        assert!(matches!(read(b""), ReadError::NotOne));
        assert!(matches!(read(b"\x7fELF and so on, for as long as it takes"), ReadError::NotOne));
        assert!(matches!(read(b"holdfast transcript 2\nwhatever"), ReadError::OtherVersion));
        assert!(matches!(read(b"holdfast tr"), ReadError::Cut(0)));
        let mut longer = written(&[record(1, b"x")]);
        longer.push(0);
        assert!(matches!(read(&longer), ReadError::Trailing(1)));
    }

    #[test]
    fn a_record_is_as_long_as_it_may_be_and_no_longer() {
        // Tag and length of the time, tag and length of the bytes.
        let most = record(1, &vec![0; RECORD_BYTES_MAX - 2 - 4]);
        assert_eq!(most.encoded_len(), RECORD_BYTES_MAX);
        let file = written(&[most.clone(), record(2, b"")]);
        assert_eq!(read(&file, &owner()).0[0], most);
        let mut writer = Writer::begin(Vec::new(), &owner().public()).unwrap();
        let more = record(1, &vec![0; RECORD_BYTES_MAX - 2 - 4 + 1]);
        assert!(matches!(writer.write(&more, false), Err(WriteError::TooLong(_))));
    }

    #[test]
    fn nothing_is_written_behind_the_end() {
        let mut writer = Writer::begin(Vec::new(), &owner().public()).unwrap();
        let end = TranscriptRecord { at_us: 1, event: Some(Event::End(TranscriptEnd::default())) };
        writer.write(&end, true).unwrap();
        assert!(matches!(writer.write(&record(2, b"more"), false), Err(WriteError::Over)));
    }

    fn any_records() -> impl Strategy<Value = Vec<TranscriptRecord>> {
        prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..60)), 1..8)
            .prop_map(|all| all.iter().map(|(at, said)| record(*at, said)).collect())
    }

    proptest! {
        #[test]
        fn one_that_is_cut_anywhere_is_right_up_to_there_and_known_to_be_cut(records in any_records(), at in any::<prop::sample::Index>()) {
            let file = written(&records);
            let (back, end) = read(&file[..at.index(file.len())], &owner());
            prop_assert!(back.len() < records.len() && back == records[..back.len()]);
            prop_assert!(matches!(end, Err(ReadError::Cut(n)) if n == back.len() as u64) || matches!(end, Err(ReadError::NotOne)));
        }

        #[test]
        fn one_of_which_any_bit_is_another_is_right_up_to_there_and_known_to_be_altered(
            records in any_records(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut file = written(&records);
            let bit = at.index(file.len() * 8);
            file[bit / 8] ^= 1 << (bit % 8);
            let (back, end) = read(&file, &owner());
            prop_assert!(back.len() < records.len() && back == records[..back.len()]);
            prop_assert!(end.is_err());
        }

        #[test]
        fn any_bytes_at_all_are_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..300), is_begun: bool) {
            let whole = written(&[record(1, b"")]);
            let begun = [&whole[..MAGIC.len() + KEY_BYTES + OPENING_BYTES], &noise].concat();
            let (back, end) = read(if is_begun { &begun } else { &noise }, &owner());
            prop_assert!(back.is_empty() && end.is_err());
        }
    }
}
