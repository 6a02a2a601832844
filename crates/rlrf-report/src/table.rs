//! The figures of a run as plain text.

use rlrf_eval::Evaluation;
use rlrf_eval::compare::Comparison;
use rlrf_eval::evaluation::{Unit, unit};

use crate::figure::{NONE, count, percent, points, share, signed, significant};
use crate::progress::{SetProgress, shown, shown_counts, shown_interval, spoken};
use crate::summary::Summary;

/// Between two columns.
const GAP: &str = "   ";

/// Warnings are broken into lines of this many characters.
const WIDTH: usize = 100;

/// One evaluation: every number with its interval, then the counts.
///
/// Plain text without colour; ends with a newline.
#[must_use]
pub fn evaluation_table(evaluation: &Evaluation) -> String {
    let Evaluation { benchmark, set, .. } = evaluation;
    let name = if benchmark == set { set.clone() } else { format!("{benchmark}: {set}") };
    let name = format!("{name}, {} items", count(evaluation.counted("items")));
    let mut rows = vec![vec![name, "value".into(), "95% interval".into()]];
    for (metric, &value) in &evaluation.metrics {
        let interval = evaluation.intervals.get(metric).copied();
        rows.push(vec![spoken(metric), shown(metric, Some(value)), shown_interval(metric, interval)]);
    }
    for (group, metrics) in &evaluation.groups {
        let shown: Vec<String> = metrics
            .iter()
            .map(|(metric, &value)| format!("{} {}", spoken(metric), shown(metric, Some(value))))
            .collect();
        rows.push(vec![format!("  {group}: {}", shown.join(", "))]);
    }
    let counts = shown_counts(evaluation);
    let counts = if counts.is_empty() { counts } else { wrapped("counts: ", &printable(&counts)) };
    aligned(&rows) + &counts
}

/// Two evaluations side by side, metric by metric, with the difference and how likely chance makes one as large.
///
/// Plain text without colour; ends with a newline.
#[must_use]
pub fn comparison_table(comparison: &Comparison) -> String {
    let items = comparison.counts.get("items").copied().unwrap_or_default();
    let name = format!("{}: {}, {} items", comparison.benchmark, comparison.set, count(items));
    let header = ["first", "second", "difference", "95% interval", "first better", "second better", "p"];
    let mut rows = vec![[&[name][..], &header.map(String::from)].concat()];
    for (metric, found) in &comparison.metrics {
        let difference = match unit(metric) {
            Unit::Share => points(Some(found.difference)),
            Unit::Number | Unit::Amount => signed(Some(found.difference), 2),
        };
        rows.push(vec![
            spoken(metric),
            shown(metric, Some(found.first)),
            shown(metric, Some(found.second)),
            difference,
            shown_interval(metric, Some(found.interval)),
            count(found.first_better),
            count(found.second_better),
            significant(found.p),
        ]);
    }
    aligned(&rows)
}

/// The final table of a run: the numbers of each model on each set, one line per iteration, then the warnings.
///
/// Plain text without colour; ends with a newline.
#[must_use]
pub fn final_table(summary: &Summary) -> String {
    let reward = summary.reward.as_ref().map(evaluation_table).unwrap_or_default();
    let mut blocks = vec![accuracies(summary), reward, iterations(summary), warnings(summary)];
    blocks.retain(|block| !block.is_empty());
    if blocks.is_empty() {
        return "Nothing has been evaluated yet.\n".into();
    }
    blocks.join("\n")
}

fn accuracies(summary: &Summary) -> String {
    let mut models: Vec<u32> = summary.evaluations.iter().map(|evaluation| evaluation.iteration).collect();
    models.sort_unstable();
    models.dedup();
    let headlines = SetProgress::headlines(summary);
    let heading = if headlines.iter().all(SetProgress::is_share) { "accuracy" } else { "measured" };
    let mut rows = vec![vec![heading.to_string()]];
    rows[0].extend(models.iter().map(|model| format!("M_{model}")));
    rows[0].push("change".into());
    for progress in headlines {
        let mut row = vec![progress.name()];
        row.extend(models.iter().map(|model| {
            progress.evaluations.iter().find(|evaluation| evaluation.iteration == *model).map_or(
                NONE.to_string(),
                |evaluation| {
                    let interval = shown_interval(progress.metric, progress.interval(evaluation));
                    format!("{} {interval}", progress.shown(evaluation))
                },
            )
        }));
        row.push(progress.shown_change());
        rows.push(row);
    }
    if rows.len() > 1 { aligned(&rows) + &exclusions(summary) } else { String::new() }
}

/// What the numbers leave out or count as wrong, by reason; a line for each evaluation that has any.
fn exclusions(summary: &Summary) -> String {
    let mut lines = String::new();
    for evaluation in &summary.evaluations {
        let counts = shown_counts(evaluation);
        if !counts.is_empty() {
            let label = printable(&format!("{} M_{}: ", evaluation.set, evaluation.iteration));
            lines.push_str(&wrapped(&label, &printable(&counts)));
        }
    }
    lines
}

fn iterations(summary: &Summary) -> String {
    if summary.iterations.is_empty() {
        return String::new();
    }
    let header =
        ["iteration", "sampled right", "refined right", "fresh right", "gain", "only by refinement", "pairs"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for iteration in &summary.iterations {
        let reflection = &iteration.reflection;
        rows.push(vec![
            iteration.iteration.to_string(),
            percent(iteration.sampled_right.and_then(|right| share(right, iteration.sampled))),
            percent(reflection.refined_rate()),
            percent(reflection.fresh_rate()),
            points(reflection.gain()),
            match iteration.sampled_right {
                Some(_) => format!("{}/{}", reflection.solved_by_refinement_only, iteration.instructions),
                None => NONE.into(),
            },
            count(iteration.pairs),
        ]);
    }
    let note = "refined right, fresh right: of refinements and of samples, where the draft was wrong; gain: their\n\
                difference in points; only by refinement: instructions that no sample solved\n";
    let by_judge = match summary.iterations.iter().any(|iteration| iteration.right_by_judge) {
        true => "right: perfect by the judge, since no checker says what is right\n",
        false => "",
    };
    aligned(&rows) + note + by_judge
}

fn warnings(summary: &Summary) -> String {
    summary.warnings.iter().map(|warning| wrapped("warning: ", &printable(warning))).collect()
}

/// Columns side by side: the first aligned left, the others right.
fn aligned(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(column, (cell, &width))| {
                    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// `label` and the words of `text`, further lines indented under the first.
fn wrapped(label: &str, text: &str) -> String {
    let indent = " ".repeat(label.chars().count());
    let mut lines = String::new();
    let mut line = label.to_string();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line.clone_from(&indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines + line.trim_end() + "\n"
}

/// Names come from files: a control character among them must not reach the terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}
