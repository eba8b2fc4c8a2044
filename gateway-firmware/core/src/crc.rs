//! CRC-32 (IEEE 802.3): finds torn writes. It is no defence against anyone.

/// One nibble at a time: 64 bytes of table.
const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut index = 0;
    while index < 16 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 4 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// A checksum over bytes that come in pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crc(u32);

impl Crc {
    /// Seeded, so that equal bytes of another bank's life do not check.
    pub(crate) fn new(seed: u32) -> Crc {
        let mut crc = Crc(u32::MAX);
        crc.update(&seed.to_le_bytes());
        crc
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            self.0 = self.0 >> 4 ^ TABLE[(self.0 & 15) as usize];
            self.0 = self.0 >> 4 ^ TABLE[(self.0 & 15) as usize];
        }
    }

    pub(crate) fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_well_known_crc_32() {
        let mut crc = Crc(u32::MAX);
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.finish(), 0xcbf4_3926);
    }
}
