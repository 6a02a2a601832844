//! Accuracy of each model on each set.

use super::chart::{Line, LineChart, Point};
use super::markup::{Section, charts, table};
use crate::figure::{count, decimal, part_of, percent};
use crate::interval::wilson_interval;
use crate::progress::{SetProgress, accuracy as share_right};
use crate::summary::Summary;

/// One chart per set, all on the same scale, and all counts.
pub(super) fn accuracy(summary: &Summary) -> Option<Section> {
    let sets = SetProgress::of(summary);
    if sets.is_empty() {
        return None;
    }
    // One scale for all sets, so that a steep line means a large change in every chart.
    let highest = summary
        .evaluations
        .iter()
        .filter(|evaluation| evaluation.problems > 0)
        .map(|evaluation| wilson_interval(evaluation.correct, evaluation.problems).1 * 100.0)
        .fold(0.0, f64::max);
    let figures: String = sets.iter().map(|progress| chart(progress, highest)).collect();
    let rows: Vec<Vec<String>> = sets
        .iter()
        .flat_map(|progress| &progress.evaluations)
        .map(|evaluation| {
            let (low, high) = wilson_interval(evaluation.correct, evaluation.problems);
            vec![
                evaluation.set.clone(),
                format!("M_{}", evaluation.iteration),
                percent(share_right(evaluation)),
                format!("{} to {}", percent(Some(low)), percent(Some(high))),
                count(evaluation.correct),
                count(evaluation.problems),
                count(evaluation.unreadable),
                decimal(evaluation.mean_tokens, 1),
            ]
        })
        .collect();
    let header = ["set", "model", "accuracy", "95% interval", "right", "problems", "unreadable", "tokens"];
    let body = format!(
        "<p>M_0 is the model that the run began with; M_1 is the result of iteration 0, and so on. Greedy answers, \
         checked exactly; an answer that cannot be read is wrong. Bars show Wilson's 95% interval: the uncertainty \
         of so many problems, not of another seed.</p>\n{}{}",
        charts(&figures),
        table("Accuracy; tokens is the mean length of an answer", &header, &rows)
    );
    Some(Section { id: "accuracy", heading: "Accuracy", body })
}

fn chart(progress: &SetProgress<'_>, highest: f64) -> String {
    let points: Vec<Point> = progress
        .evaluations
        .iter()
        .map(|evaluation| {
            let share = share_right(evaluation);
            let (low, high) = wilson_interval(evaluation.correct, evaluation.problems);
            Point {
                x: f64::from(evaluation.iteration),
                y: share.map(|share| share * 100.0),
                interval: share.map(|_| (low * 100.0, high * 100.0)),
                label: percent(share),
            }
        })
        .collect();
    let described: Vec<String> = progress
        .evaluations
        .iter()
        .map(|evaluation| {
            let counts = part_of(evaluation.correct, evaluation.problems);
            format!("M_{}: {}, {counts}", evaluation.iteration, percent(share_right(evaluation)))
        })
        .collect();
    LineChart {
        title: &format!("{}, % right", progress.set),
        description: &described.join("; "),
        names: progress
            .evaluations
            .iter()
            .map(|evaluation| (f64::from(evaluation.iteration), format!("M_{}", evaluation.iteration)))
            .collect(),
        lines: vec![Line { name: progress.set, points }],
        include: &[0.0, highest],
        write_values: true,
    }
    .html()
}
