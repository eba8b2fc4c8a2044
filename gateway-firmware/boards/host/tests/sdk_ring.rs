//! The Rust SDK's reader of a notification centre's records, beside a writer like the microvisor's. It is tried here because its
//! crate is built for the board alone.

use ring::{Event, Reader, Record, Ring};

#[expect(unsafe_code, reason = "a ring is written by another than its reader")]
#[expect(unreachable_pub, reason = "what the SDK publishes")]
#[path = "../../../sdk/rust/src/ring.rs"]
mod ring;

/// The microvisor's side of a ring: what is written where, and when.
struct Writer {
    at: *mut Record,
    records: usize,
    next: usize,
    now_us: u64,
}

impl Writer {
    fn post(&mut self, tag: u32) {
        self.now_us += 10;
        let record = Record { microseconds: self.now_us, event: 1, tag };
        #[expect(unsafe_code, reason = "a ring is written by another than its reader")]
        // SAFETY: `next` is below `records`; one thread.
        unsafe {
            self.at.add(self.next).write_volatile(record);
        }
        self.next = (self.next + 1) % self.records;
    }
}

fn ring<const RECORDS: usize>() -> (Writer, Reader) {
    let ring: &'static Ring<RECORDS> = Box::leak(Box::new(Ring::new()));
    (Writer { at: ring.at(), records: RECORDS, next: 0, now_us: 0 }, Reader::new(ring))
}

fn tags(reader: &mut Reader) -> Vec<Option<u32>> {
    std::iter::from_fn(|| reader.take())
        .map(|event| match event {
            Event::Record(record) => Some(record.tag),
            Event::Overrun => None,
        })
        .collect()
}

#[test]
fn records_are_read_in_order_and_an_overrun_is_seen() {
    let (mut writer, mut reader) = ring::<4>();
    assert_eq!(tags(&mut reader), []);
    for round in 0..5 {
        // As many as may wait, from every place of the ring.
        (0..3).for_each(|tag| writer.post(tag));
        assert_eq!(tags(&mut reader), [0, 1, 2].map(Some), "round {round}");
        writer.post(9);
        assert_eq!(tags(&mut reader), [Some(9)]);
    }
    // A full ring may be one that went round: nothing is lost without a word, wherever the writer stopped.
    for lost in 0..10 {
        (0..4 + lost).for_each(|tag| writer.post(tag));
        let left = (lost..4 + lost).map(Some);
        assert_eq!(tags(&mut reader), [None].into_iter().chain(left).collect::<Vec<_>>(), "{lost} lost");
    }
}
