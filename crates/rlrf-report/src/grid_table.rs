//! A grid of methods and seeds as plain tables: the same rows for the terminal, the page and a README.

use rlrf_eval::evaluation::{Unit, unit};

use crate::figure::{NONE, decimal, duration, optional};
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
                let value = grid.value(method, measure, iteration);
                row.push(optional(value.map(|value| value.mean * scale), decimals));
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
                let mean = |figure: &dyn Fn(&GridRun) -> Option<f64>, scale: f64, decimals| {
                    optional(grid.figure(method, figure).map(|found| found.mean * scale), decimals)
                };
                row.push(mean(&|run| run.solved(iteration), 1.0, 0));
                row.push(mean(&|run| run.solved_by_refinement_only(iteration), 1.0, 0));
                let gain = grid.figure(method, |run| run.reflection_gain(iteration));
                row.push(estimate(gain, 100.0, 1));
            }
            row.push(optional(grid.figure(method, GridRun::pairs).map(|found| found.mean), 0));
            row
        })
        .collect();
    let caption = "The search, by iteration: instructions that some candidate solved, those that no sample but a refinement \
                   solved, and the reflection gain in points"
        .into();
    Table { caption, header, rows }
}

/// What a run cost, and what became of the policy.
fn cost(grid: &Grid) -> Table {
    let last = grid.iterations();
    let set = grid.measures().first().map(|measure| measure.set.clone()).unwrap_or_default();
    let header = ["method", "candidates", "tokens of candidates", "candidates judged", "time"]
        .map(String::from)
        .into_iter()
        .chain([format!("tokens per answer of M_{last}"), format!("KL(M_{last} to M_0), nats per response")])
        .collect();
    let rows = grid
        .methods
        .iter()
        .map(|method| {
            let mean = |figure: &dyn Fn(&GridRun) -> Option<f64>| {
                grid.figure(method, figure).map(|found| found.mean)
            };
            vec![
                method.clone(),
                optional(mean(&GridRun::candidates), 0),
                optional(mean(&GridRun::candidate_tokens), 0),
                optional(mean(&GridRun::judgements), 0),
                mean(&GridRun::seconds).map_or(NONE.into(), duration),
                optional(mean(&|run| run.length(&set, last)), 1),
                optional(mean(&|run| run.kl(last)), 2),
            ]
        })
        .collect();
    let caption = "What a run cost, all iterations together. Time is that of the stages which the run did itself: what an \
                   earlier run of the comparison had computed (models, samples, judgements) was taken over"
        .into();
    Table { caption, header, rows }
}

/// `+4.2 [+1.0, +7.4]`.
fn estimate(found: Option<Estimate>, scale: f64, decimals: usize) -> String {
    let signed = |value: f64| crate::figure::signed(Some(value * scale), decimals);
    match found {
        None => NONE.into(),
        Some(Estimate { mean, interval: None, .. }) => signed(mean),
        Some(Estimate { mean, interval: Some([low, high]), .. }) => {
            format!("{} [{}, {}]", signed(mean), signed(low), signed(high))
        }
    }
}

/// A value with its interval, unsigned, for labels.
pub(crate) fn labelled(found: Estimate, scale: f64) -> String {
    decimal(found.mean * scale, 1)
}
