//! SMSC LAN9118 Ethernet controller, in 32-bit FIFO mode.
//!
//! Frames go through the FIFOs by the processor, one at a time, each through a buffer of its own. The controller drops what
//! its receive FIFO cannot hold, so the TCP window is smaller than that. No wait on a register is without a bound, and what
//! the controller says about a frame is checked before it is believed. Registers: LAN9118 datasheet, chapter 5; what QEMU
//! leaves out of them is in TRUSTZONE.md.

use chip::map::register::LAN9118 as BASE;
use gateway_link::phy::{self, Device, DeviceCapabilities, Medium};
use gateway_link::time::Instant;

/// Ethernet II without its check sequence, which the controller adds and takes off.
const FRAME_BYTES_MAX: usize = 1514;
/// The same in whole words.
const BUFFER_BYTES: usize = FRAME_BYTES_MAX.next_multiple_of(4);
const HEADER_BYTES: usize = 14;
const CHECK_BYTES: usize = 4;
/// Reads of a register until what was asked for must have happened; the datasheet says microseconds.
const POLLS_MAX: u32 = 100_000;
/// Of the status words of frames sent; the FIFO holds 512.
const STATUSES_MAX: u32 = 512;

const RX_DATA: u32 = 0x00;
const TX_DATA: u32 = 0x20;
const RX_STATUS: u32 = 0x40;
const TX_STATUS: u32 = 0x48;
const IRQ_CFG: u32 = 0x54;
const INT_STS: u32 = 0x58;
const INT_EN: u32 = 0x5c;
const BYTE_TEST: u32 = 0x64;
const FIFO_INT: u32 = 0x68;
const RX_CFG: u32 = 0x6c;
const TX_CFG: u32 = 0x70;
const HW_CFG: u32 = 0x74;
const RX_FIFO_INF: u32 = 0x7c;
const TX_FIFO_INF: u32 = 0x80;
const MAC_CSR_CMD: u32 = 0xa4;
const MAC_CSR_DATA: u32 = 0xa8;
const AFC_CFG: u32 = 0xac;

const BYTE_TEST_VALUE: u32 = 0x8765_4321;
const HW_CFG_SRST: u32 = 1;
/// "Must be one", and 5 KiB of the 16 for sending.
const HW_CFG_MODE: u32 = 1 << 20 | 5 << 16;
/// Flow control by the datasheet's recommendation.
const AFC_CFG_VALUE: u32 = 0x006e_3740;
const TX_CFG_ON: u32 = 1 << 1;
/// Frames in the receive status FIFO: more than FIFO_INT's low byte, which is 0.
const INT_RSFL: u32 = 1 << 3;
/// Enabled, active high, push-pull. Before this is written the pin is active low: the line of an idle controller interrupts.
const IRQ_CFG_VALUE: u32 = 1 << 8 | 1 << 4 | 1;
const RX_STATUS_ERROR: u32 = 1 << 15;
const TX_FIRST_AND_LAST: u32 = 1 << 13 | 1 << 12;

const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
/// Full duplex, sending and receiving.
const MAC_CR_VALUE: u32 = 1 << 20 | 1 << 3 | 1 << 2;
const MAC_CSR_BUSY: u32 = 1 << 31;
const MAC_CSR_READ: u32 = 1 << 30;

/// The controller does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silent;

/// What went through, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) received: u32,
    pub(crate) sent: u32,
    /// Of a length that no frame has, or damaged on the way.
    pub(crate) errored: u32,
    /// Had no room in the transmit FIFO, for now.
    pub(crate) held: u32,
}

/// The controller, and a buffer for each direction.
#[derive(Debug)]
pub(crate) struct Lan9118 {
    mac: [u8; 6],
    inward: [u8; BUFFER_BYTES],
    outward: [u8; BUFFER_BYTES],
    counters: Counters,
}

impl Lan9118 {
    /// Resets the controller and lets it receive. The caller is the only one that has it.
    pub(crate) fn start() -> Result<Self, Silent> {
        // The first access after power-on may be anything.
        wait(|| read(BYTE_TEST) == BYTE_TEST_VALUE)?;
        write(HW_CFG, HW_CFG_SRST);
        wait(|| read(HW_CFG) & HW_CFG_SRST == 0)?;
        write(HW_CFG, HW_CFG_MODE);
        write(AFC_CFG, AFC_CFG_VALUE);
        write(INT_EN, 0);
        write(INT_STS, u32::MAX);
        write(IRQ_CFG, IRQ_CFG_VALUE);
        write(FIFO_INT, 0);
        write(RX_CFG, 0);
        write(TX_CFG, TX_CFG_ON);
        let (high, low) = (mac_read(MAC_ADDRH)?.to_le_bytes(), mac_read(MAC_ADDRL)?.to_le_bytes());
        mac_write(MAC_CR, MAC_CR_VALUE)?;
        write(INT_EN, INT_RSFL);
        Ok(Self {
            mac: [low[0], low[1], low[2], low[3], high[0], high[1]],
            inward: [0; BUFFER_BYTES],
            outward: [0; BUFFER_BYTES],
            counters: Counters::default(),
        })
    }

    /// The address from the controller's EEPROM.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// Reads one frame; how long it is. A frame that is none is taken and counted.
    fn take(&mut self) -> Option<usize> {
        let status = read(RX_STATUS);
        let whole = (status >> 16 & 0x3fff) as usize;
        let length = whole.saturating_sub(CHECK_BYTES);
        let good = status & RX_STATUS_ERROR == 0 && (HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length);
        let words = whole.div_ceil(4);
        let kept = if good { length.div_ceil(4) } else { 0 };
        for word in self.inward.chunks_exact_mut(4).take(kept) {
            word.copy_from_slice(&read(RX_DATA).to_le_bytes());
        }
        for _ in kept..words {
            read(RX_DATA);
        }
        if good {
            self.counters.received = self.counters.received.wrapping_add(1);
        } else {
            self.counters.errored = self.counters.errored.wrapping_add(1);
        }
        good.then_some(length)
    }
}

/// Says that the interrupt was seen. Then take frames until there are none: what came in between interrupts again.
pub(crate) fn acknowledge() {
    write(INT_STS, u32::MAX);
}

impl Device for Lan9118 {
    type RxToken<'a> = Inward<'a>;
    type TxToken<'a> = Outward<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Inward<'_>, Outward<'_>)> {
        let waiting = read(RX_FIFO_INF) >> 16 & 0xff;
        // As many as wait now: damaged ones do not hold us up for ever.
        let length = (0..waiting).find_map(|_| self.take())?;
        let inward = Inward(self.inward.get(..length)?);
        Some((inward, Outward { buffer: &mut self.outward, counters: &mut self.counters }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outward<'_>> {
        // Two command words, the frame, and one word that the controller keeps.
        if (read(TX_FIFO_INF) & 0xffff) as usize >= BUFFER_BYTES + 12 {
            return Some(Outward { buffer: &mut self.outward, counters: &mut self.counters });
        }
        self.counters.held = self.counters.held.wrapping_add(1);
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities
    }
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Inward<'a>(&'a [u8]);

impl phy::RxToken for Inward<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, understand: F) -> R {
        understand(self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub(crate) struct Outward<'a> {
    buffer: &'a mut [u8; BUFFER_BYTES],
    counters: &'a mut Counters,
}

impl phy::TxToken for Outward<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        // The stack was told how long a frame may be.
        let length = length.min(FRAME_BYTES_MAX);
        let result = fill(&mut self.buffer[..length]);
        // An answer may be sent with the token that came with a frame, which did not ask for room.
        if (read(TX_FIFO_INF) & 0xffff) as usize >= length + 16 {
            write(TX_DATA, TX_FIRST_AND_LAST | length as u32);
            write(TX_DATA, length as u32);
            for word in self.buffer.chunks_exact(4).take(length.div_ceil(4)) {
                write(TX_DATA, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            }
            self.counters.sent = self.counters.sent.wrapping_add(1);
        } else {
            self.counters.held = self.counters.held.wrapping_add(1);
        }
        // Nobody reads how it went; but the FIFO must not fill up.
        for _ in 0..STATUSES_MAX.min(read(TX_FIFO_INF) >> 16 & 0xff) {
            read(TX_STATUS);
        }
        result
    }
}

fn mac_read(register: u32) -> Result<u32, Silent> {
    write(MAC_CSR_CMD, MAC_CSR_BUSY | MAC_CSR_READ | register);
    wait(|| read(MAC_CSR_CMD) & MAC_CSR_BUSY == 0)?;
    Ok(read(MAC_CSR_DATA))
}

fn mac_write(register: u32, value: u32) -> Result<(), Silent> {
    write(MAC_CSR_DATA, value);
    write(MAC_CSR_CMD, MAC_CSR_BUSY | register);
    wait(|| read(MAC_CSR_CMD) & MAC_CSR_BUSY == 0)
}

fn wait(mut done: impl FnMut() -> bool) -> Result<(), Silent> {
    if (0..POLLS_MAX).any(|_| done()) { Ok(()) } else { Err(Silent) }
}

fn read(register: u32) -> u32 {
    // SAFETY: `register` is one of the constants above, all within the controller's page, which is the secure world's alone and
    // 4-byte aligned; a read has no effect on memory.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: u32, value: u32) {
    // SAFETY: as in `read`; the controller has no bus master, so what is written cannot make it touch memory.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}
