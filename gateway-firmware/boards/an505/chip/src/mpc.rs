//! Memory Protection Controllers: which blocks of a memory are reached by its non-secure alias.
//!
//! A block is reached through one alias only. The processor's TT instruction knows nothing of this.

use crate::mmio::{read, write};

const CTRL: u32 = 0x00;
const BLK_CFG: u32 = 0x14;
const BLK_IDX: u32 = 0x18;
const BLK_LUT: u32 = 0x1c;
/// A violation is a bus error, not silence.
const BUS_ERROR: u32 = 1 << 4;
const AUTO_INCREMENT: u32 = 1 << 8;

/// One controller, by its secure address.
#[derive(Debug, Clone, Copy)]
pub struct Mpc(pub u32);

impl Mpc {
    /// Makes `bytes` from offset `from` non-secure and everything else secure. Both are multiples of a block (1 KiB).
    pub fn open(self, from: u32, bytes: u32) {
        let Mpc(at) = self;
        write(at + CTRL, (read(at + CTRL) & !AUTO_INCREMENT) | BUS_ERROR);
        let block_bytes = 1 << ((read(at + BLK_CFG) & 0xf) + 5);
        let (first, end) = (from / block_bytes, (from + bytes).div_ceil(block_bytes));
        // BLK_MAX is the last index of a word of 32 blocks.
        for word in 0..=read(at + 0x10) {
            let of_block = |bit: u32| (first..end).contains(&(word * 32 + bit));
            let bits = (0..32).fold(0, |bits, bit| bits | u32::from(of_block(bit)) << bit);
            write(at + BLK_IDX, word);
            write(at + BLK_LUT, bits);
        }
    }
}
