//! Handles: numbers that say nothing, and none of which is given twice.
//!
//! They protect an application from itself: one that is kept after its thing was closed finds nothing, and does not find
//! what was opened later. They are no secret.

/// Where handles come from.
#[derive(Debug, Clone, Copy)]
pub struct Handles(u32);

impl Handles {
    /// `seed` is as random as the board can make it.
    pub const fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// The next one. It is not zero, and not one of the 4 billion before.
    pub fn draw(&mut self) -> u32 {
        loop {
            self.0 = self.0.wrapping_add(0x9E37_79B9);
            let handle = mixed(self.0);
            if handle != 0 {
                return handle;
            }
        }
    }
}

/// MurmurHash3's finalizer, which maps no two numbers to one.
const fn mixed(number: u32) -> u32 {
    let number = (number ^ number >> 16).wrapping_mul(0x85EB_CA6B);
    let number = (number ^ number >> 13).wrapping_mul(0xC2B2_AE35);
    number ^ number >> 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_number_that_would_be_zero_is_left_out() {
        assert_eq!(mixed(0), 0);
        let mut handles = Handles::new(0u32.wrapping_sub(0x9E37_79B9));
        assert_ne!(handles.draw(), 0);
    }

    proptest! {
        #[test]
        fn handles_are_not_zero_and_differ(seed: u32) {
            let mut handles = Handles::new(seed);
            let mut drawn: [u32; 200] = core::array::from_fn(|_| handles.draw());
            drawn.sort_unstable();
            prop_assert!(drawn[0] != 0 && drawn.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
