//! What an application has of the an505 board: the core's SysTick, UART1, and text of bounded length to say something.
//!
//! Timers 0 and 1 are at `TIMERS_AT`; their interrupts are `handler!(timer0, ..)` and `handler!(timer1, ..)`.

use core::fmt;

/// CMSDK timers 0 and 1, 4 KiB each.
pub const TIMERS_AT: u32 = 0x4000_0000;
/// UART1.
pub const UART_AT: u32 = 0x4020_1000;
/// The first of eight interrupts that no peripheral drives: `handler!(notification0, ..)` and so on.
pub const IRQ_NOTIFICATION: u32 = 64;
/// UART1's interrupt when a byte came: `handler!(uart_receive, ..)`.
pub const IRQ_UART_RECEIVE: u32 = 34;
const NVIC_ENABLE_AT: u32 = 0xE000_E100;
const SYSTICK_AT: u32 = 0xE000_E010;
const UART_STATE: u32 = 4;
const UART_CTRL: u32 = 8;
const UART_BAUDDIV: u32 = 16;
/// Looks at a full transmitter before a byte is dropped.
const SEND_LOOKS_MAX: u32 = 2000;

/// Reads a register.
///
/// # Safety
///
/// It is a register (or word of memory) of the application's, aligned.
pub unsafe fn read(at: u32) -> u32 {
    // SAFETY: the caller's.
    unsafe { (at as *const u32).read_volatile() }
}

/// Writes a register.
///
/// # Safety
///
/// As for [`read`], and nothing relies on what it governs.
pub unsafe fn write(at: u32, value: u32) {
    // SAFETY: the caller's.
    unsafe { (at as *mut u32).write_volatile(value) }
}

/// Starts the SysTick: an interrupt every so many cycles of the core.
pub fn start_sys_tick(cycles: u32) {
    // SAFETY: the application's own SysTick.
    unsafe {
        write(SYSTICK_AT + 4, cycles - 1);
        write(SYSTICK_AT + 8, 0);
        write(SYSTICK_AT, 7);
    }
}

/// Stops it.
pub fn stop_sys_tick() {
    // SAFETY: the application's own SysTick.
    unsafe { write(SYSTICK_AT, 0) };
}

/// Cycles that the SysTick has left until it fires next.
pub fn sys_tick_left() -> u32 {
    // SAFETY: a read without effect.
    unsafe { read(SYSTICK_AT + 8) }
}

/// Lets an interrupt of the application's come.
pub fn enable_interrupt(irq: u32) {
    // SAFETY: enables, and touches no other interrupt.
    unsafe { write(NVIC_ENABLE_AT + irq / 32 * 4, 1 << (irq % 32)) };
}

/// Waits for an interrupt.
pub fn wait() {
    // SAFETY: has no effect but time.
    unsafe { core::arch::asm!("wfi", options(nostack, preserves_flags)) };
}

/// The console: UART1, which only this application has.
#[derive(Debug)]
pub struct Uart(());

impl Uart {
    /// Enables its transmitter.
    pub fn start() -> Uart {
        // SAFETY: the application's own UART.
        unsafe {
            write(UART_AT + UART_BAUDDIV, 174);
            write(UART_AT + UART_CTRL, 1);
        }
        Uart(())
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the application's own UART.
            let free = (0..SEND_LOOKS_MAX).any(|_| unsafe { read(UART_AT + UART_STATE) } & 1 == 0);
            if free {
                // SAFETY: as above.
                unsafe { write(UART_AT, byte.into()) };
            }
        }
        Ok(())
    }
}

/// A line of text of at most so many bytes; what does not fit is cut at a character.
#[derive(Debug, Clone, Copy)]
pub struct Line<const BYTES: usize> {
    bytes: [u8; BYTES],
    used: usize,
}

impl<const BYTES: usize> Line<BYTES> {
    /// Empty.
    pub const fn new() -> Self {
        Self { bytes: [0; BYTES], used: 0 }
    }

    /// What was written.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.used]).unwrap_or_default()
    }
}

impl<const BYTES: usize> Default for Line<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> fmt::Write for Line<BYTES> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let end = self.used + character.len_utf8();
            let Some(place) = self.bytes.get_mut(self.used..end) else { return Err(fmt::Error) };
            character.encode_utf8(place);
            self.used = end;
        }
        Ok(())
    }
}
