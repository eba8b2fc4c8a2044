//! Whole updates over connections that lose, repeat, reorder and break: each ends confirmed, with one stored result.

use std::collections::VecDeque;

use gateway_core::update::{Outcome, State};
use wire::directive::Order;
use wire::limits::{BLOCK_BYTES, LAYER_WINDOW_BYTES_MAX};
use wire::msg::{
    EnumValue, HelloUp, LayerDown, LayerError, LayerUp, Message as _, ResultAck, UpdateDown, UpdateState,
    UpdateUp,
};

use crate::sim::*;
use crate::world::*;

/// svc-ota in small, for one deployment; it is told by messages only, and says everything again when nothing moves.
pub(crate) struct Ota {
    bundle: Bundle,
    said: Option<UpdateState>,
    outcome: Option<UpdateState>,
    acknowledged: u32,
    asked: u32,
    /// Chunks on their way.
    chunks: VecDeque<(wire::Digest, u32)>,
    sweep_ms: u64,
    /// Every n-th message is lost, counted either way; 0: none.
    lose: usize,
    up: usize,
    down: usize,
    /// Results are stored but not acknowledged.
    withholds: bool,
    /// So many requests are refused first.
    refuses: usize,
}

impl Ota {
    pub(crate) fn new(bundle: Bundle, lose: usize) -> Ota {
        Ota {
            bundle,
            said: None,
            outcome: None,
            acknowledged: 0,
            asked: 0,
            chunks: VecDeque::new(),
            sweep_ms: 0,
            lose,
            up: 0,
            down: 0,
            withholds: false,
            refuses: 0,
        }
    }

    /// A message from the device does not arrive.
    fn loses_up(&mut self) -> bool {
        self.up += 1;
        self.lose > 0 && self.up.is_multiple_of(self.lose)
    }

    /// A message to the device does not arrive.
    fn loses_down(&mut self) -> bool {
        self.down += 1;
        self.lose > 0 && self.down.is_multiple_of(self.lose)
    }

    /// Hears what was said and answers.
    fn serve(&mut self, world: &mut World) {
        while let Some(hello) = world.take("hello") {
            if self.loses_up() {
                continue;
            }
            if let Some(result) = HelloUp::decode(&hello).unwrap().last_result {
                self.hear(world, &result);
            }
            self.direct(world);
        }
        while let Some(update) = world.take("update") {
            if self.loses_up() {
                continue;
            }
            self.hear(world, &UpdateUp::decode(&update).unwrap());
        }
        while let Some(layer) = world.take("layer") {
            if self.loses_up() {
                continue;
            }
            let request = LayerUp::decode(&layer).unwrap();
            assert!(request.length as usize <= LAYER_WINDOW_BYTES_MAX);
            let digest = wire::Digest::try_from(request.digest).unwrap();
            if self.refuses > 0 {
                self.refuses -= 1;
                let error = if self.refuses == 0 { LayerError::NotDirected } else { LayerError::Unavailable };
                let error = EnumValue::Known(error);
                let refusal =
                    LayerDown { digest: &digest.0, error, retry_after_ms: 700, ..Default::default() };
                world.tell_channel("layer", &refusal);
                continue;
            }
            self.asked += request.length;
            let offsets = (request.offset..request.offset + request.length).step_by(BLOCK_BYTES);
            self.chunks.extend(offsets.map(|offset| (digest, offset)));
        }
        if world.bench.now_ms.get() >= self.sweep_ms {
            self.sweep_ms = world.bench.now_ms.get() + 30_000;
            self.direct(world);
        }
    }

    /// Sends one chunk.
    fn feed(&mut self, world: &mut World) {
        if let Some((digest, offset)) = self.chunks.pop_front()
            && !self.loses_down()
        {
            let chunk = self.chunk(&digest, offset);
            world.tell_channel(
                "layer",
                &LayerDown { digest: &digest.0, offset, data: &chunk, ..Default::default() },
            );
        }
    }

    fn chunk(&self, digest: &wire::Digest, offset: u32) -> Vec<u8> {
        let layer = &self.bundle.layers[digest];
        let end = layer.len().min(offset as usize + BLOCK_BYTES);
        layer[offset as usize..end].to_vec()
    }

    fn hear(&mut self, world: &mut World, update: &UpdateUp<'_>) {
        assert_eq!(update.manifest_digest, self.bundle.digest.0);
        let EnumValue::Known(state) = update.state else { panic!("unknown state") };
        self.said = Some(state);
        if state as i32 >= UpdateState::Confirmed as i32 {
            assert!(self.outcome.is_none_or(|outcome| outcome == state), "one deployment has one end");
            self.outcome = Some(state);
            if !self.withholds && !self.loses_down() {
                self.acknowledged += 1;
                let result_ack =
                    Some(ResultAck { boot: update.boot, sequence: update.sequence, ..Default::default() });
                world.tell_channel("update", &UpdateDown { result_ack, ..Default::default() });
            }
        } else if state == UpdateState::Ready {
            self.direct(world);
        }
    }

    fn direct(&mut self, world: &mut World) {
        let target = self.bundle.target(1);
        if self.outcome.is_some() || self.loses_down() {
            return;
        }
        let order =
            if self.said == Some(UpdateState::Ready) { Order::Go(target) } else { Order::Install(target) };
        let directive = world.maker.directive(order, world.nonce);
        let envelope = self.bundle.envelope.clone();
        world.tell_channel(
            "update",
            &UpdateDown { directive: &directive, envelope: &envelope, ..Default::default() },
        );
    }

    pub(crate) fn run(&mut self, world: &mut World, mut meddle: impl FnMut(&mut Ota, &mut World)) {
        world.until("an end that is acknowledged", |world| {
            self.serve(world);
            meddle(self, world);
            self.feed(world);
            self.outcome.is_some() && world.gateway.device().results().is_empty()
        });
    }
}

fn directed(lose: usize) -> (World, Ota) {
    let world = World::serving();
    let bundle = world.maker.bundle(1).known_on(&world.bench);
    (world, Ota::new(bundle, lose))
}

#[test]
fn an_update_goes_through_and_asks_for_every_byte_once() {
    let (mut world, mut ota) = directed(0);
    ota.run(&mut world, |_, _| {});
    assert_eq!(ota.outcome, Some(UpdateState::Confirmed));
    assert_eq!(world.bench.running().as_deref(), Some("v1"));
    let bytes: usize = ota.bundle.layers.values().map(Vec::len).sum();
    assert_eq!(ota.asked as usize, bytes);
    assert!(world.happened.iter().any(|happening| matches!(
        happening,
        gateway_core::gateway::Happening::Result(Outcome::Confirmed, _)
    )));
}

#[test]
fn an_update_goes_through_when_every_nth_message_is_lost() {
    for lose in 2..12 {
        let (mut world, mut ota) = directed(lose);
        ota.run(&mut world, |_, _| {});
        assert_eq!(ota.outcome, Some(UpdateState::Confirmed), "every {lose}th lost");
    }
}

#[test]
fn an_update_goes_through_when_the_connection_breaks_inside_every_block() {
    let (mut world, mut ota) = directed(0);
    let mut breaks = 0;
    ota.run(&mut world, |ota, world| {
        // Half a chunk, then nothing more of this connection.
        if let Some((digest, offset)) = ota.chunks.pop_front() {
            let chunk = ota.chunk(&digest, offset);
            let message =
                encode(&LayerDown { digest: &digest.0, offset, data: &chunk, ..Default::default() });
            let topic = format!("hf/1/{}/dn/layer", world.maker.device);
            if breaks % 2 == 0 {
                let packet = rumqttc::v5::mqttbytes::v5::Publish::new(
                    topic,
                    rumqttc::v5::mqttbytes::QoS::AtMostOnce,
                    message,
                    None,
                );
                let mut bytes = bytes::BytesMut::new();
                packet.write(&mut bytes).unwrap();
                world.send(&bytes[..bytes.len() / 2]);
                world.cut();
                ota.chunks.clear();
            } else {
                world.tell(&topic, &message);
            }
            breaks += 1;
        }
    });
    assert!(breaks > 3);
    assert_eq!(ota.outcome, Some(UpdateState::Confirmed));
}

#[test]
fn an_update_goes_through_when_power_fails_again_and_again() {
    let (mut world, mut ota) = directed(0);
    let (mut turns, mut reboots) = (0, 0);
    ota.run(&mut world, |ota, world| {
        turns += 1;
        // A trial that is cut short counts as an attempt, so power stays on in it.
        let is_trial =
            world.gateway.device().progress().is_some_and(|progress| progress.state == State::Trial);
        if turns % 7 == 0 && reboots < 12 && !is_trial {
            reboots += 1;
            world.reboot();
            ota.chunks.clear();
            ota.said = None;
        }
    });
    assert!(reboots > 3, "{reboots}");
    assert_eq!(ota.outcome, Some(UpdateState::Confirmed));
}

#[test]
fn repeated_reordered_and_foreign_chunks_change_nothing() {
    let (mut world, mut ota) = directed(0);
    ota.run(&mut world, |ota, world| {
        if let Some((digest, offset)) = ota.chunks.front().copied() {
            let chunk = ota.chunk(&digest, offset);
            let good = LayerDown { digest: &digest.0, offset, data: &chunk, ..Default::default() };
            world.tell_channel("layer", &LayerDown { offset: offset + BLOCK_BYTES as u32, ..good.clone() });
            world.tell_channel("layer", &LayerDown { digest: &[9; 32], ..good.clone() });
            world.tell_channel("layer", &LayerDown { digest: &[9; 5], ..good.clone() });
            world.tell_channel("layer", &good);
            world.tell_channel("layer", &good);
        }
        ota.chunks.make_contiguous().reverse();
    });
    assert_eq!(ota.outcome, Some(UpdateState::Confirmed));
    assert_eq!(world.bench.running().as_deref(), Some("v1"));
}

#[test]
fn a_chunk_with_other_bytes_is_refused_counted_and_asked_for_again() {
    let (mut world, mut ota) = directed(0);
    let mut spoiled = 0;
    ota.run(&mut world, |ota, world| {
        if spoiled < 3
            && let Some((digest, offset)) = ota.chunks.front().copied()
        {
            let mut chunk = ota.chunk(&digest, offset);
            chunk[100] ^= 1;
            world.tell_channel(
                "layer",
                &LayerDown { digest: &digest.0, offset, data: &chunk, ..Default::default() },
            );
            spoiled += 1;
        }
    });
    assert_eq!(ota.outcome, Some(UpdateState::Confirmed));
    assert!(world.gateway.device().counters().blocks_refused > 0);
}

#[test]
fn a_service_that_cannot_read_a_layer_is_asked_again_later() {
    let (mut world, mut ota) = directed(0);
    ota.refuses = 5;
    ota.run(&mut world, |_, _| {});
    assert_eq!((ota.outcome, ota.refuses), (Some(UpdateState::Confirmed), 0));
}

#[test]
fn a_result_is_said_again_until_it_is_acknowledged_also_after_a_reboot() {
    let (mut world, mut ota) = directed(0);
    ota.withholds = true;
    let mut said = 0;
    world.until("a result said six times", |world| {
        for (topic, update) in world.said.iter().filter(|(topic, _)| topic.ends_with("update")) {
            let update = UpdateUp::decode(update).unwrap();
            said += usize::from(update.state == EnumValue::Known(UpdateState::Confirmed));
            assert!(topic.contains("/up/"));
        }
        ota.serve(world);
        ota.feed(world);
        if said == 3 {
            said += 1;
            world.reboot();
        }
        said == 7
    });
    ota.withholds = false;
    ota.run(&mut world, |_, _| {});
    assert_eq!((ota.outcome, ota.acknowledged), (Some(UpdateState::Confirmed), 1));
}

#[test]
fn a_device_that_nobody_lets_go_stays_ready_and_says_so() {
    let (mut world, mut ota) = directed(0);
    let mut readies = 0;
    world.until("ready said four times", |world| {
        while let Some(update) = world.take("update") {
            let update = UpdateUp::decode(&update).unwrap();
            readies += usize::from(update.state == EnumValue::Known(UpdateState::Ready));
        }
        ota.serve(world);
        ota.feed(world);
        readies == 4
    });
    assert_eq!(world.bench.running(), None);
}

#[test]
fn a_version_that_is_never_healthy_is_taken_back_and_says_why() {
    let (mut world, mut good) = directed(0);
    good.run(&mut world, |_, _| {});
    let bundle = world.maker.bundle_of(2, Behaviour::NeverHealthy, |_| {}).known_on(&world.bench);
    let mut bad = Ota::new(bundle, 3);
    let target = bad.bundle.target(1);
    assert_ne!(target.manifest, good.bundle.digest);
    world.until("taken back", |world| {
        // The same deployment id would be the same deployment: the manifest tells them apart.
        bad.serve(world);
        bad.feed(world);
        bad.outcome.is_some() && world.gateway.device().results().is_empty()
    });
    assert_eq!(bad.outcome, Some(UpdateState::Reverted));
    assert_eq!(world.bench.running().as_deref(), Some("v1"));
}
