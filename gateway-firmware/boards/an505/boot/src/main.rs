//! The first stage: verifies and picks the microvisor, and nothing else. It never changes on a board.
//!
//! What it decides is the core's (`boot::first`), on a host's tests. Here: the watchdog runs before anything else does,
//! every step is a line on the console, and if nothing may run, the watchdog starts it all again in 16 seconds, for ever.
#![no_std]
#![no_main]

mod heap;
mod memory;
mod say;
mod start;

use chip::flash::Window;
use chip::map::{flash, secure};
use chip::uart::Uart;
use chip::{clock, kept, watchdog};
use gateway_core::boot::first::{
    ARMED, Chosen, Entry, Given, Handover, Machine, Outcome, Parts, Scratch, Slot, SlotLayout, Verdict,
    cause, choose, reason_name,
};
use gateway_core::ports::BootReason;
use gateway_core::provision;
use wire::cose::P256;

use say::Piece::{Number, Text};
use say::say;

/// The board's name in manifests.
const BOARD: &str = "an505";
const LAYOUT: SlotLayout = SlotLayout {
    keyset_at: flash::SLOT_KEYSET,
    envelope_at: flash::SLOT_ENVELOPE,
    image_at: flash::SLOT_IMAGE,
    image_bytes: secure::MICROVISOR_BYTES,
};

/// Where `start` brings the machine. It returns when nothing may run.
#[unsafe(no_mangle)]
extern "C" fn boot_main() {
    watchdog::start();
    clock::start();
    let mut console = Uart::console();
    let reason = cause(kept::cause());
    kept::set_cause(ARMED);
    say(&mut console, &[Text(env!("CARGO_PKG_VERSION")), Text(" after "), Text(reason_name(reason))]);
    match run(&mut console, reason) {
        Some(entry) => start::microvisor(entry),
        None => say(&mut console, &[Text("nothing may run, again in 16 s")]),
    }
}

/// Chooses, tells, and leaves the handover; where to jump.
fn run(console: &mut Uart, reason: BootReason) -> Option<Entry> {
    let roots = match provision::roots(chip::flash::provision()) {
        Ok(roots) => roots,
        Err(error) => {
            say(console, &[Text("provisioning "), Text(error.name())]);
            return None;
        }
    };
    let given = Given {
        machine: Machine {
            board: BOARD,
            code_at: secure::MICROVISOR_AT,
            stack: secure::RAM_AT..=secure::RAM_AT + secure::RAM_BYTES,
        },
        root_key_hashes: &roots.hashes,
        root_threshold: roots.threshold,
    };
    let parts = Parts {
        record: &mut Window::boot_record(),
        slots: [&mut Window::slot(0), &mut Window::slot(1)],
        layout: LAYOUT,
        place: place(),
        scratch: &mut Scratch::new(),
    };
    let outcome = choose(parts, &given, &P256);
    tell(console, &outcome);
    let chosen = outcome.chosen.as_ref()?;
    kept::set_handover(&Handover::new(chosen, &outcome, reason).encode());
    Some(chosen.microvisor.entry)
}

fn tell(console: &mut Uart, outcome: &Outcome) {
    let record = &outcome.record;
    let trial = record.trial.map_or("none", Slot::name);
    say(
        console,
        &[
            Text("record "),
            Text(outcome.record_health.name()),
            Text(", active "),
            Text(record.active.name()),
            Text(", trial "),
            Text(trial),
            Text(", attempts "),
            Number(record.attempts.into()),
            Text(", floor "),
            Number(record.floor),
            Text(", revoked "),
            Number(record.revoked.into()),
        ],
    );
    for slot in Slot::BOTH {
        if let Verdict::Refused(reason) = outcome.verdicts[slot.index()] {
            say(console, &[Text("slot "), Text(slot.name()), Text(" refused: "), Text(reason.name())]);
        }
    }
    let Some(Chosen { slot, attempt, microvisor }) = &outcome.chosen else { return };
    say(
        console,
        &[
            Text("slot "),
            Text(slot.name()),
            Text(" runs: version "),
            Text(&microvisor.version),
            Text(", counter "),
            Number(microvisor.security_counter),
            Text(", keyset "),
            Number(microvisor.keyset_version.into()),
            Text(", attempt "),
            Number((*attempt).into()),
            Text(", after us "),
            Number(clock::now_us()),
        ],
    );
}

/// Where the microvisor runs.
fn place() -> &'static mut [u8] {
    // SAFETY: RAM that no image of this stage covers, always mapped, and named by this one call of the one start.
    unsafe {
        core::slice::from_raw_parts_mut(secure::MICROVISOR_AT as *mut u8, secure::MICROVISOR_BYTES as usize)
    }
}

/// No panic is left in what the linker keeps, or the watchdog resets the board.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
