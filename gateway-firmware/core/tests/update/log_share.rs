//! The log's two kinds of records, as a board sees them.

use gateway_core::device::BootId;
use gateway_core::logs::{KEPT_HEAD_BYTES, Ring};
use wire::msg::{EnumValue, LogLevel, LogSource, LogUp, Message as _};

#[test]
fn the_applications_records_push_out_none_of_the_microvisors() {
    the_microvisors_records_stay();
}

pub(crate) fn the_microvisors_records_stay() {
    let mut memory = vec![0; KEPT_HEAD_BYTES + 2048];
    let mut ring = Ring::new(&mut memory, BootId { counter: 1, random: 2 });
    for index in 0..10 {
        ring.note(index, LogLevel::Info, format_args!("it goes on"));
        for _ in 0..200 {
            ring.push(0, LogLevel::Info, LogSource::App, "and on and on");
        }
    }
    let mut held = 0;
    while let Some(batch) = ring.batch(4096) {
        let last = batch.last;
        let message = LogUp::decode(batch.records).unwrap();
        held += message
            .records
            .iter()
            .filter(|record| record.as_ref().unwrap().source == EnumValue::Known(LogSource::Microvisor))
            .count();
        ring.stored_up_to(last);
    }
    assert_eq!(held, 10);
}
