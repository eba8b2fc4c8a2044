//! The walls without a first stage, a store or a network: for tests under `-icount`, where every run is the same.
//!
//! An application lies in the store flash as it is, [`IMAGE_BYTES`] of it. A supervisor that computes nearly all the time
//! starts it, starts it again whenever it ends, and says on the console what it hears. After [`RUN_US`] it prints how the
//! core was shared and resets the machine.
#![no_std]
#![no_main]

use core::fmt::Write as _;

use chip::clock;
use chip::map::flash;
use chip::uart::Uart;
use gateway_core::crash::Crash;
use gateway_core::net::demand::Network;
use gateway_core::ports::{App as _, BootReason, Flash, FlashError, Geometry, Image, Life, StartReason};
use microvisor::application::{Application, EVENTS_MAX, Event, take_event};
use microvisor::gateway::{Facts, WakeReason, publish, telemetry};
use microvisor::stacks::Stack;
use microvisor::{schedule, world};

const IMAGE_BYTES: u32 = 64 * 1024;
const RUN_US: u64 = 12_000_000;
/// Computes for about so long, then sleeps for a moment.
const WORK_US: u64 = 20_000;
const SLEEP_US: u64 = 300;
const TELEMETRY_ROOM_BYTES: usize = 2048;
const DEVICE_ID: [u8; 34] = *b"dv0123456789abcdef0123456789abcdef";

#[unsafe(no_mangle)]
extern "C" fn microvisor_main() -> ! {
    clock::start();
    world::raise();
    schedule::start(supervisor)
}

extern "C" fn supervisor() -> ! {
    let mut console = Uart::console();
    let mut application = Application::default();
    publish(Facts {
        device_id: Some(DEVICE_ID),
        wall_us_at_zero: Some(1_700_000_000_000_000),
        boot: WakeReason::ColdBoot,
        network: Network::new(),
        log_enabled: true,
        may_restart: true,
    });
    telemetry::has_room(TELEMETRY_ROOM_BYTES);
    let _ = writeln!(console, "walls: up");
    let mut starts = 0;
    while clock::now_us() < RUN_US {
        let status = application.status();
        if status.life != Life::Running {
            if let Some(crash) = application.take_crash() {
                let Crash { kind, registers_known, stack_at, .. } = crash;
                let (bytes, [.., sp, lr, pc, xpsr]) = (crash.stack.len(), crash.registers);
                let _ = writeln!(
                    console,
                    "walls: crash {kind:?} known {registers_known:05x} sp {sp:08x} lr {lr:08x} pc {pc:08x} \
                     xpsr {xpsr:08x}, {bytes} bytes at {stack_at:08x}, {:x?}",
                    crash.status
                );
            }
            starts += 1;
            let reason = if starts == 1 { StartReason::Boot } else { StartReason::Crash };
            let started = application.start(Image { slot: 0, at: 0, bytes: IMAGE_BYTES }, &mut Store, reason);
            if started.is_err() {
                let _ = writeln!(console, "walls: {started:?}");
                break;
            }
        }
        work();
        telemetry::take(|_, _| TELEMETRY_ROOM_BYTES);
        for event in core::iter::from_fn(|| take_event(true)).take(EVENTS_MAX) {
            match event {
                Event::Log { text, .. } => _ = writeln!(console, "walls: log {text}"),
                Event::Healthy => _ = writeln!(console, "walls: healthy"),
                // A level, which is looked at below.
                Event::Restart => {}
                Event::Fault(record) => {
                    let (kind, pc) = (record.kind, record.frame.map(|frame| frame.pc));
                    let (sfsr, cfsr) = (record.faults.sfsr, record.faults.cfsr);
                    let _ = writeln!(console, "walls: fault {kind:?} pc {pc:x?} sfsr {sfsr:x} cfsr {cfsr:x}");
                }
            }
        }
        if application.status().apply {
            let _ = writeln!(console, "walls: restart");
            application.stop();
        }
        schedule::idle(Some(clock::now_us() + SLEEP_US));
    }
    let _ = writeln!(console, "walls: {starts} starts, {:?}", schedule::statistics());
    for (name, stack) in [("handler", Stack::handler()), ("gateway", Stack::gateway())] {
        let _ = writeln!(console, "walls: {name} stack {} of {} bytes", stack.used_bytes(), stack.bytes());
    }
    chip::reset::now(BootReason::Software)
}

/// What a handshake does to the core, as far as the scheduler sees it.
fn work() {
    let until_us = clock::now_us() + WORK_US;
    let mut hash = 0x811c_9dc5u32;
    while clock::now_us() < until_us {
        hash = (0..500u32).fold(hash, |hash, byte| (hash ^ byte).wrapping_mul(0x0100_0193));
        core::hint::black_box(hash);
    }
}

/// The store flash as it lies there.
#[derive(Debug)]
struct Store;

impl Flash for Store {
    fn geometry(&self) -> Geometry {
        Geometry {
            bytes: flash::STORE_BYTES,
            erase_bytes: flash::ERASE_BYTES,
            write_bytes: 1,
            write_once: false,
        }
    }

    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let inside = at.checked_add(into.len() as u32).is_some_and(|end| end <= flash::STORE_BYTES);
        if !inside {
            return Err(FlashError::Range);
        }
        // SAFETY: inside of the flash, which nobody writes here.
        into.copy_from_slice(unsafe {
            core::slice::from_raw_parts((flash::AT + flash::STORE + at) as *const u8, into.len())
        });
        Ok(())
    }

    fn write(&mut self, _at: u32, _bytes: &[u8]) -> Result<(), FlashError> {
        Err(FlashError::Failed)
    }

    fn erase(&mut self, _at: u32) -> Result<(), FlashError> {
        Err(FlashError::Failed)
    }
}
