//! Memory of a crash on its way: asked for first, sent in a window, gone on with from wherever the service stands.

use gateway_core::crash::{CRASH_MEMORY_RETRY_MAX_MS, CRASH_MEMORY_WINDOW_BYTES, Crash};
use wire::limits::CRASH_MEMORY_CHUNK_BYTES_MAX;
use wire::msg::{self, CrashDown, CrashKind, CrashMemoryDown, CrashUp, Message as _};

use crate::probe::{RAM_AT, ram};
use crate::sim::*;
use crate::world::*;

/// All of the board's RAM but for some, so that the last chunk is a short one.
const BYTES: u32 = 4000;
const SP: u32 = RAM_AT + 4096 - 504;

/// svc-logs, as far as it matters here.
#[derive(Debug, Default)]
struct Service {
    stored: Vec<u8>,
    total: Option<u32>,
    pieces: Vec<u8>,
    boot: Option<(u32, u64)>,
    /// Messages with data.
    chunks: usize,
    /// The most that was sent beyond what was answered.
    ahead: u32,
}

impl Service {
    /// Takes a message; the answer.
    fn hear(&mut self, payload: &[u8]) -> Option<CrashMemoryDown<'static>> {
        let message = CrashUp::decode(payload).unwrap();
        let memory = message.memory?;
        assert_eq!(
            (message.boot.is_some(), message.sequence),
            (false, 0),
            "an old service would take it for a report"
        );
        let boot = memory.boot.unwrap();
        let boot = (boot.counter, boot.random);
        assert_eq!(*self.boot.get_or_insert(boot), boot);
        assert_eq!(*self.total.get_or_insert(memory.total), memory.total);
        if self.pieces.is_empty() {
            self.pieces = memory.pieces.to_vec();
        }
        assert_eq!(self.pieces, memory.pieces);
        self.chunks += usize::from(!memory.data.is_empty());
        let end = memory.offset + memory.data.len() as u32;
        self.ahead = self.ahead.max(end.saturating_sub(self.stored.len() as u32));
        if memory.offset as usize == self.stored.len() {
            self.stored.extend_from_slice(memory.data);
        }
        Some(self.word(memory.sequence))
    }

    fn word(&self, sequence: u32) -> CrashMemoryDown<'static> {
        let (counter, random) = self.boot.unwrap();
        CrashMemoryDown {
            boot: Some(msg::BootId { counter, random, ..Default::default() }),
            sequence,
            stored_up_to: self.stored.len() as u32,
            ..Default::default()
        }
    }

    fn is_whole(&self) -> bool {
        let (piece, rest) = self.pieces.as_chunks::<8>();
        let bytes = piece.iter().flat_map(|words| {
            let [at, bytes] =
                [&words[..4], &words[4..]].map(|word| u32::from_le_bytes(word.try_into().unwrap()));
            (at..at + bytes).map(ram)
        });
        rest.is_empty() && bytes.eq(self.stored.iter().copied())
    }
}

/// A device whose application has just crashed.
fn crashed() -> World {
    let mut world = World::with_app(|spec| spec.crash.memory_bytes = BYTES);
    let mut crash = Crash::new(CrashKind::Bus, 7);
    (crash.registers[13], crash.registers_known) = (SP, 1 << 13);
    let mut app = world.bench.app.borrow_mut();
    let starts = app.started.len();
    app.crash = Some(crash);
    app.running.as_mut().unwrap().1 = Behaviour::Crash;
    drop(app);
    world.until("another start", |world| world.bench.app.borrow().started.len() > starts);
    world
}

/// Answers what is said until nothing is left, or this many chunks came.
fn serve(world: &mut World, service: &mut Service, chunks: usize) {
    let until = service.chunks + chunks;
    world.until("memory", |world| {
        while service.chunks < until
            && let Some(payload) = world.take("crash")
        {
            if let Some(memory) = service.hear(&payload) {
                world.tell_channel("crash", &CrashDown { memory: Some(memory), ..Default::default() });
            }
        }
        service.chunks >= until || world.gateway.device().crash_memory().held().is_none()
    });
}

#[test]
fn the_memory_of_a_crash_goes_up_in_chunks_and_is_forgotten_when_all_is_stored() {
    let mut world = crashed();
    let mut service = Service::default();
    serve(&mut world, &mut service, usize::MAX / 2);
    assert!(service.is_whole());
    assert_eq!((service.stored.len(), service.chunks), (BYTES as usize, 4));
    assert!(service.ahead <= CRASH_MEMORY_WINDOW_BYTES);
    // Its report is another matter: it is said until that is acknowledged.
    world.until("the report", |world| {
        let said = world.take("crash");
        said.is_some_and(|payload| CrashUp::decode(&payload).unwrap().sequence == 1)
    });
}

#[test]
fn a_report_says_how_much_memory_comes_after_it_and_how_much_could_not_be_kept() {
    let mut world = crashed();
    let mut said = Vec::new();
    world.until("the report", |world| {
        said = world.take("crash").unwrap_or_default();
        CrashUp::decode(&said).is_ok_and(|report| report.sequence == 1)
    });
    let report = CrashUp::decode(&said).unwrap();
    assert_eq!((report.memory_bytes, report.memory_missed), (BYTES, 0));
    assert!(report.memory.is_none());
}

#[test]
fn an_upload_goes_on_where_the_service_stands_after_a_cut_or_a_boot_at_every_chunk() {
    for reboots in [false, true] {
        for chunks in 0..=4 {
            let mut world = crashed();
            let mut service = Service::default();
            serve(&mut world, &mut service, chunks);
            // What was said last is lost on the way, and so is its answer.
            if reboots {
                world.reboot();
            } else {
                world.cut();
            }
            world.said.clear();
            serve(&mut world, &mut service, usize::MAX / 2);
            assert!(service.is_whole(), "{chunks}, {reboots}");
            // Nothing that was stored is sent again.
            assert!(service.chunks <= 4 + usize::from(chunks > 0) * 4, "{}", service.chunks);
        }
    }
}

#[test]
fn a_service_that_forgot_some_is_sent_it_again() {
    let mut world = crashed();
    let mut service = Service::default();
    serve(&mut world, &mut service, 3);
    service.stored.truncate(CRASH_MEMORY_CHUNK_BYTES_MAX + 1);
    world.cut();
    world.said.clear();
    serve(&mut world, &mut service, usize::MAX / 2);
    assert!(service.is_whole());
}

#[test]
fn a_service_that_does_not_answer_is_asked_now_and_then_and_sent_nothing() {
    let mut world = crashed();
    let mut asked = 0;
    let hour_ms = world.bench.now_ms.get() + 3_600_000;
    while world.bench.now_ms.get() < hour_ms {
        world.pass_ms(10_000);
        while let Some(payload) = world.take("crash") {
            // One that knows nothing of memory acknowledges reports.
            let message = CrashUp::decode(&payload).unwrap();
            match &message.memory {
                Some(memory) => {
                    assert!(memory.data.is_empty());
                    asked += 1;
                }
                None => {
                    let ack =
                        CrashDown { boot: message.boot, sequence: message.sequence, ..Default::default() };
                    world.tell_channel("crash", &ack);
                }
            }
        }
    }
    assert!((10..=3_600_000 / CRASH_MEMORY_RETRY_MAX_MS + 6).contains(&asked), "{asked}");
    assert!(world.gateway.device().crash_memory().held().is_some());
    // It is there when a service comes that does.
    let mut service = Service::default();
    serve(&mut world, &mut service, usize::MAX / 2);
    assert!(service.is_whole());
}

#[test]
fn answers_for_another_report_and_damaged_ones_change_nothing() {
    let mut world = crashed();
    let mut service = Service::default();
    serve(&mut world, &mut service, 1);
    let whole = CrashMemoryDown { stored_up_to: BYTES, ..service.word(1) };
    let other = msg::BootId { counter: 9, random: 9, ..Default::default() };
    for memory in [
        CrashMemoryDown { sequence: 2, ..whole },
        CrashMemoryDown { boot: Some(other), ..whole },
        CrashMemoryDown { boot: None, ..whole },
        CrashMemoryDown { stored_up_to: BYTES - 1, ..whole },
    ] {
        world.tell_channel("crash", &CrashDown { memory: Some(memory), ..Default::default() });
        world.turn();
        assert!(world.gateway.device().crash_memory().held().is_some());
    }
    let bytes = encode(&CrashDown { memory: Some(whole), ..Default::default() });
    let topic = format!("hf/1/{}/dn/crash", world.maker.device);
    for length in 0..bytes.len() {
        world.tell(&topic, &bytes[..length]);
        world.turn();
        assert!(world.gateway.device().crash_memory().held().is_some(), "{length}");
    }
    world.tell(&topic, &bytes);
    world.turn();
    assert!(world.gateway.device().crash_memory().held().is_none());
}
