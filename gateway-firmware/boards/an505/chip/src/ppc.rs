//! Peripheral Protection Controllers and the SSE-200's other security switches.

use crate::map::register::SECURITY;
use crate::mmio::write;

const SECRESPCFG: u32 = SECURITY + 0x10;
const NSCCFG: u32 = SECURITY + 0x14;
const AHBNSPPC0: u32 = SECURITY + 0x50;
const AHBNSPPCEXP: u32 = SECURITY + 0x60;
const APBNSPPC0: u32 = SECURITY + 0x70;
const APBNSPPCEXP: u32 = SECURITY + 0x80;
const NSMSCEXP: u32 = SECURITY + 0xD0;

/// UART1's bit at the second expansion PPC of APB.
const UART1: u32 = 1 << 6;
/// CMSDK timers 0 and 1 at the first PPC of APB.
const TIMERS: u32 = 0b11;
/// The four DMA controllers behind master security controllers.
const DMA_CONTROLLERS: u32 = 0xF << 16;

/// Gives the application UART1 and two timers, and nothing else. Secure memory at 0x1xxx_xxxx may hold a gateway.
///
/// Every DMA controller counts as non-secure, so that it meets the walls an application meets, whoever programs it.
pub fn give() {
    write(NSCCFG, 1);
    write(SECRESPCFG, 1);
    write(AHBNSPPC0, 0);
    write(APBNSPPC0, TIMERS);
    write(APBNSPPC0 + 4, 0);
    for number in 0..4 {
        write(AHBNSPPCEXP + 4 * number, 0);
        write(APBNSPPCEXP + 4 * number, if number == 1 { UART1 } else { 0 });
    }
    write(NSMSCEXP, DMA_CONTROLLERS);
}
