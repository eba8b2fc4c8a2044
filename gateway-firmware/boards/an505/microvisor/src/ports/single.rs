//! State that the supervisor's thread has to itself.

use core::cell::RefCell;

/// A value of which there is one, for one thread.
pub(super) struct Single<T>(RefCell<T>);

// SAFETY: by the promise of `ports` the supervisor's thread alone calls in there: one core, one thread, no handler.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    pub(super) const fn new(value: T) -> Single<T> {
        Single(RefCell::new(value))
    }

    /// Uses it; nothing while it is in use already.
    pub(super) fn with<R>(&self, used: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_borrow_mut().ok().map(|mut value| used(&mut value))
    }
}
