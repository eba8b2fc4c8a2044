//! The first application.
#![no_std]
#![no_main]

mod ports;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
