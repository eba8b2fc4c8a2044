//! State that threads and handlers share.

use core::cell::UnsafeCell;

use chip::special::undisturbed;

/// A value that is used only while no exception is taken, so by one at a time. Faults are taken even then: their
/// handlers look at none of these unless the fault is the application's, which runs no code of ours.
#[derive(Debug)]
pub(crate) struct Shared<T>(UnsafeCell<T>);

// SAFETY: there is one core, and `with` admits one user at a time on it.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Uses the value; briefly, for interrupts wait. `f` uses no `with` of the same value.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: no exception is taken meanwhile and `f` does not come here again: this is the only reference.
        undisturbed(|| f(unsafe { &mut *self.0.get() }))
    }
}
