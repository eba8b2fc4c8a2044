//! Interrupts: whose they are, their priority, and what of the application's is left over.
//!
//! The registers at 0xE000_Exxx are seen by secure code with every interrupt in them; those at 0xE002_Exxx are the
//! application's view.

use crate::map::irq::COUNT;
use crate::mmio::{read, write};

const ISER: u32 = 0xE000_E100;
const IABR: u32 = 0xE000_E300;
const ITNS: u32 = 0xE000_E380;
const IPR: u32 = 0xE000_E400;
const ISPR_NS: u32 = 0xE002_E200;
const ICER_NS: u32 = 0xE002_E180;
const ICPR_NS: u32 = 0xE002_E280;
const IPR_NS: u32 = 0xE002_E400;
const WORDS: u32 = COUNT.div_ceil(32);

/// Gives these interrupts to the application, and keeps all others.
pub fn give(to_app: &[u32]) {
    for word in 0..WORDS {
        let bits = to_app.iter().filter(|&&irq| irq / 32 == word).fold(0, |bits, irq| bits | 1 << (irq % 32));
        write(ITNS + 4 * word, bits);
    }
}

/// Sets the priority of a secure interrupt.
pub fn prioritise(irq: u32, priority: u8) {
    let (word, shift) = (irq & !3, 8 * (irq & 3));
    write(IPR + word, (read(IPR + word) & !(0xff << shift)) | u32::from(priority) << shift);
}

/// Lets a secure interrupt through.
pub fn enable(irq: u32) {
    write(ISER + 4 * (irq / 32), 1 << (irq % 32));
}

/// Has an interrupt of the application's wait; one of ours does not by this.
pub fn pend_app(irq: u32) {
    write(ISPR_NS + 4 * (irq / 32), 1 << (irq % 32));
}

/// Disables everything of the application's, forgets what waits, and puts its priorities back.
pub fn quiet_app() {
    for word in 0..WORDS {
        write(ICER_NS + 4 * word, !0);
        write(ICPR_NS + 4 * word, !0);
    }
    for word in 0..COUNT.div_ceil(4) {
        write(IPR_NS + 4 * word, 0);
    }
}

/// Interrupts of the application whose handlers have not returned.
pub fn active_of_app() -> impl Iterator<Item = u32> {
    (0..COUNT).filter(|irq| read(IABR + 4 * (irq / 32)) & read(ITNS + 4 * (irq / 32)) & 1 << (irq % 32) != 0)
}

/// The handler of an interrupt of the secure world's is under way.
pub fn handler_under_way() -> bool {
    (0..WORDS).any(|word| read(IABR + 4 * word) & !read(ITNS + 4 * word) != 0)
}
