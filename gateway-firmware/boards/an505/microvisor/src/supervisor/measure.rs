//! What the microvisor costs, as it knows it itself: said on the console now and then, as `bench NAME VALUE`.
//!
//! `cargo dev bench board` and the scenarios read it. Nothing depends on it.

use chip::clock::now_us;

use crate::net::heap;
use crate::net::lan9118::Counters;
use crate::schedule;
use crate::shared::Shared;
use crate::stacks;

use super::tell::say_plainly;

/// Between two tellings.
const EVERY_US: u64 = 2_000_000;

/// What was measured outside of the scheduler.
#[derive(Debug, Default)]
pub(super) struct Measure {
    dialed_us: u64,
    handshake_us: Option<u64>,
    told_us: u64,
    /// When the frames that this turn works on began to come.
    brought_us: Option<u64>,
}

/// When the Ethernet controller first had something since a turn last asked; 0: it had nothing.
static BROUGHT_US: Shared<u64> = Shared::new(0);

/// The Ethernet controller asks for something. From its interrupt.
pub(super) fn brought() {
    let now_us = now_us();
    BROUGHT_US.with(|held| {
        if *held == 0 {
            *held = now_us;
        }
    });
}

impl Measure {
    /// A connection is begun.
    pub(super) fn dialed(&mut self) {
        self.dialed_us = now_us();
    }

    /// It is open: a name, TCP and TLS later.
    pub(super) fn opened(&mut self) {
        self.handshake_us = Some(now_us().saturating_sub(self.dialed_us));
    }

    /// A turn begins.
    pub(super) fn turns(&mut self) {
        let brought_us = BROUGHT_US.with(core::mem::take);
        if brought_us != 0 {
            self.brought_us = Some(brought_us);
        }
    }

    /// A directive was taken, and what it names is fetched: says how long after the interrupt that brought it.
    pub(super) fn update_started(&mut self) {
        if let Some(brought_us) = self.brought_us {
            say_plainly(format_args!("bench update_start_us {}", now_us().saturating_sub(brought_us)));
        }
    }

    /// Says it all, if it is time.
    pub(super) fn tell(&mut self, frames: Counters) {
        let Some(handshake_us) = self.handshake_us else { return };
        if now_us() < self.told_us + EVERY_US {
            return;
        }
        self.told_us = now_us();
        let statistics = schedule::statistics();
        let (_, heap_used_max) = heap::usage();
        let [handler, gateway, supervisor] = stacks::used_bytes();
        say_plainly(format_args!("bench handshake_ms {}.{:03}", handshake_us / 1000, handshake_us % 1000));
        say_plainly(format_args!("bench app_pause_max_us {}", statistics.app_pause_max_us));
        say_plainly(format_args!("bench ns_irq_wait_max_us {}", statistics.ns_irq_wait_max_us));
        let both_us = statistics.app_us + statistics.supervisor_us;
        let thousandths = (statistics.app_us * 1000).checked_div(both_us).unwrap_or(1000);
        say_plainly(format_args!("bench app_cpu_share {}.{:03}", thousandths / 1000, thousandths % 1000));
        let Counters { received, sent, errored, held } = frames;
        say_plainly(format_args!("frames: {received} received, {sent} sent, {errored} errored, {held} held"));
        say_plainly(format_args!("bench heap_max_bytes {heap_used_max}"));
        say_plainly(format_args!("bench supervisor_stack_max_bytes {supervisor}"));
        say_plainly(format_args!("bench handler_stack_max_bytes {handler}"));
        say_plainly(format_args!("bench gateway_stack_max_bytes {gateway}"));
        let tenths = ram_bytes(heap_used_max as u32, handler + gateway + supervisor) * 10 / 1024;
        say_plainly(format_args!("bench microvisor_ram_kib {}.{}", tenths / 10, tenths % 10));
    }
}

/// Data, what survives a reset, and of heap and stacks what was ever used.
fn ram_bytes(heap_used: u32, stacks_used: u32) -> u32 {
    let all = stacks::ram_bytes() + chip::map::secure::KEPT_BYTES;
    all - heap::HEAP_BYTES as u32 - stacks::bytes() + heap_used + stacks_used
}
