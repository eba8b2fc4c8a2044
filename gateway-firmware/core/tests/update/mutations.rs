//! Would the tests notice? Each deliberate fault of the core is switched on, and a named test must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway_core::mutation::{Mutation, switch_on};

use crate::sim::{SMALL, WRITE_ONCE};
use crate::{
    bad_input, boot, crash, crash_memory, exchange, flow, journal, log_share, power_cut, restart, roots,
};

/// A fault, the test that finds it, and that test.
const FOUND_BY: [(Mutation, &str, fn()); Mutation::ALL.len()] = [
    (
        Mutation::RecordCrc,
        "journal::a_flipped_bit_costs_a_value_at_most",
        journal::a_flipped_bit_anywhere_never_gives_a_wrong_value,
    ),
    (
        Mutation::BankCrc,
        "journal::a_damaged_bank_header_costs_the_newest_values_at_most",
        journal::a_damaged_header_leaves_the_bank_before,
    ),
    (Mutation::BankCommitFirst, "journal::a_put_happens_completely_or_not_at_all", journal_cuts),
    (Mutation::TornTail, "journal::a_put_happens_completely_or_not_at_all", journal_cuts),
    (Mutation::BankErase, "journal::a_put_happens_completely_or_not_at_all", journal_cuts),
    (
        Mutation::RecordReadBack,
        "journal::a_write_that_lies_is_found",
        journal::a_write_that_lies_is_found_and_written_elsewhere,
    ),
    (
        Mutation::AttemptJournal,
        "flow::a_trial_that_ends_with_the_power_each_time_is_taken_back_too",
        flow::a_trial_that_ends_with_the_power_each_time,
    ),
    (Mutation::ConfirmJournal, "flow::a_silent_service_never_reverts_an_application", flow::a_silent_service),
    (Mutation::RevertJournal, "flow::a_revert_lasts", flow::a_revert_outlasts_the_power),
    (Mutation::ResultJournal, "flow::a_silent_service_never_reverts_an_application", flow::a_silent_service),
    (
        Mutation::EnvelopeFirst,
        "power_cut::a_slot_called_previous_is_whole_after_any_cut",
        power_cut::what_is_called_previous_can_be_fallen_back_to,
    ),
    (Mutation::ConfirmedSlot, "power_cut::power_may_fail_at_any_operation_of_an_update", update_cuts),
    (
        Mutation::BlockDigest,
        "bad_input::a_layer_block_whose_bytes_do_not_match_is_refused",
        bad_input::a_block_with_other_bytes_is_not_written,
    ),
    (Mutation::BlockErase, "power_cut::power_may_fail_at_any_operation_of_an_update", update_cuts),
    (Mutation::ResumeHash, "power_cut::power_may_fail_at_any_operation_of_an_update", update_cuts),
    (
        Mutation::AreaReadBack,
        "bad_input::the_whole_area_is_read_back_before_it_is_called_verified",
        bad_input::an_area_that_does_not_read_back_is_refused,
    ),
    (
        Mutation::Measure,
        "boot::a_damaged_slot_falls_back",
        boot::a_damaged_slot_gives_way_to_the_version_before_it_and_says_so,
    ),
    (
        Mutation::ManifestSignature,
        "bad_input::a_wrongly_signed_bundle_is_refused",
        bad_input::a_manifest_signed_by_a_stranger_is_refused,
    ),
    (
        Mutation::TargetDigest,
        "bad_input::a_bundle_other_than_the_directed_one_is_refused",
        bad_input::a_manifest_the_directive_does_not_name_is_refused,
    ),
    (
        Mutation::BoardName,
        "bad_input::a_bundle_for_another_board_is_refused",
        bad_input::a_manifest_for_another_board_is_refused,
    ),
    (
        Mutation::ComponentName,
        "bad_input::a_bundle_for_another_component_is_refused",
        bad_input::a_manifest_for_another_component_is_refused,
    ),
    (
        Mutation::Floor,
        "bad_input::a_bundle_below_the_floor_is_refused",
        bad_input::a_manifest_below_the_floor_is_refused,
    ),
    (
        Mutation::Rejection,
        "flow::a_version_taken_back_is_refused_for_the_same_deployment_and_tried_again_for_a_new_one",
        bad_input::a_manifest_taken_back_is_not_tried_again_for_its_deployment,
    ),
    (
        Mutation::ExchangeRecord,
        "exchange::a_microvisor_is_exchanged_there_and_back_and_the_application_goes_on",
        exchange::there_and_back,
    ),
    (
        Mutation::ExchangeWord,
        "exchange::a_microvisor_that_nobody_acknowledges_goes_back_inconclusive_at_its_deadline",
        exchange::nobody_answers,
    ),
    (
        Mutation::ExchangeWhole,
        "exchange::no_slot_is_written_while_the_one_that_runs_is_damaged",
        exchange::the_slot_that_runs_is_damaged,
    ),
    (
        Mutation::FloorOverFallBack,
        "exchange::a_commit_leaves_the_version_before_to_fall_back_on",
        exchange::a_commit_and_then_damage,
    ),
    (
        Mutation::ExchangeHopeless,
        "exchange::where_neither_slot_is_whole_the_one_that_does_not_run_is_written",
        exchange::neither_slot_is_whole,
    ),
    (
        Mutation::ExchangeTrial,
        "exchange::a_trial_ends_after_a_day_at_the_latest",
        exchange::a_trial_without_end,
    ),
    (
        Mutation::FloorOverRunning,
        "exchange::the_first_stages_floor_is_never_above_what_runs",
        exchange::the_version_before_runs_below_the_floor,
    ),
    (
        Mutation::FloorLastResort,
        "exchange::what_runs_as_the_last_resort_raises_no_floor",
        exchange::the_last_resort_runs,
    ),
    (
        Mutation::FloorFlood,
        "flow::a_counter_that_cannot_be_raised_is_tried_once_a_minute",
        flow::a_counter_that_cannot_be_raised,
    ),
    (
        Mutation::RootsNamed,
        "roots::a_root_is_not_revoked_while_a_slot_names_it",
        roots::a_slot_names_the_dropped_root,
    ),
    (
        Mutation::OwnKeyset,
        "roots::a_device_that_lost_its_journal_after_a_root_was_revoked_enrols_and_obeys_no_thief",
        roots::the_journal_is_lost_after_a_root_was_revoked,
    ),
    (
        Mutation::RootsInUse,
        "roots::a_root_that_left_the_keyset_is_revoked_when_no_slot_needs_it",
        roots::a_root_is_dropped,
    ),
    (
        Mutation::ExchangeRoots,
        "exchange::a_microvisor_the_first_stage_would_not_believe_is_refused",
        exchange::the_first_stage_knows_no_root,
    ),
    (
        Mutation::ExchangeMinimum,
        "exchange::a_microvisor_the_application_does_not_run_on_is_refused",
        exchange::the_application_needs_what_runs,
    ),
    (Mutation::GoTarget, "flow::nothing_is_installed_without_go", flow::nothing_is_installed_without_its_go),
    (
        Mutation::DirectiveNonce,
        "bad_input::a_replayed_directive_is_ignored",
        bad_input::a_directive_for_an_older_hello_is_ignored,
    ),
    (
        Mutation::FloorAtConfirm,
        "flow::the_floor_rises_on_commit_for_what_runs_and_never_above_it_nor_back",
        flow::the_floor_rises_on_commit,
    ),
    (Mutation::CrashKept, "crash::a_report_outlasts_the_power", crash::a_report_is_there_after_the_power),
    (
        Mutation::CrashWear,
        "crash::an_application_that_crashes_for_ever_costs_the_flash_nothing",
        crash::a_crash_loop_writes_once,
    ),
    (
        Mutation::CrashMemoryCopy,
        "crash_memory::memory_is_kept_as_it_was_before_the_application_is_started_again",
        crash_memory::memory_is_as_it_was,
    ),
    (
        Mutation::CrashMemoryWear,
        "crash_memory::no_unit_is_erased_more_often_than_it_bears_in_a_boards_life",
        crash_memory::a_life_is_bounded,
    ),
    (
        Mutation::RestartFlood,
        "restart::an_application_that_asks_for_ever_is_started_ever_more_seldom",
        restart::a_flood_is_slowed_down,
    ),
    (
        Mutation::LogShare,
        "log_share::the_applications_records_push_out_none_of_the_microvisors",
        log_share::the_microvisors_records_stay,
    ),
];

fn journal_cuts() {
    journal::a_put_happens_completely_or_not_at_all_on(WRITE_ONCE);
}

fn update_cuts() {
    power_cut::every_operation_survives_a_cut(SMALL);
}

#[test]
fn every_deliberate_fault_makes_its_named_test_fail() {
    let mut unnoticed = Vec::new();
    for (mutation, test, check) in FOUND_BY {
        let guard = switch_on(mutation);
        let found = catch_unwind(AssertUnwindSafe(check)).is_err();
        drop(guard);
        println!("{mutation:?}: {} by {test}", if found { "found" } else { "NOT FOUND" });
        if !found {
            unnoticed.push(mutation);
        }
    }
    assert_eq!(unnoticed, []);
}

#[test]
fn every_fault_has_its_test_and_every_named_test_exists() {
    for mutation in Mutation::ALL {
        assert_eq!(FOUND_BY.iter().filter(|(listed, ..)| *listed == mutation).count(), 1, "{mutation:?}");
    }
    let sources = [
        ("bad_input", include_str!("bad_input.rs")),
        ("boot", include_str!("boot.rs")),
        ("crash", include_str!("crash.rs")),
        ("crash_memory", include_str!("crash_memory.rs")),
        ("exchange", include_str!("exchange.rs")),
        ("flow", include_str!("flow.rs")),
        ("journal", include_str!("journal.rs")),
        ("log_share", include_str!("log_share.rs")),
        ("power_cut", include_str!("power_cut.rs")),
        ("restart", include_str!("restart.rs")),
        ("roots", include_str!("roots.rs")),
    ];
    for (_, name, _) in FOUND_BY {
        let (file, test) = name.split_once("::").unwrap();
        let source = sources.iter().find(|(module, _)| *module == file).unwrap().1;
        assert!(source.contains(&format!("#[test]\nfn {test}")), "{name}");
    }
}
