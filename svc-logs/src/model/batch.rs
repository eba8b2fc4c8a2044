//! What one message of a device may hold.
//!
//! Numbers beyond the bounds make the message malformed: no device of ours sends them. Text that is too long or holds
//! what the database cannot is changed, never refused: a record that is never acknowledged would be sent for ever.

use wire::limits::{LOG_BATCH_RECORDS_MAX, LOG_TEXT_BYTES_MAX};

use super::{Boot, Record, text};

/// Highest sequence number a boot can reach.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 62;

/// One message, checked: at most [`LOG_BATCH_RECORDS_MAX`] records of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) boot: Boot,
    pub(crate) records: Vec<Record>,
    /// Highest sequence the device lost before it was sent; 0: none.
    pub(crate) lost_up_to: u64,
    /// Records the device dropped in this boot so far, by its own count.
    pub(crate) dropped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("more than {LOG_BATCH_RECORDS_MAX} records")]
    TooManyRecords,
    #[error("a sequence number is 0 or beyond any boot's")]
    Sequence,
}

impl Batch {
    pub(crate) fn new(
        boot: Boot,
        mut records: Vec<Record>,
        lost_up_to: u64,
        dropped: u64,
    ) -> Result<Self, BatchError> {
        if records.len() > LOG_BATCH_RECORDS_MAX {
            return Err(BatchError::TooManyRecords);
        }
        let possible = |sequence: u64| (1..=SEQUENCE_MAX).contains(&sequence);
        if lost_up_to > SEQUENCE_MAX || !records.iter().all(|record| possible(record.sequence)) {
            return Err(BatchError::Sequence);
        }
        for record in &mut records {
            record.uptime_us = record.uptime_us.min(i64::MAX as u64);
            text::clean(&mut record.text, LOG_TEXT_BYTES_MAX);
        }
        Ok(Self { boot, records, lost_up_to, dropped: dropped.min(i64::MAX as u64) })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{Level, Source};

    pub(crate) const BOOT: Boot = Boot { counter: 1, random: 2 };

    pub(crate) fn record(sequence: u64) -> Record {
        Record {
            sequence,
            uptime_us: sequence,
            level: Level::Info,
            source: Source::App,
            text: format!("line {sequence}"),
        }
    }

    #[test]
    fn a_full_message_is_taken_and_one_record_more_is_not() {
        let records = |n: usize| (1..=n as u64).map(record).collect::<Vec<_>>();
        assert!(Batch::new(BOOT, records(LOG_BATCH_RECORDS_MAX), 0, 0).is_ok());
        assert_eq!(
            Batch::new(BOOT, records(LOG_BATCH_RECORDS_MAX + 1), 0, 0),
            Err(BatchError::TooManyRecords)
        );
    }

    #[test]
    fn sequences_no_boot_can_reach_are_refused() {
        for (sequence, lost, good) in [
            (1, 0, true),
            (SEQUENCE_MAX, SEQUENCE_MAX, true),
            (0, 0, false),
            (SEQUENCE_MAX + 1, 0, false),
            (u64::MAX, 0, false),
            (1, SEQUENCE_MAX + 1, false),
            (1, u64::MAX, false),
        ] {
            assert_eq!(Batch::new(BOOT, vec![record(sequence)], lost, 0).is_ok(), good, "{sequence} {lost}");
        }
    }

    #[test]
    fn overlong_text_is_cut_at_a_character_and_nul_is_replaced() {
        let cleaned = |text: String| {
            let mut record = record(1);
            record.text = text;
            Batch::new(BOOT, vec![record], 0, 0).unwrap().records.remove(0).text
        };
        assert_eq!(cleaned("x".repeat(LOG_TEXT_BYTES_MAX)).len(), LOG_TEXT_BYTES_MAX);
        assert_eq!(cleaned("x".repeat(LOG_TEXT_BYTES_MAX + 1)).len(), LOG_TEXT_BYTES_MAX);
        assert_eq!(cleaned("é".repeat(LOG_TEXT_BYTES_MAX)).len(), LOG_TEXT_BYTES_MAX);
        assert_eq!(cleaned(format!("x{}", "é".repeat(LOG_TEXT_BYTES_MAX))).len(), LOG_TEXT_BYTES_MAX - 1);
        assert_eq!(cleaned("a\0b".into()), "a\u{fffd}b");
        assert!(cleaned("\0".repeat(LOG_TEXT_BYTES_MAX)).len() <= LOG_TEXT_BYTES_MAX);
    }

    #[test]
    fn absurd_uptimes_and_counts_fit_the_database() {
        let mut extreme = record(1);
        extreme.uptime_us = u64::MAX;
        let batch = Batch::new(BOOT, vec![extreme], 0, u64::MAX).unwrap();
        assert_eq!((batch.records[0].uptime_us, batch.dropped), (i64::MAX as u64, i64::MAX as u64));
    }
}
