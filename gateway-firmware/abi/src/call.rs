//! One call: its parameters, and the judgement of what an application passed.
//!
//! The judgement is complete: after [`Call::judge`] every pointer of the call is good over its whole range and every
//! integer is as narrow as the interface says, whatever the caller left in the upper half of its register.

use crate::memory::{self, Access, Region};
use crate::status::Status;

/// Registers a call has for parameters.
pub const ARGUMENTS: usize = 4;

/// What the application passed, register by register.
pub type Arguments = [u32; ARGUMENTS];

/// How many bytes a pointer stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Always so many.
    Fixed(u32),
    /// As many as another parameter says.
    By(By),
}

/// A length the caller chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// Which parameter says it.
    pub parameter: usize,
    /// Fewest bytes.
    pub min: u32,
    /// Most bytes.
    pub max: u32,
    /// It is a multiple of this: a power of two.
    pub multiple: u32,
    /// The answer to more than `max`. To any other wrong length it is `InvalidBufferSize`.
    pub too_long: Status,
}

impl By {
    /// This many bytes, if they are allowed.
    fn allows(&self, bytes: u32) -> Result<u32, Status> {
        if bytes > self.max {
            return Err(self.too_long);
        }
        if bytes < self.min || bytes & (self.multiple - 1) != 0 {
            return Err(Status::InvalidBufferSize);
        }
        Ok(bytes)
    }
}

/// A pointer in a structure that a pointer points to. It is judged when the structure was copied: [`Inner::judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Where in the structure it is.
    pub offset: u32,
    /// Where in the structure its length is.
    pub length_offset: u32,
    pub access: Access,
    /// It is a multiple of this: a power of two. The answer to any other is `ParameterFault`.
    pub align: u32,
    /// What lengths it may have. `parameter` means nothing here.
    pub by: By,
}

impl Inner {
    /// Whether what was copied out of the structure can be used.
    pub fn judge(
        &self,
        at: u32,
        bytes: u32,
        regions: &[Region],
        reachable: impl Fn(u32, u32, Access) -> bool,
    ) -> Result<(), Status> {
        let bytes = self.by.allows(bytes)?;
        let owned = at & (self.align - 1) == 0 && memory::owns(regions, at, bytes, self.access);
        if owned && reachable(at, bytes, self.access) { Ok(()) } else { Err(Status::ParameterFault) }
    }
}

/// A pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    pub access: Access,
    pub length: Length,
    /// It is a multiple of this: a power of two.
    pub align: u32,
    /// The answer when it is not.
    pub unaligned: Status,
    /// What it points to has a pointer in it that the call uses.
    pub inner: Option<Inner>,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All 32 bits.
    Value,
    /// The lower 16 bits; the upper ones are whatever the caller's compiler left there.
    Narrow16,
    Pointer(Pointer),
}

/// A parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
}

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which veneer of the page.
    pub slot: u8,
    /// As the header calls it.
    pub name: &'static str,
    pub parameters: &'static [Parameter],
    /// It may be made from an exception handler.
    pub from_handler: bool,
    /// It does something, for an application of a product; every other call answers it `Unavailable`, whatever was passed.
    pub works: bool,
    /// The same for the application that tests a board's hardware in the factory.
    pub tests: bool,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// An exception handler of the application's.
    pub in_handler: bool,
    /// It is what tests the board's hardware.
    pub testing: bool,
}

impl Call {
    /// Arguments as the interface means them, or the answer that refuses them.
    ///
    /// `reachable` is asked once for each range, after everything that can be told from numbers: whether the processor
    /// itself (SAU, and the application's own MPU) lets the caller at it.
    pub fn judge(
        &self,
        passed: Arguments,
        caller: Caller,
        regions: &[Region],
        reachable: impl Fn(u32, u32, Access) -> bool,
    ) -> Result<Arguments, Status> {
        let works = if caller.testing { self.tests } else { self.works };
        if !works || (caller.in_handler && !self.from_handler) {
            return Err(Status::Unavailable);
        }
        let arguments = self.narrow(passed);
        for (parameter, at) in self.parameters.iter().zip(arguments) {
            if let Kind::Pointer(pointer) = parameter.kind {
                let bytes = pointer.length.bytes(&arguments)?;
                // Nothing is passed, where nothing may be: the pointer is not looked at.
                if bytes == 0 {
                    continue;
                }
                if at & (pointer.align - 1) != 0 {
                    return Err(pointer.unaligned);
                }
                if !memory::owns(regions, at, bytes, pointer.access) || !reachable(at, bytes, pointer.access)
                {
                    return Err(Status::ParameterFault);
                }
            }
        }
        Ok(arguments)
    }

    fn narrow(&self, passed: Arguments) -> Arguments {
        let mut arguments = [0; ARGUMENTS];
        for ((argument, passed), parameter) in arguments.iter_mut().zip(passed).zip(self.parameters) {
            *argument = match parameter.kind {
                Kind::Narrow16 => passed & 0xffff,
                Kind::Value | Kind::Pointer(_) => passed,
            };
        }
        arguments
    }
}

impl Length {
    /// Bytes of the range, when the caller's choice is allowed.
    pub fn bytes(&self, arguments: &Arguments) -> Result<u32, Status> {
        match *self {
            Length::Fixed(bytes) => Ok(bytes),
            Length::By(by) => by.allows(arguments.get(by.parameter).copied().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::{CALLS, call_at};

    const RAM: Region = Region { at: 0x2820_0000, bytes: 0x8_0000, write: true };
    const PRODUCT: Caller = Caller { in_handler: false, testing: false };
    const CODE: Region = Region { at: 0x20_0000, bytes: 0x1000, write: false };

    fn judge(slot: u8, passed: Arguments) -> Result<Arguments, Status> {
        call_at(slot).expect("a call").judge(passed, PRODUCT, &[CODE, RAM], |_, _, _| true)
    }

    #[test]
    fn a_log_message_is_narrowed_measured_and_whole() {
        let log = 37;
        assert_eq!(judge(log, [CODE.at, 0xabcd_0005, 7, 8]), Ok([CODE.at, 5, 0, 0]));
        assert_eq!(judge(log, [CODE.at, 0x1_0000, 0, 0]), Err(Status::InvalidBufferSize));
        assert_eq!(judge(log, [CODE.at, 512, 0, 0]), Ok([CODE.at, 512, 0, 0]));
        assert_eq!(judge(log, [CODE.at, 513, 0, 0]), Err(Status::LogMessageTooLong));
        assert_eq!(judge(log, [RAM.at + RAM.bytes - 4, 5, 0, 0]), Err(Status::ParameterFault));
        assert_eq!(judge(log, [0xffff_fffc, 8, 0, 0]), Err(Status::ParameterFault));
    }

    #[test]
    fn results_are_aligned_and_never_land_in_code() {
        let microseconds = 2;
        assert_eq!(judge(microseconds, [RAM.at + 8, 0, 0, 0]), Ok([RAM.at + 8, 0, 0, 0]));
        assert_eq!(judge(microseconds, [RAM.at + 4, 0, 0, 0]), Err(Status::ParameterFault));
        assert_eq!(judge(microseconds, [CODE.at, 0, 0, 0]), Err(Status::ParameterFault));
    }

    #[test]
    fn a_log_buffer_has_the_ancestors_units() {
        let init = 36;
        assert_eq!(judge(init, [RAM.at, 4096, 0, 0]), Ok([RAM.at, 4096, 0, 0]));
        assert_eq!(judge(init, [RAM.at + 8, 4096, 0, 0]), Err(Status::InvalidBufferAlignment));
        for bytes in [0, 1, 513, 8704, u32::MAX] {
            assert_eq!(judge(init, [RAM.at, bytes, 0, 0]), Err(Status::InvalidBufferSize), "{bytes}");
        }
    }

    #[test]
    fn a_content_type_may_be_left_out_and_then_its_pointer_is_not_looked_at() {
        let publish = 129;
        assert_eq!(judge(publish, [7, 0, RAM.at, 1]), Ok([7, 0, RAM.at, 1]));
        assert_eq!(judge(publish, [7, 1, RAM.at, 1]), Err(Status::ParameterFault));
        assert_eq!(judge(publish, [CODE.at, 65, RAM.at, 1]), Err(Status::InvalidBufferSize));
        for bytes in [0, 1025] {
            assert_eq!(judge(publish, [7, 0, RAM.at, bytes]), Err(Status::InvalidBufferSize));
        }
        assert_eq!(judge(publish, [7, 0, RAM.at, 1024]), Ok([7, 0, RAM.at, 1024]));
    }

    #[test]
    fn a_ring_is_judged_as_a_pointer_is() {
        let call = call_at(16).expect("a call");
        let Kind::Pointer(Pointer { inner: Some(inner), .. }) = call.parameters[0].kind else { panic!() };
        let ring = |at, bytes| inner.judge(at, bytes, &[CODE, RAM], |at, _, _| at != RAM.at + 64);
        assert_eq!(ring(RAM.at, 32), Ok(()));
        for bytes in [0, 16, 40, 8208, u32::MAX] {
            assert_eq!(ring(RAM.at, bytes), Err(Status::InvalidBufferSize), "{bytes}");
        }
        for at in [0, RAM.at + 4, CODE.at, RAM.at + RAM.bytes - 16, 0xffff_fff0, RAM.at + 64] {
            assert_eq!(ring(at, 32), Err(Status::ParameterFault), "{at:x}");
        }
    }

    #[test]
    fn what_does_not_work_or_is_called_from_a_handler_is_unavailable_whatever_it_passes() {
        for call in CALLS {
            let passed = [RAM.at, 512, RAM.at, RAM.at];
            for (testing, works) in [(false, call.works), (true, call.tests)] {
                let handler = Caller { in_handler: true, testing };
                let verdict = call.judge(passed, handler, &[RAM], |_, _, _| true);
                assert!(call.from_handler && works || verdict == Err(Status::Unavailable), "{}", call.name);
                if !works {
                    let thread = Caller { in_handler: false, testing };
                    let verdict = call.judge(passed, thread, &[RAM], |_, _, _| true);
                    assert_eq!(verdict, Err(Status::Unavailable), "{}", call.name);
                }
            }
        }
    }

    #[test]
    fn a_test_of_the_hardware_has_calls_of_its_own_and_no_server() {
        let only = |testing: bool| {
            let ours = move |call: &&Call| call.works != call.tests && call.tests == testing;
            CALLS.iter().filter(ours).map(|call| call.slot)
        };
        assert!(only(true).eq([55, 56, 57]));
        assert!(only(false).eq([36, 37, 129]));
    }

    #[test]
    fn what_the_processor_refuses_is_refused() {
        let passed = [RAM.at, 512, 0, 0];
        for call in CALLS.iter().filter(|call| call.works) {
            let pointers = call.parameters.iter().any(|one| matches!(one.kind, Kind::Pointer(_)));
            let verdict = call.judge(passed, PRODUCT, &[RAM], |_, _, _| false);
            assert_eq!(verdict.is_err(), pointers, "{}", call.name);
        }
    }

    proptest! {
        /// Whatever is passed to whichever call: what is accepted lies whole in memory of the application's.
        #[test]
        fn nothing_is_accepted_that_is_not_the_applications(
            index in 0..CALLS.len(),
            passed in prop::array::uniform4(prop_oneof![any::<u32>(), Just(RAM.at), Just(CODE.at), 0u32..2000]),
            in_handler: bool,
            testing: bool,
        ) {
            let call = &CALLS[index];
            let caller = Caller { in_handler, testing };
            if let Ok(arguments) = call.judge(passed, caller, &[CODE, RAM], |_, _, _| true) {
                let works = if testing { call.tests } else { call.works };
                prop_assert!(works);
                prop_assert!(call.from_handler || !in_handler);
                for (parameter, at) in call.parameters.iter().zip(arguments) {
                    match parameter.kind {
                        Kind::Value => {}
                        Kind::Narrow16 => prop_assert!(at <= 0xffff),
                        Kind::Pointer(pointer) => {
                            let bytes = pointer.length.bytes(&arguments).unwrap();
                            if bytes == 0 {
                                continue;
                            }
                            let end = u64::from(at) + u64::from(bytes);
                            let inside = |region: Region| at >= region.at && end <= u64::from(region.at + region.bytes);
                            prop_assert!(inside(RAM) || (inside(CODE) && pointer.access == Access::Read));
                            prop_assert_eq!(at % pointer.align, 0);
                        }
                    }
                }
            }
        }
    }
}
