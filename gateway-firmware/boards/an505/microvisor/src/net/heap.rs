//! The heap: one fixed arena, for TLS, what comes and goes with a connection, and the handshake of a debug session.
//!
//! Two-level segregated fit (crate `rlsf`): both operations take constant time. Freed memory is cleared, since keys and
//! plaintext pass through it. No memory left, or a call from an interrupt handler while another is under way, is a null
//! pointer: the caller panics, which is a recorded reset. How much was ever used is kept, for the budget.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rlsf::Tlsf;

/// Bytes of the arena. docs/performance.md has what of it is used.
pub(crate) const HEAP_BYTES: usize = 47 * 1024;

/// Blocks of 16 bytes to 64 KiB, in 13 classes of 16.
type Pool = Tlsf<'static, u16, u16, 13, 16>;

#[repr(C, align(8))]
struct Arena(UnsafeCell<[MaybeUninit<u8>; HEAP_BYTES]>);

// SAFETY: only `Heap` touches the arena, and only under its flag.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([MaybeUninit::uninit(); HEAP_BYTES]));

#[global_allocator]
static HEAP: Heap = Heap {
    pool: UnsafeCell::new(None),
    busy: AtomicBool::new(false),
    used: AtomicUsize::new(0),
    used_max: AtomicUsize::new(0),
};

struct Heap {
    pool: UnsafeCell<Option<Pool>>,
    busy: AtomicBool,
    used: AtomicUsize,
    used_max: AtomicUsize,
}

// SAFETY: `pool` is reached only between taking and giving back `busy`, so by one context at a time.
unsafe impl Sync for Heap {}

/// Bytes in use, and the most there have ever been in use.
pub(crate) fn usage() -> (usize, usize) {
    (HEAP.used.load(Ordering::Relaxed), HEAP.used_max.load(Ordering::Relaxed))
}

impl Heap {
    fn with_pool<R>(&self, act: impl FnOnce(&mut Pool) -> R) -> Option<R> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `busy` was free and is ours: nobody else has a reference to the pool until it is given back.
        let pool = unsafe { &mut *self.pool.get() };
        let result = act(pool.get_or_insert_with(fresh));
        self.busy.store(false, Ordering::Release);
        Some(result)
    }
}

/// A pool of the whole arena. Called once: the pool is made under the flag and never dropped.
fn fresh() -> Pool {
    let mut pool = Pool::new();
    // SAFETY: a static is never null, and nothing else refers to the arena for as long as the program runs.
    unsafe {
        let arena = NonNull::new_unchecked(ARENA.0.get().cast::<u8>());
        pool.insert_free_block_ptr(NonNull::slice_from_raw_parts(arena, HEAP_BYTES));
    }
    pool
}

// SAFETY: blocks come from the pool, which gives each out once until it is given back; layouts are honoured by it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.with_pool(|pool| pool.allocate(layout)).flatten() {
            None => null_mut(),
            Some(block) => {
                let used = self.used.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
                self.used_max.fetch_max(used, Ordering::Relaxed);
                block.as_ptr()
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(pointer) = NonNull::new(block) else { return };
        // SAFETY: the caller gives back a block of this layout, and uses it no more.
        unsafe { clear(block, layout.size()) };
        // SAFETY: the block came from this pool with this alignment. A block given back while the pool is busy is lost, which
        // cannot happen outside an interrupt handler.
        let given = self.with_pool(|pool| unsafe { pool.deallocate(pointer, layout.align()) });
        if given.is_some() {
            self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        }
    }
}

/// Overwrites memory in a way that is not optimised away.
///
/// # Safety
/// `block` is `bytes` long, writable, and nobody else's. Blocks of the pool are aligned to words at least.
unsafe fn clear(block: *mut u8, bytes: usize) {
    let words = bytes / 4;
    for word in 0..words {
        // SAFETY: within the block, and aligned as the block is.
        unsafe { block.cast::<u32>().add(word).write_volatile(0) };
    }
    for byte in words * 4..bytes {
        // SAFETY: within the block.
        unsafe { block.add(byte).write_volatile(0) };
    }
}
