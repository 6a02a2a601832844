//! The run as a whole: headline, warnings, timings, identity.

use rlrf_eval::Evaluation;

use super::markup::{Section, escape, table};
use crate::figure::{NONE, count, duration, percent};
use crate::progress::SetProgress;
use crate::summary::Summary;

/// Name, size, and what became of the accuracy on each set.
pub(super) fn headline(summary: &Summary) -> String {
    let tiles: String = SetProgress::headlines(summary).iter().map(tile).collect();
    let tiles = match tiles.as_str() {
        "" => "<p class=\"quiet\">No accuracy has been measured yet.</p>\n".to_string(),
        tiles => format!("<div class=\"tiles\">\n{tiles}</div>\n"),
    };
    let iterations = summary.iterations.len();
    format!(
        "<p class=\"kind\">Reinforcement learning from reflective feedback</p>\n<h1>{}</h1>\n\
         <p class=\"quiet\">{} parameters · {iterations} {} · seed {}</p>\n{tiles}",
        escape(&summary.name),
        count(summary.policy_parameters),
        if iterations == 1 { "iteration" } else { "iterations" },
        summary.seed,
    )
}

fn tile(progress: &SetProgress<'_>) -> String {
    let name = progress.name();
    let set = escape(&name);
    let items = |evaluation: &Evaluation| count(evaluation.counted("items"));
    let Some((first, last)) = progress.ends() else {
        return progress
            .evaluations
            .iter()
            .map(|only| {
                format!(
                    "<div class=\"tile\"><h2>{set}</h2>\n<p class=\"movement\">M_{} {}</p>\n<p class=\"quiet\">{} items</p></div>\n",
                    only.iteration,
                    progress.shown(only),
                    items(only),
                )
            })
            .collect();
    };
    let direction = match progress.change() {
        Some(change) if change > 0.0 => "up",
        Some(change) if change < 0.0 => "down",
        _ => "level",
    };
    let certainty = match progress.overlaps() {
        Some(true) => "the 95% intervals overlap",
        _ => "the 95% intervals are apart",
    };
    let unit = if progress.is_share() { " points" } else { "" };
    format!(
        "<div class=\"tile\"><h2>{set}</h2>\n\
         <p class=\"movement\">{} <span class=\"arrow\">→</span> {} <span class=\"change {direction}\">{}{unit}</span></p>\n\
         <p class=\"quiet\">M_{} to M_{}, {} items; {certainty}</p></div>\n",
        progress.shown(first),
        progress.shown(last),
        progress.shown_change(),
        first.iteration,
        last.iteration,
        items(last),
    )
}

/// The warnings, before everything that they qualify.
pub(super) fn warnings(summary: &Summary) -> String {
    if summary.warnings.is_empty() {
        return String::new();
    }
    let items: String =
        summary.warnings.iter().map(|warning| format!("<li>{}</li>\n", escape(warning))).collect();
    format!(
        "<section class=\"warnings\" id=\"warnings\">\n<h2>Warnings</h2>\n<ul>\n{items}</ul>\n</section>\n"
    )
}

/// Where the time went.
pub(super) fn timings(summary: &Summary) -> Option<Section> {
    if summary.timings.is_empty() {
        return None;
    }
    let total: f64 = summary.timings.iter().map(|timing| timing.seconds).sum();
    let share = |seconds: f64| percent((total > 0.0).then(|| seconds / total));
    let mut rows: Vec<Vec<String>> = summary
        .timings
        .iter()
        .map(|timing| vec![timing.stage.clone(), duration(timing.seconds), share(timing.seconds)])
        .collect();
    rows.push(vec!["all stages".into(), duration(total), share(total)]);
    let body = table("Time of each stage, over all sessions of the run", &["stage", "time", "share"], &rows);
    Some(Section { id: "timings", heading: "Time", body })
}

/// What decides the run, to repeat it or to tell it from another.
pub(super) fn identity(summary: &Summary) -> Option<Section> {
    let mut entries = vec![
        ("rlrf".to_string(), summary.version.clone()),
        ("Configuration".into(), summary.configuration_digest.clone()),
        ("Seed".into(), summary.seed.to_string()),
        ("Parameters".into(), count(summary.policy_parameters)),
    ];
    entries.extend(
        summary.models.iter().enumerate().map(|(model, digest)| (format!("M_{model}"), digest.clone())),
    );
    let entries: String = entries
        .iter()
        .map(|(name, value)| {
            let value = if value.is_empty() { NONE } else { value };
            format!("<dt>{name}</dt><dd><code>{}</code></dd>\n", escape(value))
        })
        .collect();
    let body = format!(
        "<p>Digests of the resolved configuration and of each model; the same ones mean the same run.</p>\n<dl>\n{entries}</dl>\n"
    );
    Some(Section { id: "identity", heading: "Configuration", body })
}
