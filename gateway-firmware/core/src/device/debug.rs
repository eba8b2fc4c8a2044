//! What the stub does with the device: the agent's calls, and who may make them.

use noise::PublicKey;

use super::{Device, Next};
use crate::debug::{Access, Scene};
use crate::device::Notice;
use crate::ports::{Board, Probe as _};
use crate::store::Key;

impl<B: Board> Device<'_, B> {
    /// There is something to debug, as far as the board goes.
    pub(crate) fn can_be_debugged(&self) -> bool {
        !self.ports.probe.regions().is_empty()
    }

    /// A version runs, or waits for its next start.
    pub(crate) fn has_app(&self) -> bool {
        self.running.is_some()
    }

    /// Who may debug it, by its manifest.
    pub(crate) fn debug_keys(&self) -> &[PublicKey] {
        self.running.as_ref().map_or(&[], |running| &running.debug_keys)
    }

    /// Keeps the device's static key. One that cannot be kept is another one after the next start.
    pub(crate) fn keep_debug_key(&mut self, secret: &[u8]) {
        if let Err(error) = self.store.put(&mut self.ports.flash, Key::Debug, secret) {
            self.note(Notice::StoreFailed(error));
        }
    }

    pub(crate) fn debug_begin(&mut self) {
        self.agent.begin(&mut self.ports.probe);
    }

    pub(crate) fn debug_end(&mut self) {
        self.agent.end(&mut self.ports.probe);
    }

    pub(crate) fn debug_take(&mut self, call: &[u8], access: Access, out: &mut [u8]) -> Option<usize> {
        let scene = Scene { board: &self.facts.board };
        self.agent.take(call, access, &scene, &mut self.ports.probe, out)
    }

    pub(crate) fn debug_poll(&mut self, out: &mut [u8]) -> Option<usize> {
        let scene = Scene { board: &self.facts.board };
        self.agent.poll(&scene, &mut self.ports.probe, out)
    }

    pub(crate) fn debug_deadline(&self) -> Next {
        Next::Never
    }

    pub(crate) fn debug_written(&mut self) -> Option<(u32, u32)> {
        None
    }
}
