//! The fault status registers in words (Armv8-M ARM D1.2: CFSR, HFSR, SFSR).

use proto::logs::v1::Crash;

/// (bit, what it says).
type Bits = [(u32, &'static str)];

const CFSR: &Bits = &[
    (0, "MemManage: code was fetched from where none may be (IACCVIOL)"),
    (1, "MemManage: data was read or written where it may not be (DACCVIOL)"),
    (3, "MemManage: on return from an exception, reading the stack (MUNSTKERR)"),
    (4, "MemManage: on entry to an exception, writing the stack (MSTKERR)"),
    (5, "MemManage: while floating-point state was saved (MLSPERR)"),
    (8, "BusFault: code was fetched from where there is nothing (IBUSERR)"),
    (9, "BusFault: data was read or written where there is nothing, by the instruction at pc (PRECISERR)"),
    (10, "BusFault: data was written where there is nothing, some instructions before pc (IMPRECISERR)"),
    (11, "BusFault: on return from an exception, reading the stack (UNSTKERR)"),
    (12, "BusFault: on entry to an exception, writing the stack (STKERR)"),
    (13, "BusFault: while floating-point state was saved (LSPERR)"),
    (16, "UsageFault: undefined instruction (UNDEFINSTR)"),
    (17, "UsageFault: invalid state, as from a jump to an even address (INVSTATE)"),
    (18, "UsageFault: invalid EXC_RETURN or return state (INVPC)"),
    (19, "UsageFault: no coprocessor; the FPU is off for applications (NOCP)"),
    (20, "UsageFault: the stack ran into its limit (STKOF)"),
    (24, "UsageFault: unaligned access (UNALIGNED)"),
    (25, "UsageFault: division by zero (DIVBYZERO)"),
];
const HFSR: &Bits = &[
    (1, "HardFault: the vector table could not be read (VECTTBL)"),
    (30, "HardFault: made of another fault that could not be handled (FORCED)"),
    (31, "HardFault: a debug event without a debugger, as BKPT (DEBUGEVT)"),
];
const SFSR: &Bits = &[
    (0, "SecureFault: jump into secure code past its gateway (INVEP)"),
    (1, "SecureFault: wrong integrity signature on a secure stack (INVIS)"),
    (2, "SecureFault: forged return into the secure world (INVER)"),
    (3, "SecureFault: reached for memory that is the microvisor's (AUVIOL)"),
    (4, "SecureFault: branch out of secure code without a mark (INVTRAN)"),
    (5, "SecureFault: while floating-point state was saved (LSPERR)"),
    (7, "SecureFault: floating-point state that cannot be (LSERR)"),
];
const MMARVALID: u32 = 7;
const BFARVALID: u32 = 15;
const SFARVALID: u32 = 6;

/// What the registers say, one sentence a bit; addresses only where they are said to be valid.
pub(crate) fn words(crash: &Crash) -> Vec<String> {
    let mut words = Vec::new();
    for (bits, value) in [(CFSR, crash.cfsr), (SFSR, crash.sfsr), (HFSR, crash.hfsr)] {
        words.extend(bits.iter().filter(|(bit, _)| is_set(value, *bit)).map(|(_, text)| (*text).to_owned()));
    }
    let addresses = [
        (is_set(crash.cfsr, MMARVALID), "MemManage", crash.mmfar),
        (is_set(crash.cfsr, BFARVALID), "BusFault", crash.bfar),
        (is_set(crash.sfsr, SFARVALID), "SecureFault", crash.sfar),
    ];
    let valid = addresses.iter().filter(|(valid, ..)| *valid);
    words.extend(valid.map(|(_, what, at)| format!("{what}: the address was {at:#010x}")));
    words
}

fn is_set(value: u32, bit: u32) -> bool {
    value & (1 << bit) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_has_its_words_and_an_address_is_told_only_when_it_is_valid() {
        let crash = |cfsr, hfsr, sfsr| Crash { cfsr, hfsr, sfsr, bfar: 0x6000_000C, ..Default::default() };
        let said = words(&crash(0x8200, 1 << 30, 0)).join("\n");
        assert!(said.contains("(PRECISERR)") && said.contains("(FORCED)"), "{said}");
        assert!(said.ends_with("BusFault: the address was 0x6000000c"), "{said}");
        assert_eq!(words(&crash(0x200, 0, 0)).len(), 1);
        assert!(words(&crash(1 << 19, 0, 0))[0].contains("the FPU is off for applications"));
        assert!(words(&crash(0, 0, 0)).is_empty());
        // 19 of CFSR's, 3 and 7, and three addresses.
        assert_eq!(
            words(&crash(u32::MAX, u32::MAX, u32::MAX)).len(),
            CFSR.len() + HFSR.len() + SFSR.len() + 3
        );
    }
}
