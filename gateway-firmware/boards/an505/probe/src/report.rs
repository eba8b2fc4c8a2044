//! Says what was found.

use core::fmt::{Arguments, Write as _};

use holdfast::board::Uart;

use crate::kept::Kept;

/// The console, and how much was right.
#[derive(Debug)]
pub(crate) struct Report {
    console: Uart,
    right: u32,
    wrong: u32,
}

impl Report {
    pub(crate) fn resume() -> Report {
        let (right, wrong) = Kept::counts();
        Report { console: Uart::start(), right, wrong }
    }

    pub(crate) fn expect(&mut self, what: Arguments<'_>, right: bool) {
        *if right { &mut self.right } else { &mut self.wrong } += 1;
        let _ = writeln!(self.console, "probe {what}: {}", if right { "ok" } else { "WRONG" });
    }

    pub(crate) fn expect_equal(&mut self, what: Arguments<'_>, got: u32, want: u32) {
        if got == want {
            return self.expect(what, true);
        }
        self.wrong += 1;
        let _ = writeln!(self.console, "probe {what}: WRONG, {got:#x} and not {want:#x}");
    }

    pub(crate) fn say(&mut self, what: Arguments<'_>) {
        let _ = writeln!(self.console, "probe: {what}");
    }

    pub(crate) fn keep(&self) {
        Kept::set_counts(self.right, self.wrong);
    }

    pub(crate) fn done(&mut self) {
        let _ = writeln!(self.console, "probe done: {} right, {} wrong", self.right, self.wrong);
    }
}
