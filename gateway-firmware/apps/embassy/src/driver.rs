//! Embassy's time: a tick of 1 kHz by SysTick, and the tasks that wait for one.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;
use holdfast::board;

holdfast::handler!(sys_tick, tick);

/// Of 1 kHz, 49 days: this application says what it has to say in less.
static TICKS: AtomicU32 = AtomicU32::new(0);

struct SysTick {
    waiting: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: SysTick = SysTick { waiting: Mutex::new(RefCell::new(Queue::new())) });

pub(crate) fn start(clock_hz: u32) {
    board::start_sys_tick(clock_hz / embassy_time_driver::TICK_HZ as u32);
}

pub(crate) fn ticks() -> u32 {
    TICKS.load(Ordering::Relaxed)
}

fn tick() {
    let now = TICKS.fetch_add(1, Ordering::Relaxed) + 1;
    critical_section::with(|token| {
        // Wakes what is due; when the next is does not matter to a tick that always comes.
        let _ = DRIVER.waiting.borrow(token).borrow_mut().next_expiration(now.into());
    });
}

impl Driver for SysTick {
    fn now(&self) -> u64 {
        ticks().into()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|token| {
            let _ = self.waiting.borrow(token).borrow_mut().schedule_wake(at, waker);
        });
    }
}
