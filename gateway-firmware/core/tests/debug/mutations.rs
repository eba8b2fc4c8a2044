//! Would the tests notice? Each deliberate fault of the debug agent is switched on, and a named test must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway_core::mutation::{Mutation, switch_on};

use crate::{breakpoints, calls, garbage, restart};

/// A fault, the test that finds it, and that test.
const FOUND_BY: [(Mutation, &str, fn()); Mutation::DEBUG.len()] = [
    (
        Mutation::DebugOtherStart,
        "restart::what_was_said_of_one_start_is_not_done_in_the_next",
        restart::what_was_said_before_is_not_done,
    ),
    (
        Mutation::DebugOtherVersion,
        "restart::another_version_begins_without_breakpoints_and_is_told",
        restart::another_version_begins_without_breakpoints,
    ),
    (
        Mutation::DebugOut,
        "restart::nothing_is_planted_in_what_is_measured_stopped_or_started",
        restart::what_is_measured_is_the_program,
    ),
    (
        Mutation::DebugReadOnly,
        "calls::a_session_that_may_only_read_changes_nothing",
        calls::a_watcher_changes_nothing,
    ),
    (
        Mutation::DebugRegion,
        "garbage::nothing_outside_the_applications_memory_is_touched",
        garbage::nothing_outside_is_touched,
    ),
    (
        Mutation::DebugRestore,
        "breakpoints::nothing_is_put_back_over_what_the_application_wrote",
        breakpoints::what_the_application_writes_stands,
    ),
];

#[test]
fn every_deliberate_fault_makes_its_named_test_fail() {
    for (mutation, test, check) in FOUND_BY {
        let guard = switch_on(mutation);
        let found = catch_unwind(AssertUnwindSafe(check)).is_err();
        drop(guard);
        assert!(found, "{mutation:?} by {test}");
    }
}

#[test]
fn every_fault_has_its_test_and_every_named_test_exists() {
    for mutation in Mutation::DEBUG {
        assert_eq!(FOUND_BY.iter().filter(|(listed, ..)| *listed == mutation).count(), 1, "{mutation:?}");
    }
    let sources = [
        ("breakpoints", include_str!("breakpoints.rs")),
        ("calls", include_str!("calls.rs")),
        ("garbage", include_str!("garbage.rs")),
        ("restart", include_str!("restart.rs")),
    ];
    for (_, name, _) in FOUND_BY {
        let (file, test) = name.split_once("::").unwrap();
        let source = sources.iter().find(|(module, _)| *module == file).unwrap().1;
        assert!(source.contains(&format!("#[test]\nfn {test}")), "{name}");
    }
}
