//! The registers of a held application: r4 to r11 where the scheduler keeps them, most others in the frame on its stack, and its
//! special registers, which stay where they are while the secure world runs.

use abi::Access;
use abi::memory::owns;
use chip::special::{
    basepri_ns, control_ns, faultmask_ns, msp_ns, primask_ns, psp_ns, set_basepri_ns, set_control_ns,
    set_faultmask_ns, set_msp_ns, set_primask_ns, set_psp_ns,
};
use gateway_core::ports::{Forbidden, REGISTERS, Registers};

use crate::exceptions::Context;
use crate::fault::{ALIGNED, FRAME_BYTES, Frame, SPSEL, app_sp, frame_at, stacked_bytes};
use crate::schedule::{Beginning, Thread};
use crate::world;

const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;
const XPSR: usize = 16;
const MSP: usize = 17;
const PSP: usize = 18;
const MASKS: usize = 19;

const THUMB: u32 = 1 << 24;
/// What a debugger may change of xPSR: flags, and where in an IT block or a load of many it is. Which exception is under way is
/// the processor's to know.
const XPSR_CHANGES: u32 = 0xfe0f_fc00;
/// Of these: not the flags.
const XPSR_PROGRESS: u32 = 0x0600_fc00;
const PRIVILEGE: u32 = 1;

/// Where its frame is.
pub(super) fn sp(thread: &Thread) -> u32 {
    app_sp(&Context::of(thread))
}

/// What the processor stacked of it, wherever that is now.
pub(super) fn frame(thread: &Thread, aside: &Option<Frame>) -> Option<Frame> {
    aside.or_else(|| frame_at(sp(thread)))
}

/// It is on its process stack.
fn on_process_stack(thread: &Thread) -> bool {
    Context::of(thread).of_thread() && control_ns() & SPSEL != 0
}

/// As they are once the stub has gone to its entry.
pub(super) fn at_beginning(beginning: Beginning) -> Registers {
    let mut registers = [0; REGISTERS];
    (registers[3], registers[LR]) = (beginning.pc, u32::MAX);
    (registers[SP], registers[MSP]) = (beginning.sp, beginning.sp);
    (registers[PC], registers[XPSR]) = (beginning.pc & !1, THUMB);
    registers
}

/// As it would see them by itself: without the frame, and with its stack pointer above that.
pub(super) fn seen(thread: &Thread, frame: Frame) -> Registers {
    let Frame { r0, r1, r2, r3, r12, lr, pc, xpsr } = frame;
    let [r4, r5, r6, r7, r8, r9, r10, r11] = thread.registers;
    let before = sp(thread).wrapping_add(stacked_bytes(xpsr));
    let (msp, psp) = if on_process_stack(thread) { (msp_ns(), before) } else { (before, psp_ns()) };
    let masks = control_ns() << 24 | faultmask_ns() << 16 | basepri_ns() << 8 | primask_ns();
    let xpsr = xpsr & !ALIGNED;
    [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, before, lr, pc, xpsr, msp, psp, masks]
}

/// Changes one; the frame as it is then.
pub(super) fn set(
    thread: &mut Thread,
    mut frame: Frame,
    number: usize,
    value: u32,
) -> Result<Frame, Forbidden> {
    match number {
        0 => frame.r0 = value,
        1 => frame.r1 = value,
        2 => frame.r2 = value,
        3 => frame.r3 = value,
        4..=11 => thread.registers[number - 4] = value,
        12 => frame.r12 = value,
        SP => move_stack(thread, &mut frame, value)?,
        LR => frame.lr = value,
        PC => go_to(&mut frame, value & !1)?,
        XPSR => frame.xpsr = (frame.xpsr & !XPSR_CHANGES) | (value & XPSR_CHANGES),
        MSP if on_process_stack(thread) => set_msp_ns(stack(value)?),
        PSP if !on_process_stack(thread) => set_psp_ns(stack(value)?),
        MSP | PSP => move_stack(thread, &mut frame, value)?,
        MASKS => set_masks(value)?,
        _ => return Err(Forbidden),
    }
    Ok(frame)
}

/// The stack in use ends there, and the frame below that: on a multiple of 8, as the processor puts it (Armv8-M ARM, PushStack).
fn move_stack(thread: &Thread, frame: &mut Frame, value: u32) -> Result<(), Forbidden> {
    let left_out = value & 4;
    let at = value.wrapping_sub(FRAME_BYTES + left_out);
    if value & 3 != 0 || !owns(&world::REGIONS, at, FRAME_BYTES + left_out, Access::Write) {
        return Err(Forbidden);
    }
    frame.xpsr = (frame.xpsr & !ALIGNED) | if left_out == 0 { 0 } else { ALIGNED };
    if on_process_stack(thread) {
        set_psp_ns(at)
    } else {
        set_msp_ns(at)
    }
    Ok(())
}

/// Elsewhere nothing of an instruction is under way.
fn go_to(frame: &mut Frame, pc: u32) -> Result<(), Forbidden> {
    if !owns(&world::REGIONS, pc, 2, Access::Read) {
        return Err(Forbidden);
    }
    (frame.pc, frame.xpsr) = (pc, frame.xpsr & !XPSR_PROGRESS);
    Ok(())
}

/// A stack that is empty, or begun, in its memory.
fn stack(value: u32) -> Result<u32, Forbidden> {
    let good = value & 3 == 0 && owns(&world::REGIONS, value.wrapping_sub(4), 4, Access::Write);
    if good { Ok(value) } else { Err(Forbidden) }
}

/// All but which stack a thread is on: a frame lies there.
fn set_masks(value: u32) -> Result<(), Forbidden> {
    let [primask, basepri, faultmask, control] = value.to_le_bytes().map(u32::from);
    if primask > 1 || faultmask > 1 || (control ^ control_ns()) & !PRIVILEGE != 0 {
        return Err(Forbidden);
    }
    set_primask_ns(primask);
    set_basepri_ns(basepri);
    set_faultmask_ns(faultmask);
    set_control_ns(control);
    Ok(())
}
