//! Log records: kept until stored, in order, and never missing in silence.

use std::collections::BTreeMap;

use wire::msg::{self, EnumValue, LogDown, LogLevel, LogSource, LogUp, Message as _};

use crate::world::*;

/// svc-logs in small: stores what comes and answers with the contiguous prefix.
#[derive(Default)]
struct Store {
    records: BTreeMap<u64, String>,
    lost_up_to: u64,
}

impl Store {
    fn take(&mut self, batch: &[u8]) -> u64 {
        let batch = LogUp::decode(batch).unwrap();
        for record in batch.records.iter() {
            let record = record.unwrap();
            let text = format!("{:?} {}", record.source, record.text);
            assert_eq!(self.records.insert(record.sequence, text.clone()).unwrap_or(text.clone()), text);
        }
        self.lost_up_to = self.lost_up_to.max(batch.lost_up_to);
        let mut prefix = 0;
        while self.records.contains_key(&(prefix + 1)) || prefix < self.lost_up_to {
            prefix += 1;
        }
        prefix
    }
}

fn acknowledge(world: &mut World, stored_up_to: u64) {
    let boot = world.gateway.device().boot_id();
    let boot = msg::BootId { counter: boot.counter, random: boot.random, ..Default::default() };
    world.tell_channel("log", &LogDown { boot: Some(boot), stored_up_to, ..Default::default() });
}

#[test]
fn every_record_arrives_when_every_third_batch_and_every_second_answer_is_lost() {
    let mut world = World::serving();
    let mut store = Store::default();
    for index in 0..40 {
        world.gateway.app_log(LogLevel::Info, &format!("line {index}"));
    }
    let (mut batches, mut answers) = (0, 0);
    world.until("all stored", |world| {
        while let Some(batch) = world.take("log") {
            batches += 1;
            if batches % 3 == 0 {
                continue;
            }
            let prefix = store.take(&batch);
            answers += 1;
            if answers % 2 == 1 {
                acknowledge(world, prefix);
            }
        }
        world.gateway.logs().is_empty()
    });
    let app: Vec<&String> = store.records.values().filter(|text| text.contains("line")).collect();
    assert_eq!(app.len(), 40);
    assert!(app[0].contains(&format!("{:?}", EnumValue::Known(LogSource::App))));
    assert_eq!(store.lost_up_to, 0);
    let sequences: Vec<u64> = store.records.keys().copied().collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
}

#[test]
fn what_a_full_ring_dropped_is_said_and_the_newest_are_kept() {
    let mut world = World::serving();
    world.cut();
    world.unreachable = true;
    for index in 0..1000 {
        world.gateway.app_log(LogLevel::Info, &format!("line {index}"));
    }
    world.unreachable = false;
    let mut store = Store::default();
    world.until("all stored", |world| {
        while let Some(batch) = world.take("log") {
            let prefix = store.take(&batch);
            acknowledge(world, prefix);
        }
        world.gateway.logs().is_empty()
    });
    assert!(store.lost_up_to > 0);
    let newest = *store.records.keys().last().unwrap();
    for sequence in store.lost_up_to + 1..=newest {
        assert!(store.records.contains_key(&sequence), "{sequence}");
    }
    assert!(store.records.values().any(|text| text.contains("line 999")));
}

#[test]
fn an_acknowledgement_for_another_boot_or_beyond_the_last_record_forgets_nothing() {
    let mut world = World::serving();
    world.gateway.app_log(LogLevel::Info, "keep me");
    let other = msg::BootId { counter: 1, random: 99, ..Default::default() };
    world.tell_channel("log", &LogDown { boot: Some(other), stored_up_to: 1, ..Default::default() });
    acknowledge(&mut world, 10_000);
    assert!(!world.gateway.logs().is_empty());
}

#[test]
fn the_service_sets_the_level() {
    let mut world = World::serving();
    world.tell_channel("log", &LogDown { level: EnumValue::Known(LogLevel::Error), ..Default::default() });
    let before = world.gateway.logs().current().next_sequence();
    world.gateway.app_log(LogLevel::Info, "not now");
    assert_eq!(world.gateway.logs().current().next_sequence(), before);
    world.gateway.app_log(LogLevel::Error, "now");
    assert_eq!(world.gateway.logs().current().next_sequence(), before + 1);
}
