//! What is asked of the application of embassy's: tasks, which are machines of states, and all that is inlined into them.

use crate::suite::Do::{self, Arrive, Interrupt, Mi, Print, Quietly, Reach, Refused, Run, Say};

const MAIN: &str = include_str!("../../../gateway-firmware/apps/embassy/src/main.rs");

/// From any moment of its. Nothing in here may depend on when that is.
pub(crate) const SCRIPT: &[Do] = &[
    Quietly("set language rust"),
    // Once a second, in a task, in the executor.
    Reach(MAIN, "let (fired, echoed)"),
    Say("backtrace"),
    Say("info source"),
    Mi("-stack-list-frames"),
    Mi("-stack-info-depth"),
    Print("$pc"),
    Print("$sp"),
    Say("up"),
    Say("down"),
    Quietly("set var *(&embassy::TIMER_FIRED as *mut u32) = 4711"),
    Quietly("set var *(&embassy::ECHOED as *mut u32) = 12"),
    Print("embassy::TIMER_FIRED"),
    Print("*(&embassy::ECHOED as *mut u32)"),
    Print("embassy::TYPED"),
    Print("&embassy::TYPED"),
    Print("sizeof(embassy::Typed)"),
    Say("ptype embassy::Typed"),
    Say("whatis embassy::ECHOED"),
    Say("info symbol embassy::main"),
    Say("info line embassy::main"),
    Say("list embassy::main"),
    Say("x/4i embassy::main"),
    Say("disassemble /r holdfast::calls::log"),
    Say("x/1xw &embassy::ECHOED"),
    Say("info symbol holdfast::calls::log"),
    Say("list holdfast::calls::log"),
    Mi("-data-read-memory-bytes &embassy::ECHOED 4"),
    Run("-exec-next"),
    // Not `fired`: it may be loaded before it is halted here.
    Print("echoed"),
    Say("info args"),
    Run("-exec-until"),
    // Into the SDK, and out of it.
    Mi("-break-insert -t holdfast::calls::log"),
    Run("-exec-continue"),
    Mi("-stack-list-frames"),
    // Not its argument: it says how late it was.
    Say("info locals"),
    // One instruction at a time: where nothing depends on what is due just then.
    Run("-exec-next-instruction"),
    Print("$pc"),
    Run("-exec-step-instruction"),
    Print("$pc"),
    Say("info registers sp pc"),
    Run("-exec-finish"),
    // In another task, each tick.
    Reach(MAIN, "async fn every_tick"),
    Say("backtrace"),
    Run("-exec-step"),
    Run("-exec-next"),
    // Where it rests, until an interrupt comes.
    Mi("-break-insert -t embassy::section::rest"),
    Run("-exec-continue"),
    Say("backtrace"),
    Run("-interpreter-exec console \"advance embassy::driver::tick\""),
    // Writing.
    Mi("-data-write-memory-bytes &embassy::ECHOED 0a0b0c0d"),
    Print("*(&embassy::ECHOED as *mut u32)"),
    Quietly("set var $r12 = 85"),
    Print("$r12"),
    Quietly("dump binary memory echoed.bin &embassy::ECHOED ((&embassy::ECHOED as usize) + 4)"),
    Quietly("set var *(&embassy::ECHOED as *mut u32) = 0"),
    Say("restore echoed.bin binary &embassy::ECHOED"),
    Print("*(&embassy::ECHOED as *mut u32)"),
    // All that is the application's own is inlined: what is called is the compiler's.
    Quietly("set language c"),
    Print("((unsigned long long (*)(unsigned long long, unsigned long long)) __aeabi_uldivmod)(84, 2)"),
    Quietly("set language rust"),
    // In the handler of the tick; a condition, and what is done there.
    Quietly("break embassy::driver::tick if *(&embassy::ECHOED as *mut u32) == 218893066"),
    Mi("-break-commands $bpnum \"silent\" \"set var $seen = 100\""),
    Arrive("-exec-continue"),
    Print("$seen"),
    Mi("-stack-list-frames 0 0"),
    Quietly("delete"),
    Refused("print embassy::nothing_of_that_name"),
    Refused("x/1xw 0x10000000"),
    Interrupt,
    Reach(MAIN, "let (fired, echoed)"),
    Quietly("set var $place = $pc"),
    Say("load"),
    Print("$pc"),
    Quietly("set var $pc = $place"),
    Run("-exec-next"),
];
