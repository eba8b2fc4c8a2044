//! The Security Attribution Unit: what is non-secure for the processor, and where the gateway may be entered.

use crate::mmio::{read, write};

const CTRL: u32 = 0xE000_EDD0;
const TYPE: u32 = 0xE000_EDD4;
const RNR: u32 = 0xE000_EDD8;
const RBAR: u32 = 0xE000_EDDC;
const RLAR: u32 = 0xE000_EDE0;

/// A range and what it is. Start and length are multiples of 32.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    pub at: u32,
    pub bytes: u32,
    /// Secure code that non-secure code may enter at an SG.
    pub callable: bool,
}

/// Makes these regions, and no others, non-secure (or callable). False: the unit has too few.
pub fn set(regions: &[Region]) -> bool {
    let have = read(TYPE) & 0xff;
    if regions.len() > have as usize {
        return false;
    }
    for number in 0..have {
        write(RNR, number);
        match regions.get(number as usize) {
            Some(region) => {
                write(RBAR, region.at);
                write(RLAR, ((region.at + (region.bytes - 1)) & !0x1f) | u32::from(region.callable) << 1 | 1);
            }
            None => write(RLAR, 0),
        }
    }
    write(CTRL, 1);
    crate::special::barrier();
    true
}
