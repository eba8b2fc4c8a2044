//! A session that only watches: somebody else debugs the application, or nobody does, and it goes on as it would.
//!
//! The device tells by itself where it stands and that it goes on; nothing but memory is asked of it. gdb is shown each stop when it waits for
//! one, whatever it waits by, and that is the only thing it can do. Memory is kept while the application stands, and read each time while it runs.

use proto::device::v1::{DebugAnswer, DebugProblem};

use super::{Machine, News, STACK_BYTES, Trouble};
use crate::debug::link::Gone;

impl Machine {
    /// Others let it run, and halt it.
    pub(crate) fn is_watching(&self) -> bool {
        self.about.read_only
    }

    /// What is changed here, is not.
    pub(super) fn may_change(&self, at: u32) -> Result<(), Trouble> {
        let refused = Trouble::Problem(DebugProblem::ReadOnly, at);
        if self.is_watching() { Err(refused) } else { Ok(()) }
    }

    /// Where it stood when the session began.
    pub(super) fn begin_watching(&mut self, answer: DebugAnswer) -> Result<(), Gone> {
        self.stack_asked = STACK_BYTES;
        if let Some(stop) = answer.stop {
            self.check_stop(&stop)?;
            self.stopped(stop, answer.call);
        }
        Ok(())
    }

    /// Takes in what the device has said by itself.
    pub(crate) fn catch_up(&mut self) -> Result<(), Gone> {
        while self.is_watching()
            && let Ok(answer) = self.link.answers.try_recv()
        {
            self.hear(answer?)?;
        }
        Ok(())
    }

    /// A gdb comes: it is shown how things are.
    pub(super) fn look_on(&mut self) -> Result<(), Gone> {
        self.catch_up()?;
        self.forget_stops();
        self.told = self.seen;
        Ok(())
    }

    /// Waits for the next stop that gdb was not shown; that is news, and may be so already.
    pub(super) fn wait_for_stop(&mut self) -> Result<(), Gone> {
        self.catch_up()?;
        self.forget_stops();
        if self.stop().is_some() && self.told != self.seen {
            self.tell(News::Stopped);
        }
        Ok(())
    }
}
