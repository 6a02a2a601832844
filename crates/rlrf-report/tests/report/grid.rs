//! A comparison of methods, by hand.

use rlrf_method::reflection::Reflection;
use rlrf_report::{Divergence, Grid, GridRun, Summary, final_table, grid_html, grid_table, report_html};

use crate::fixture::{empty, evaluation, word_problems};

/// A run whose `M_0` has 40 of 100 right, and whose `M_1` so many.
fn run(method: &str, seed: u64, right: u64) -> GridRun {
    let summary = Summary {
        evaluations: vec![evaluation("held-out", 0, 40, 100), evaluation("held-out", 1, right, 100)],
        iterations: word_problems().iterations[..1].to_vec(),
        divergences: vec![Divergence { iteration: 1, kl: 1.25, kl_per_token: 0.1 }],
        ..empty()
    };
    GridRun { method: method.into(), seed, summary }
}

/// Changes 6, 8, 10 and, of the other, 5, 5, 5: 1, 3 and 5 greater.
fn grid() -> Grid {
    let first = [46, 48, 50].into_iter().zip(1..).map(|(right, seed)| run("first", seed, right));
    let second = (1..=3).map(|seed| run("second", seed, 45));
    let runs = first.chain(second).collect();
    let methods = vec!["first".into(), "second".into()];
    Grid { name: "g".into(), methods, planned: 6, runs, other: vec![run("first", 1, 99)] }
}

#[test]
fn changes_are_compared_seed_by_seed() {
    let grid = grid();
    assert_eq!(grid.iterations(), 1);
    let measures = grid.measures();
    let [measure] = measures.as_slice() else { panic!("{measures:?}") };
    let change = grid.change("first", measure, 1).unwrap();
    assert!((change.mean - 0.08).abs() < 1e-12 && change.seeds == 3);
    // 4.3027 * sqrt(0.0004 / 3)
    let [low, high] = change.interval.unwrap();
    assert!((low - (0.08 - 0.049_683)).abs() < 1e-5 && (high - (0.08 + 0.049_683)).abs() < 1e-5);
    let advantage = grid.advantage("second", measure, 1).unwrap();
    assert!((advantage.mean - 0.03).abs() < 1e-12, "{advantage:?}");
    assert_eq!(advantage.is_beyond_noise(), Some(false));
    assert_eq!(grid.change("second", measure, 1).unwrap().is_beyond_noise(), Some(true));
}

#[test]
fn a_seed_that_the_other_lacks_is_left_out() {
    let mut grid = grid();
    grid.runs.retain(|run| run.method == "second" || run.seed == 2);
    let measure = &grid.measures()[0];
    let advantage = grid.advantage("second", measure, 1).unwrap();
    assert!((advantage.mean - 0.03).abs() < 1e-12 && advantage.seeds == 1);
    assert_eq!(advantage.is_beyond_noise(), None);
}

#[test]
fn tables_show_progress_search_and_cost() {
    let table = grid_table(&grid());
    for expected in [
        "| first | 3 | 40.0 [40.0, 40.0] | 48.0 [43.0, 53.0] | +8.0 [+3.0, +13.0] | – |",
        "| second | 3 | 40.0 [40.0, 40.0] | 45.0 [45.0, 45.0] | +5.0 [+5.0, +5.0] | +3.0 [-2.0, +8.0], within noise |",
        "change of first greater by",
        "| first | 11.2 [11.2, 11.2] | 11.2 [11.2, 11.2] | 1.25 [1.25, 1.25] |",
    ] {
        assert!(table.contains(expected), "{table}");
    }
    assert!(!table.contains("runs are finished"));
    let unfinished = Grid { planned: 9, ..grid() };
    assert!(grid_table(&unfinished).contains("6 of 9 runs are finished."));
    let page = grid_html(&unfinished);
    for expected in ["+8.0 [+3.0, +13.0]", "length of answers, tokens", "Divergence from M_0"] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn methods_without_benchmarks_are_compared_by_their_search() {
    let mut grid = grid();
    grid.runs.iter_mut().for_each(|run| run.summary.evaluations.clear());
    assert_eq!(grid.iterations(), 1);
    assert!(grid_table(&grid).contains("| first | 144 [144, 144] | 23 [23, 23] |"), "{}", grid_table(&grid));
    // Where nobody knows what is right, nothing is solved or unsolved.
    for iteration in grid.runs.iter_mut().flat_map(|run| &mut run.summary.iterations) {
        (iteration.sampled_right, iteration.reflection) = (None, Reflection::default());
    }
    assert!(grid_table(&grid).contains("| first | – | – | – |"), "{}", grid_table(&grid));
}

#[test]
fn a_run_whose_right_answers_nobody_knows_shows_dashes() {
    let mut summary = word_problems();
    for iteration in &mut summary.iterations {
        (iteration.sampled_right, iteration.reflection) = (None, Reflection::default());
    }
    let table = final_table(&summary);
    assert!(table.contains('–') && !table.contains("0/200"), "{table}");
    let page = report_html(&summary);
    assert!(page.contains("right samples") && !page.contains("0 of 1,600"), "{page}");
}
