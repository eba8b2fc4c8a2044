//! The application's registers as gdb has them: an M-profile Arm (gdb's manual, "ARM Features").

use std::num::NonZeroUsize;

use gdbstub::arch;

use crate::debug::machine::{self, PC, REGISTERS};

/// In the order of `DebugStop.registers`, so that gdb's `g` is the device's own bytes: the last word is PRIMASK, BASEPRI, FAULTMASK and CONTROL, a
/// byte each from the lowest.
const DESCRIPTION: &str = concat!(
    r#"<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0"><architecture>arm</architecture>"#,
    r#"<feature name="org.gnu.gdb.arm.m-profile">"#,
    r#"<reg name="r0" bitsize="32"/><reg name="r1" bitsize="32"/><reg name="r2" bitsize="32"/><reg name="r3" bitsize="32"/>"#,
    r#"<reg name="r4" bitsize="32"/><reg name="r5" bitsize="32"/><reg name="r6" bitsize="32"/><reg name="r7" bitsize="32"/>"#,
    r#"<reg name="r8" bitsize="32"/><reg name="r9" bitsize="32"/><reg name="r10" bitsize="32"/><reg name="r11" bitsize="32"/>"#,
    r#"<reg name="r12" bitsize="32"/><reg name="sp" bitsize="32" type="data_ptr"/><reg name="lr" bitsize="32"/>"#,
    r#"<reg name="pc" bitsize="32" type="code_ptr"/><reg name="xpsr" bitsize="32"/></feature>"#,
    r#"<feature name="org.gnu.gdb.arm.m-system"><reg name="msp" bitsize="32" type="data_ptr" group="system"/>"#,
    r#"<reg name="psp" bitsize="32" type="data_ptr" group="system"/><reg name="primask" bitsize="8" group="system"/>"#,
    r#"<reg name="basepri" bitsize="8" group="system"/><reg name="faultmask" bitsize="8" group="system"/>"#,
    r#"<reg name="control" bitsize="8" group="system"/></feature></target>"#,
);

/// Words before the one that is four registers.
const WHOLE_WORDS: usize = REGISTERS - 1;

/// An M-profile Arm.
#[derive(Debug)]
pub(crate) enum MProfile {}

impl arch::Arch for MProfile {
    type Usize = u32;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = Register;

    fn target_description_xml() -> Option<&'static str> {
        Some(DESCRIPTION)
    }
}

/// What gdb is told of a pc that is not known: it cannot do without one, and takes no other register to be there because of it. No application
/// has memory there.
const NO_PC: u32 = 0;

/// None: they are not known, which gdb shows as `<unavailable>`, but for pc.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registers(pub(crate) Option<machine::Registers>);

impl arch::Registers for Registers {
    type ProgramCounter = u32;

    fn pc(&self) -> u32 {
        self.0.map_or(NO_PC, |words| words[PC])
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        for number in 0..REGISTERS {
            let unknown = (number == PC).then_some(NO_PC);
            let word = self.0.map_or(unknown, |words| Some(words[number])).map(u32::to_le_bytes);
            (0..4).for_each(|byte| write_byte(word.map(|bytes| bytes[byte])));
        }
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if bytes.len() != REGISTERS * 4 {
            return Err(());
        }
        let mut words = machine::Registers::default();
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        self.0 = Some(words);
        Ok(())
    }
}

/// A register as gdb numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(usize);

impl arch::RegId for Register {
    fn from_raw_id(id: usize) -> Option<(Register, Option<NonZeroUsize>)> {
        let bytes = if id < WHOLE_WORDS { 4 } else { 1 };
        (id < WHOLE_WORDS + 4).then_some((Register(id), NonZeroUsize::new(bytes)))
    }
}

impl Register {
    /// Its word, and which byte of it; none: all.
    fn place(self) -> (usize, Option<usize>) {
        match self.0.checked_sub(WHOLE_WORDS) {
            None => (self.0, None),
            Some(byte) => (WHOLE_WORDS, Some(byte)),
        }
    }

    /// One that is not known: as [`Registers`] has it; none: it is not there.
    pub(crate) fn read_unknown(self, into: &mut [u8]) -> Option<usize> {
        if self.0 != PC {
            return Some(0);
        }
        into.get_mut(..4)?.copy_from_slice(&NO_PC.to_le_bytes());
        Some(4)
    }

    /// How many bytes of `into` it took.
    pub(crate) fn read(self, registers: &machine::Registers, into: &mut [u8]) -> Option<usize> {
        let (word, byte) = self.place();
        let bytes = registers.get(word)?.to_le_bytes();
        let bytes = match byte {
            None => &bytes[..],
            Some(byte) => bytes.get(byte..byte + 1)?,
        };
        into.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(bytes.len())
    }

    /// The word to set, and to what.
    pub(crate) fn write(self, registers: &machine::Registers, value: &[u8]) -> Option<(usize, u32)> {
        let (word, byte) = self.place();
        let mut bytes = registers.get(word)?.to_le_bytes();
        let place = match byte {
            None => &mut bytes[..],
            Some(byte) => bytes.get_mut(byte..byte + 1)?,
        };
        if place.len() != value.len() {
            return None;
        }
        place.copy_from_slice(value);
        Some((word, u32::from_le_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gdbstub::arch::{RegId as _, Registers as _};

    #[test]
    fn the_last_word_is_four_registers() {
        let mut registers: machine::Registers = std::array::from_fn(|n| n as u32);
        registers[19] = 0x0302_0100;
        let mut byte = [0];
        for (id, value) in (19..23).zip(0u8..) {
            let (register, size) = Register::from_raw_id(id).unwrap();
            assert_eq!(
                (register.read(&registers, &mut byte), byte[0], size.unwrap().get()),
                (Some(1), value, 1)
            );
        }
        let (basepri, _) = Register::from_raw_id(20).unwrap();
        assert_eq!(basepri.write(&registers, &[0xff]), Some((19, 0x0302_ff00)));
        assert_eq!(basepri.write(&registers, &[0; 4]), None);
        assert!(Register::from_raw_id(23).is_none());
    }

    #[test]
    fn registers_that_are_not_known_are_not_there_but_for_pc() {
        let mut bytes = Vec::new();
        Registers(None).gdb_serialize(|byte| bytes.push(byte));
        assert_eq!(bytes.len(), REGISTERS * 4);
        let known: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place].is_some()).collect();
        assert_eq!(known, (4 * PC..4 * PC + 4).collect::<Vec<_>>());
        let mut into = [1; 4];
        let (pc, _) = Register::from_raw_id(PC).unwrap();
        assert_eq!((pc.read_unknown(&mut into), into), (Some(4), [0; 4]));
        let (sp, _) = Register::from_raw_id(13).unwrap();
        assert_eq!(sp.read_unknown(&mut into), Some(0));
    }

    #[test]
    fn the_description_has_as_many_bytes_as_the_registers() {
        let bits: usize = DESCRIPTION
            .split("bitsize=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse::<usize>().unwrap())
            .sum();
        let mut count = 0;
        Registers::default().gdb_serialize(|_| count += 1);
        assert_eq!((bits / 8, count), (REGISTERS * 4, REGISTERS * 4));
        assert!(Registers::default().gdb_deserialize(&[0; 79]).is_err());
    }
}
