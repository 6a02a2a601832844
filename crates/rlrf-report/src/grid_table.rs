//! A grid of methods and seeds as plain tables: the same rows for the terminal, the page and a README.

use rlrf_eval::evaluation::{Unit, unit};

use crate::figure::{NONE, decimal, duration};
use crate::grid::{Estimate, Grid, GridRun, Measure};
use crate::progress::spoken;

/// A table: its caption, its header, its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// All tables of a grid.
pub(crate) fn tables(grid: &Grid) -> Vec<Table> {
    let mut tables: Vec<Table> = grid.measures().iter().map(|measure| progress(grid, measure)).collect();
    tables.push(search(grid));
    tables.push(cost(grid));
    tables.push(policy(grid));
    tables
}

/// The grid's figures in Markdown, as a README shows them.
#[must_use]
pub fn grid_table(grid: &Grid) -> String {
    let mut text = String::new();
    for table in tables(grid) {
        text.push_str(&format!("{}\n\n", table.caption));
        text.push_str(&format!("| {} |\n", table.header.join(" | ")));
        text.push_str(&format!("|{}\n", " --- |".repeat(table.header.len())));
        for row in table.rows {
            let cells: Vec<String> =
                row.iter().map(|cell| cell.replace('|', "\\|").replace(char::is_control, " ")).collect();
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        text.push('\n');
    }
    if grid.runs.len() < grid.planned {
        text.push_str(&format!("{} of {} runs are finished.\n", grid.runs.len(), grid.planned));
    }
    text
}

/// What each method made of `M_0` on one set.
fn progress(grid: &Grid, measure: &Measure) -> Table {
    let is_share = unit(&measure.metric) == Unit::Share;
    let (scale, decimals) = if is_share { (100.0, 1) } else { (1.0, 2) };
    let last = grid.iterations();
    let mut header = vec!["method".to_string(), "seeds".into()];
    header.extend((0..=last).map(|iteration| format!("M_{iteration}")));
    header.push(format!("change to M_{last}"));
    if let Some(first) = grid.methods.first() {
        header.push(format!("change of {first} greater by"));
    }
    let rows = grid
        .methods
        .iter()
        .enumerate()
        .map(|(index, method)| {
            let mut row = vec![method.clone(), grid.of(method).count().to_string()];
            for iteration in 0..=last {
                row.push(level(grid.value(method, measure, iteration), scale, decimals));
            }
            row.push(estimate(grid.change(method, measure, last), scale, decimals));
            let advantage = (index > 0).then(|| grid.advantage(method, measure, last)).flatten();
            row.push(match advantage {
                None => NONE.into(),
                Some(found) => {
                    let verdict = match found.is_beyond_noise() {
                        Some(true) => "",
                        Some(false) => ", within noise",
                        None => ", one seed",
                    };
                    format!("{}{verdict}", estimate(Some(found), scale, decimals))
                }
            });
            row
        })
        .collect();
    let metric = if measure.metric == "accuracy" { "accuracy".to_string() } else { spoken(&measure.metric) };
    let unit = if is_share { ", %" } else { "" };
    let caption = format!(
        "{}: {metric}{unit}; means over seeds with the 95% interval of the mean (Student's t); changes from M_0, their differences \
         paired by seed. The intervals hold the noise of seeds, not that of the choice of items",
        measure.set
    );
    Table { caption, header, rows }
}

/// What the search found, iteration by iteration.
fn search(grid: &Grid) -> Table {
    let iterations = grid.iterations();
    let mut header = vec!["method".to_string()];
    for iteration in 0..iterations {
        header.push(format!("solved ({iteration})"));
        header.push(format!("only by a refinement ({iteration})"));
        header.push(format!("reflection gain ({iteration})"));
    }
    header.push("pairs".into());
    let rows = grid
        .methods
        .iter()
        .map(|method| {
            let mut row = vec![method.clone()];
            for iteration in 0..iterations {
                row.push(level(grid.figure(method, |run| run.solved(iteration)), 1.0, 0));
                row.push(level(grid.figure(method, |run| run.solved_by_refinement_only(iteration)), 1.0, 0));
                let gain = grid.figure(method, |run| run.reflection_gain(iteration));
                row.push(estimate(gain, 100.0, 1));
            }
            row.push(level(grid.figure(method, GridRun::pairs), 1.0, 0));
            row
        })
        .collect();
    let caption = "The search, by iteration: instructions that some candidate solved, those that no sample but a refinement \
                   solved, and the reflection gain in points"
        .into();
    Table { caption, header, rows }
}

/// What a run cost.
fn cost(grid: &Grid) -> Table {
    let header =
        ["method", "candidates", "tokens of candidates", "judgements", "time"].map(String::from).to_vec();
    let rows = grid
        .methods
        .iter()
        .map(|method| {
            let of = |figure: fn(&GridRun) -> Option<f64>| grid.figure(method, figure);
            vec![
                method.clone(),
                level(of(GridRun::candidates), 1.0, 0),
                level(of(GridRun::candidate_tokens), 1.0, 0),
                level(of(GridRun::judgements), 1.0, 0),
                spent(of(GridRun::seconds)),
            ]
        })
        .collect();
    let caption = "What a run cost, all iterations together; a judgement is one of a candidate on an aspect, its tokens are not \
                   counted. Time is that of the stages which the run did itself: what an earlier run of the comparison had \
                   computed (models, samples, judgements) was taken over"
        .into();
    Table { caption, header, rows }
}

/// What became of the policy.
fn policy(grid: &Grid) -> Table {
    let last = grid.iterations();
    let set = grid.measures().first().map(|measure| measure.set.clone()).unwrap_or_default();
    let mut header = vec!["method".to_string()];
    header.extend((0..=last).map(|iteration| format!("tokens per answer of M_{iteration}")));
    header.extend((1..=last).map(|iteration| format!("KL(M_{iteration} to M_0)")));
    let rows = grid
        .methods
        .iter()
        .map(|method| {
            let length = |iteration| level(grid.figure(method, |run| run.length(&set, iteration)), 1.0, 1);
            let kl = |iteration| level(grid.figure(method, |run| run.kl(iteration)), 1.0, 2);
            [method.clone()].into_iter().chain((0..=last).map(length)).chain((1..=last).map(kl)).collect()
        })
        .collect();
    let caption = format!(
        "What became of the policy: length of its answers ({set}), and how far it moved, in nats per response"
    );
    Table { caption, header, rows }
}

/// `42.8 [39.1, 46.5]`.
fn level(found: Option<Estimate>, scale: f64, decimals: usize) -> String {
    let write = |value: f64| decimal(value * scale, decimals);
    written(found, write)
}

/// `4 min 23 s [4 min 1 s, 4 min 45 s]`.
fn spent(found: Option<Estimate>) -> String {
    written(found, |seconds: f64| duration(seconds.max(0.0)))
}

/// `+4.2 [+1.0, +7.4]`.
fn estimate(found: Option<Estimate>, scale: f64, decimals: usize) -> String {
    written(found, |value: f64| crate::figure::signed(Some(value * scale), decimals))
}

fn written(found: Option<Estimate>, write: impl Fn(f64) -> String) -> String {
    match found {
        None => NONE.into(),
        Some(Estimate { mean, interval: None, .. }) => write(mean),
        Some(Estimate { mean, interval: Some([low, high]), .. }) => {
            format!("{} [{}, {}]", write(mean), write(low), write(high))
        }
    }
}

/// A value with its interval, unsigned, for labels.
pub(crate) fn labelled(found: Estimate, scale: f64) -> String {
    decimal(found.mean * scale, 1)
}
