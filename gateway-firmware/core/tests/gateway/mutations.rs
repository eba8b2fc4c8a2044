//! Would the tests of debug sessions notice? As `tests/update/mutations.rs`, for what a session's way to the device must hold.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway_core::mutation::{Mutation, switch_on};

use crate::debug::FINDS;

#[test]
fn every_deliberate_fault_of_a_session_makes_its_named_test_fail() {
    let mut unnoticed = Vec::new();
    for (mutation, test, check) in FINDS {
        let guard = switch_on(mutation);
        let found = catch_unwind(AssertUnwindSafe(check)).is_err();
        drop(guard);
        println!("{mutation:?}: {} by debug::{test}", if found { "found" } else { "NOT FOUND" });
        if !found {
            unnoticed.push(mutation);
        }
    }
    assert_eq!(unnoticed, []);
    for mutation in Mutation::PIPE {
        assert_eq!(FINDS.iter().filter(|(listed, ..)| *listed == mutation).count(), 1, "{mutation:?}");
    }
}
