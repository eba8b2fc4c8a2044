//! No heap. The core links an allocator, for debug sessions; the first stage has none of those, and what never allocates is not linked.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;

#[global_allocator]
static HEAP: NoHeap = NoHeap;

struct NoHeap;

// SAFETY: no block is ever given out.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
