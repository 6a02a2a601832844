//! The benchmarks' numbers of each model on each set.

use rlrf_eval::evaluation::{Unit, unit};

use super::chart::{Line, LineChart, Point};
use super::markup::{Section, charts, table};
use crate::figure::count;
use crate::progress::{SetProgress, shown, shown_counts, shown_interval, spoken};
use crate::summary::Summary;

/// One chart per set and metric, shares all on the same scale, and all numbers.
pub(super) fn accuracy(summary: &Summary) -> Option<Section> {
    if summary.evaluations.is_empty() {
        return None;
    }
    let sets = SetProgress::of(summary);
    // One scale for all shares, of one percent at least, so that a steep line means a large change in every chart.
    let shares = summary.evaluations.iter().flat_map(|evaluation| &evaluation.intervals);
    let highest = shares
        .filter(|(metric, _)| unit(metric) == Unit::Share)
        .map(|(_, [_, high])| high * 100.0)
        .fold(1.0, f64::max);
    let figures: String = sets.iter().map(|progress| chart(progress, highest)).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for evaluation in &summary.evaluations {
        for (metric, &value) in &evaluation.metrics {
            rows.push(vec![
                evaluation.set.clone(),
                format!("M_{}", evaluation.iteration),
                spoken(metric),
                shown(metric, Some(value)),
                shown_interval(metric, evaluation.intervals.get(metric).copied()),
                count(evaluation.counted("items")),
                shown_counts(evaluation),
            ]);
        }
    }
    let header = ["set", "model", "metric", "value", "95% interval", "items", "counts"];
    let body = format!(
        "<p>M_0 is the model that the run began with; M_1 is the result of iteration 0, and so on. An answer that \
         cannot be read is wrong, and counted. Bars show the 95% bootstrap interval: the uncertainty of so many items, \
         not of another seed.</p>\n{}{}",
        charts(&figures),
        table("Every number with its interval, and what was counted on the way", &header, &rows)
    );
    Some(Section { id: "accuracy", heading: "Accuracy", body })
}

fn chart(progress: &SetProgress<'_>, highest: f64) -> String {
    let scale = if progress.is_share() { 100.0 } else { 1.0 };
    let points: Vec<Point> = progress
        .evaluations
        .iter()
        .map(|evaluation| Point {
            x: f64::from(evaluation.iteration),
            y: progress.value(evaluation).map(|value| value * scale),
            interval: progress.interval(evaluation).map(|[low, high]| (low * scale, high * scale)),
            label: progress.shown(evaluation),
        })
        .collect();
    let described: Vec<String> = progress
        .evaluations
        .iter()
        .map(|evaluation| {
            let interval = shown_interval(progress.metric, progress.interval(evaluation));
            format!("M_{}: {} {interval}", evaluation.iteration, progress.shown(evaluation))
        })
        .collect();
    let name = progress.name();
    let title = match (progress.metric, progress.is_share()) {
        ("accuracy", _) => format!("{name}, % right"),
        (_, true) => format!("{name}, %"),
        _ => name.clone(),
    };
    let include: &[f64] = if progress.is_share() { &[0.0, highest] } else { &[] };
    LineChart {
        title: &title,
        description: &described.join("; "),
        names: progress
            .evaluations
            .iter()
            .map(|evaluation| (f64::from(evaluation.iteration), format!("M_{}", evaluation.iteration)))
            .collect(),
        lines: vec![Line { name: &name, points }],
        include,
        write_values: true,
    }
    .html()
}
