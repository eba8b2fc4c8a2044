//! Which kind of end a fault was, from what an Armv8-M processor says of it (Armv8-M ARM D1.2).
//!
//! One instruction can be several faults, and a fault can be taken as another: the application's own MemManage and UsageFault
//! become HardFaults where it does not handle them, and a stack that ran out fails again when the first fault is stacked. What
//! the author did wrong first is what is told.

use wire::msg::CrashKind;

const SECURE_FAULT: u32 = 7;

/// The application handles a fault of its own, and had another.
const FAULT_HANDLERS: core::ops::RangeInclusive<u32> = 3..=7;

// Bits of CFSR.
const IACCVIOL: u32 = 1;
const MSTKERR: u32 = 1 << 4;
const IBUSERR: u32 = 1 << 8;
const STKERR: u32 = 1 << 12;
const STKOF: u32 = 1 << 20;
const MEMORY: u32 = 0xff;
const BUS: u32 = 0xff00;
const USAGE: u32 = 0xffff_0000;

/// What there is to see of a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The exception it was taken as.
    pub exception: u32,
    /// CFSR of both worlds.
    pub cfsr: u32,
    pub sfsr: u32,
    /// The exception that the application was handling; 0 in its thread, or unknown.
    pub handling: u32,
    /// Its stack pointer was outside of its RAM.
    pub stack_outside: bool,
}

/// The kind of that fault.
pub fn of_fault(seen: Seen) -> CrashKind {
    let Seen { exception, cfsr, sfsr, handling, stack_outside } = seen;
    match exception {
        _ if stack_outside || stack_ran_out(cfsr) => CrashKind::StackOverflow,
        _ if FAULT_HANDLERS.contains(&handling) => CrashKind::Hard,
        SECURE_FAULT => CrashKind::Secure,
        _ if sfsr != 0 => CrashKind::Secure,
        _ if cfsr & USAGE != 0 => CrashKind::Usage,
        _ if cfsr & MEMORY != 0 => CrashKind::Memory,
        _ if cfsr & BUS != 0 => CrashKind::Bus,
        3 => CrashKind::Hard,
        4 => CrashKind::Memory,
        5 => CrashKind::Bus,
        6 => CrashKind::Usage,
        _ => CrashKind::Other,
    }
}

/// Nothing was stacked, so no frame is there.
pub fn stacking_failed(cfsr: u32) -> bool {
    cfsr & (MSTKERR | STKERR | STKOF) != 0
}

/// At its limit, or where stacking failed; an application that has no memory at all has no stack either, and that is told.
fn stack_ran_out(cfsr: u32) -> bool {
    cfsr & STKOF != 0 || cfsr & (MSTKERR | STKERR) != 0 && cfsr & (IACCVIOL | IBUSERR) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(exception: u32, cfsr: u32, sfsr: u32) -> CrashKind {
        of_fault(Seen { exception, cfsr, sfsr, ..Seen::default() })
    }

    #[test]
    fn an_escalated_fault_is_told_as_what_it_was() {
        const UNDEFINSTR: u32 = 1 << 16;
        const DACCVIOL: u32 = 1 << 1;
        const PRECISERR: u32 = 1 << 9;
        let expected = [
            ((3, UNDEFINSTR, 0), CrashKind::Usage),
            ((6, UNDEFINSTR, 0), CrashKind::Usage),
            ((3, DACCVIOL, 0), CrashKind::Memory),
            ((4, DACCVIOL, 0), CrashKind::Memory),
            ((5, PRECISERR, 0), CrashKind::Bus),
            ((3, PRECISERR, 0), CrashKind::Bus),
            ((3, 0, 0), CrashKind::Hard),
            ((7, 0, 1 << 3), CrashKind::Secure),
            ((3, 0, 1), CrashKind::Secure),
            ((12, 0, 0), CrashKind::Other),
        ];
        for ((exception, cfsr, sfsr), expected) in expected {
            assert_eq!(kind(exception, cfsr, sfsr), expected, "{exception} {cfsr:x} {sfsr:x}");
        }
    }

    #[test]
    fn a_stack_that_ran_out_is_told_whatever_it_ran_into() {
        assert_eq!(kind(3, STKOF, 0), CrashKind::StackOverflow);
        assert_eq!(kind(6, STKOF, 0), CrashKind::StackOverflow);
        assert_eq!(kind(5, STKERR, 0), CrashKind::StackOverflow);
        assert_eq!(kind(3, MSTKERR | 1 << 1, 0), CrashKind::StackOverflow, "into a guard of its MPU");
        let outside = Seen { exception: 7, sfsr: 1 << 3, stack_outside: true, ..Seen::default() };
        assert_eq!(of_fault(outside), CrashKind::StackOverflow);
    }

    #[test]
    fn an_application_without_any_memory_did_not_run_out_of_stack() {
        assert_eq!(kind(3, MSTKERR | IACCVIOL, 0), CrashKind::Memory);
        assert_eq!(kind(5, STKERR | IBUSERR, 0), CrashKind::Bus);
    }

    #[test]
    fn a_fault_in_a_handler_of_faults_is_a_hard_one() {
        for handling in 0..20 {
            let seen = Seen { exception: 3, cfsr: 1 << 16, handling, ..Seen::default() };
            let expected = if (3..=7).contains(&handling) { CrashKind::Hard } else { CrashKind::Usage };
            assert_eq!(of_fault(seen), expected, "{handling}");
        }
    }
}
