//! Schedules by their seeds: all are right, and some are wrong without a rule.

use proptest::prelude::*;

use super::super::rules::Rule;
use super::oracle::Violation;
use super::schedule::{self, Plan};

/// Runs schedules until one is wrong.
fn first_violation(plan: Plan, seeds: std::ops::Range<u64>) -> Option<(u64, Violation)> {
    seeds
        .into_iter()
        .find_map(|seed| schedule::run(plan, seed).err().map(|violation| (seed, violation)))
}

fn assert_right(plan: Plan, seeds: std::ops::Range<u64>) {
    if let Some((seed, Violation(invariant, what))) = first_violation(plan, seeds) {
        panic!("seed {seed} of {plan:?} violates {invariant}: {what}");
    }
}

#[test]
fn random_schedules_of_two_processes_keep_every_invariant() {
    assert_right(Plan::two(), 0..1500);
}

#[test]
fn random_schedules_of_three_processes_keep_every_invariant() {
    assert_right(Plan::three(), 10_000..11_500);
}

#[test]
fn random_schedules_of_references_that_come_home_keep_every_invariant() {
    assert_right(Plan::homing(), 40_000..41_000);
}

#[test]
fn random_schedules_under_tight_limits_keep_every_invariant() {
    assert_right(
        Plan {
            tight: true,
            ..Plan::homing()
        },
        20_000..20_700,
    );
    assert_right(
        Plan {
            tight: true,
            ..Plan::three()
        },
        30_000..30_700,
    );
}

/// How many schedules are tried before a rule counts as carried by nothing.
const TRIES: u64 = 6000;

/// Switches a rule off and expects one of these invariants to break.
fn assert_carried(rule: Rule, plan: Plan, breaks: &[&str]) {
    let plan = Plan {
        without: Some(rule),
        ..plan
    };
    match first_violation(plan, 100_000..100_000 + TRIES) {
        Some((_, Violation(invariant, _))) if breaks.contains(&invariant) => {}
        Some((seed, Violation(invariant, what))) => {
            panic!("without {rule:?}, seed {seed} breaks {invariant} ({what}) and not one of {breaks:?}")
        }
        None => panic!("nothing breaks without {rule:?}"),
    }
}

#[test]
fn a_release_must_say_how_many_copies_it_gives_back() {
    assert_carried(Rule::CountOnRelease, Plan::two(), &["I2"]);
}

#[test]
fn a_release_must_be_of_the_youngest_proxy() {
    assert_carried(Rule::Generation, Plan::two(), &["I1", "I2"]);
}

#[test]
fn what_a_call_lends_must_stay_until_it_returns() {
    assert_carried(Rule::PinUntilReturn, Plan::two(), &["I1"]);
}

#[test]
fn what_was_lent_must_be_retained_before_the_return() {
    assert_carried(Rule::RetainAtOnce, Plan::two(), &["I1"]);
}

#[test]
fn the_references_of_a_late_result_must_be_released() {
    assert_carried(Rule::LateResultReleased, Plan::two(), &["I2"]);
}

#[test]
fn a_cancel_must_reach_calls_that_wait_for_their_target() {
    assert_carried(Rule::CancelReachesQueues, Plan::two(), &["I5"]);
}

#[test]
fn a_result_that_lives_with_the_caller_must_be_flushed() {
    assert_carried(Rule::AwaitFlush, Plan::homing(), &["I3", "I10"]);
}

#[test]
fn every_slot_that_was_called_on_must_count_for_the_flush() {
    assert_carried(Rule::EverySlotFlushed, Plan::homing(), &["I3", "I10"]);
}

#[test]
fn a_flush_must_be_written_behind_calls_on_the_result_that_wait_for_limits() {
    assert_carried(
        Rule::FlushBehindWaiting,
        Plan {
            tight: true,
            ..Plan::homing()
        },
        &["I3", "I10"],
    );
}

#[test]
fn a_flush_must_be_acknowledged_behind_the_calls_that_were_passed_on() {
    assert_carried(Rule::AckBehindCalls, Plan::homing(), &["I3", "I10"]);
}

#[test]
fn a_flush_must_be_acknowledged_behind_passed_on_calls_that_wait_for_limits() {
    assert_carried(
        Rule::AckBehindWaiting,
        Plan {
            tight: true,
            ..Plan::homing()
        },
        &["I3", "I10"],
    );
}

#[test]
fn a_flush_must_not_be_acknowledged_behind_calls_that_are_less_deep() {
    assert_carried(
        Rule::AckPastShallower,
        Plan {
            tight: true,
            ..Plan::homing()
        },
        &["I8"],
    );
}

#[test]
fn a_call_must_be_finished_with() {
    assert_carried(Rule::Finish, Plan::two(), &["I2"]);
}

#[test]
fn a_finish_must_wait_for_the_flush() {
    assert_carried(Rule::FinishAfterFlush, Plan::homing(), &["I1"]);
}

#[test]
fn a_call_must_not_be_cancelled_while_others_depend_on_it() {
    assert_carried(Rule::CancelWithoutChildren, Plan::two(), &["I5"]);
}

#[test]
fn an_outcome_must_be_shown_in_its_turn() {
    assert_carried(Rule::OutcomeInTurn, Plan::homing(), &["I3", "I10"]);
}

#[test]
fn a_call_that_was_cut_off_must_not_be_said_not_to_be_sent_if_it_was() {
    assert_carried(Rule::Certainty, Plan::three(), &["I6"]);
}

#[test]
fn a_result_behind_a_flush_must_be_given_up_when_the_connection_is_lost() {
    assert_carried(
        Rule::SeverDropsFlushing,
        Plan {
            lossy: true,
            ..Plan::homing()
        },
        &["I3", "I10"],
    );
}

#[test]
fn messages_must_change_the_tables_in_the_order_of_the_wire() {
    let plan = Plan {
        overtaking: true,
        ..Plan::two()
    };
    let found = first_violation(plan, 100_000..100_000 + TRIES);
    assert!(
        matches!(found, Some((_, Violation("I1" | "I2" | "I3", _)))),
        "{found:?}"
    );
}

#[test]
fn one_call_of_each_depth_must_be_admitted_whatever_is_under_way() {
    assert_carried(
        Rule::OneOfEachDepth,
        Plan {
            tight: true,
            ..Plan::two()
        },
        &["I8"],
    );
}

/// Many more schedules: `cargo test -p farref-netref -- --ignored many_more`; `SCHEDULES` says how many of each.
#[test]
#[ignore = "minutes"]
fn many_more_schedules_keep_every_invariant() {
    let count = std::env::var("SCHEDULES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(20_000);
    for plan in [Plan::two(), Plan::homing(), Plan::three()] {
        for tight in [false, true] {
            for steps in [100, 250, 800] {
                let seeds = 1_000_000..1_000_000 + count * 100 / steps as u64;
                assert_right(Plan { tight, steps, ..plan }, seeds.clone());
                assert_right(
                    Plan {
                        tight,
                        steps,
                        lossy: true,
                        ..plan
                    },
                    seeds,
                );
            }
        }
    }
}

/// Seeds that a fuzzer has found are kept with those of the other targets, one to a line.
#[test]
fn schedules_that_a_fuzzer_has_made_keep_every_invariant() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/schedule.hex");
    for line in std::fs::read_to_string(seeds).unwrap().lines() {
        let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        super::fuzz(&(0..line.len()).step_by(2).map(digits).collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn schedules_that_a_fuzzer_makes_keep_every_invariant(
        choices in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        super::fuzz(&choices);
    }
}
