//! Training metrics over the steps.

use serde_json::Value;

use super::chart::{Line, LineChart, Point};
use super::markup::{Section, charts, escape, table};
use crate::figure::{NONE, count, significant};
use crate::summary::{Summary, TrainingCurve};

/// A metric's name and where a step holds it.
type Metric = (&'static str, &'static str);

/// A chart: title, what to look for, metrics, values that the scale must hold.
type Plan = (&'static str, &'static str, &'static [Metric], &'static [f64]);

const LOSS: Plan = ("Loss", "Loss of each step, before its update.", &[("loss", "/loss")], &[]);

const PREFERENCE: [Plan; 4] = [
    (
        "Reward margin",
        "Mean reward of the chosen responses minus that of the rejected ones.",
        &[("margin", "/preference/rewards_margin")],
        &[0.0],
    ),
    (
        "Reward accuracy",
        "Share of pairs whose chosen response has the higher reward.",
        &[("accuracy", "/preference/rewards_accuracy")],
        &[0.0, 1.0],
    ),
    (
        "Log-probability of a response",
        "Mean log-probability of chosen and rejected responses, in nats; a falling chosen line means collapse.",
        &[("chosen", "/preference/logps_chosen"), ("rejected", "/preference/logps_rejected")],
        &[],
    ),
    (
        "Drift, nats per token",
        "Away from the reference: KL estimate over all responses of the pairs, and what the chosen responses have lost; lost probability means collapse.",
        &[
            ("KL estimate", "/preference/kl_per_token"),
            ("lost by chosen", "/preference/chosen_fall_per_token"),
        ],
        &[0.0],
    ),
];

/// Of a policy gradient.
const POLICY: [Plan; 2] = [
    (
        "Drift, nats per token",
        "KL estimate away from the reference over the tokens of all samples.",
        &[("KL estimate", "/policy/kl_per_token")],
        &[0.0],
    ),
    (
        "Clipped tokens",
        "Share of the tokens whose probability has moved so far that they teach nothing more.",
        &[("clipped", "/policy/clip_ratio")],
        &[0.0],
    ),
];

/// Of a reward model.
const REWARD: [Plan; 2] = [
    (
        "Score margin",
        "Mean score of the chosen responses minus that of the rejected ones.",
        &[("margin", "/reward/margin")],
        &[0.0],
    ),
    (
        "Score accuracy",
        "Share of pairs whose chosen response has the higher score.",
        &[("accuracy", "/reward/accuracy")],
        &[0.0, 1.0],
    ),
];

/// The curves of each training stage.
pub(super) fn training(summary: &Summary) -> Option<Section> {
    if summary.training.is_empty() {
        return None;
    }
    let body = summary.training.iter().map(stage).collect();
    Some(Section { id: "training", heading: "Training", body })
}

fn stage(curve: &TrainingCurve) -> String {
    let name = escape(&curve.stage);
    if curve.steps.is_empty() {
        return format!("<h3>{name}</h3>\n<p class=\"quiet\">No steps.</p>\n");
    }
    let plans: Vec<&Plan> = std::iter::once(&LOSS)
        .chain(&PREFERENCE)
        .chain(&POLICY)
        .chain(&REWARD)
        .filter(|plan| {
            plan.2.iter().any(|metric| curve.steps.iter().any(|step| value(step, metric).is_some()))
        })
        .collect();
    let figures: String = plans.iter().map(|plan| chart(curve, plan)).collect();
    let rows: Vec<Vec<String>> =
        plans.iter().flat_map(|plan| plan.2).map(|metric| extent(curve, metric)).collect();
    let caption =
        format!("{}, {} steps; summary.json holds every step", curve.stage, count(curve.steps.len() as u64));
    let header = ["metric", "first", "last", "lowest", "highest"];
    format!("<h3>{name}</h3>\n{}{}", charts(&figures), table(&caption, &header, &rows))
}

fn chart(curve: &TrainingCurve, (title, description, metrics, include): &Plan) -> String {
    let numbers = step_numbers(curve);
    let line = |metric: &Metric| Line {
        name: metric.0,
        points: curve
            .steps
            .iter()
            .zip(&numbers)
            .map(|(step, &number)| {
                let y = value(step, metric);
                let label = format!("step {number}: {}", y.map_or(NONE.into(), significant));
                Point { x: number, y, interval: None, label }
            })
            .collect(),
    };
    let mut names: Vec<(f64, String)> = Vec::new();
    if let [first, rest @ ..] = &numbers[..] {
        names.push((*first, format!("step {first}")));
        names.extend(rest.last().map(|last| (*last, last.to_string())));
    }
    LineChart {
        title,
        description,
        lines: metrics.iter().map(line).collect(),
        names,
        include,
        write_values: false,
    }
    .html()
}

/// The `step` of each step; its position where a step does not say.
fn step_numbers(curve: &TrainingCurve) -> Vec<f64> {
    let number = |(index, step): (usize, &Value)| step["step"].as_f64().unwrap_or(index as f64 + 1.0);
    curve.steps.iter().enumerate().map(number).collect()
}

fn value(step: &Value, metric: &Metric) -> Option<f64> {
    step.pointer(metric.1).and_then(Value::as_f64)
}

fn extent(curve: &TrainingCurve, metric: &Metric) -> Vec<String> {
    let values: Vec<f64> = curve.steps.iter().filter_map(|step| value(step, metric)).collect();
    let figures = [
        values.first().copied(),
        values.last().copied(),
        values.iter().copied().reduce(f64::min),
        values.iter().copied().reduce(f64::max),
    ];
    let mut row = vec![metric.0.to_string()];
    row.extend(figures.map(|figure| figure.map_or(NONE.into(), significant)));
    row
}
