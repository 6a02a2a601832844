use rlrf_eval::Evaluation;
use rlrf_report::final_table;

use crate::fixture::{empty, evaluation, word_problems};

#[test]
fn the_table_of_a_run() {
    let expected = "\
accuracy                  M_0                  M_1                  M_2   change
held-out   39.0% [34.0, 44.0]   42.8% [37.8, 47.8]   47.0% [42.0, 52.0]     +8.0
svamp       10.3% [5.3, 15.3]    11.3% [6.3, 16.3]     9.7% [4.7, 14.7]     -0.7
held-out M_0: unreadable 10
svamp M_0: unreadable 7
held-out M_1: unreadable 10
svamp M_1: unreadable 7
held-out M_2: unreadable 10
svamp M_2: unreadable 7

iteration   sampled right   refined right   fresh right    gain   only by refinement   pairs
0                   24.9%           32.0%         16.7%   +15.3               23/200     431
1                   28.6%           21.3%         26.1%    -4.8               23/200     431
refined right, fresh right: of refinements and of samples, where the draft was wrong; gain: their
difference in points; only by refinement: instructions that no sample solved

warning: Reflection gain is not positive: -3.1 points in iteration 1 (23.0% of the refinements
         right, 26.1% of fresh samples). Let the critique say where the error is and what is needed
         there.
";
    assert_eq!(final_table(&word_problems()), expected);
}

#[test]
fn the_reward_model_has_its_own_block() {
    let mut summary = empty();
    summary.evaluations = vec![evaluation("a", 0, 1, 2)];
    let mut reward = Evaluation::new("reward", 1, "held-out pairs");
    reward.count("items", 80);
    reward.metrics.insert("accuracy".into(), 0.875);
    reward.intervals.insert("accuracy".into(), [0.8, 0.95]);
    summary.reward = Some(reward);
    let table = final_table(&summary);
    let (before, block) = table.split_once("\n\n").unwrap();
    assert!(!before.contains("reward"), "{table}");
    assert!(block.starts_with("reward: held-out pairs, 80 items") && block.contains("87.5%"), "{table}");
}

#[test]
fn what_is_missing_has_a_dash() {
    let mut summary = empty();
    summary.evaluations = vec![evaluation("a", 0, 1, 2), evaluation("b", 1, 0, 0)];
    let expected = "accuracy                  M_0   M_1   change\n\
                    a          50.0% [45.0, 55.0]     –        –\n";
    assert_eq!(final_table(&summary), expected);
    assert_eq!(final_table(&empty()), "Nothing has been evaluated yet.\n");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut summary = word_problems();
    summary.evaluations[0].set = "a\u{1b}[31mb\nc".into();
    summary.warnings = vec!["\u{7}ring\r\nthe bell".into()];
    let table = final_table(&summary);
    assert!(
        table.contains("a\u{fffd}[31mb c") && table.contains("warning: \u{fffd}ring the bell\n"),
        "{table}"
    );
    assert!(!table.contains(['\u{1b}', '\u{7}', '\r']));
}
