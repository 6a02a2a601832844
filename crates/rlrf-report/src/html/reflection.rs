//! What reflection brought: gain, aspects, pairs.

use rlrf_method::distribution::Distribution;

use super::chart::{BarChart, BarGroup};
use super::markup::{Section, charts, table};
use crate::figure::{NONE, count, decimal, optional, part_of, percent, points, share, signed};
use crate::summary::Summary;

/// Whether a refinement is more often right than a fresh sample.
pub(super) fn reflection(summary: &Summary) -> Option<Section> {
    if summary.iterations.is_empty() {
        return None;
    }
    let names: Vec<String> =
        summary.iterations.iter().map(|iteration| format!("Iteration {}", iteration.iteration)).collect();
    let groups: Vec<BarGroup<'_>> = summary
        .iterations
        .iter()
        .zip(&names)
        .map(|(iteration, name)| BarGroup {
            name,
            values: [iteration.reflection.refined_rate(), iteration.reflection.fresh_rate()]
                .map(|rate| rate.map(|rate| rate * 100.0))
                .to_vec(),
        })
        .collect();
    let highest = groups.iter().flat_map(|group| &group.values).flatten().copied().fold(0.0, f64::max);
    let axis = match highest {
        highest if highest <= 25.0 => (0.0, 25.0, 5.0),
        highest if highest <= 50.0 => (0.0, 50.0, 10.0),
        _ => (0.0, 100.0, 20.0),
    };
    let chart = BarChart {
        title: "Right where the draft was wrong, %",
        description: "Share of right responses among refinements and among fresh samples of the instructions whose draft \
                      was wrong, for each iteration; the table holds the figures.",
        series: &["refinements", "fresh samples"],
        groups,
        axis,
        write: |value| decimal(value, 1),
    };
    let rows: Vec<Vec<String>> = summary
        .iterations
        .iter()
        .zip(&names)
        .map(|(iteration, name)| {
            let reflection = &iteration.reflection;
            vec![
                name.clone(),
                count(reflection.wrong_drafts),
                format!(
                    "{} ({})",
                    percent(reflection.refined_rate()),
                    part_of(reflection.refined_right, reflection.refined)
                ),
                percent(reflection.fresh_rate()),
                points(reflection.gain()),
            ]
        })
        .collect();
    let header = ["", "wrong drafts", "refinements right", "fresh samples right", "gain, points"];
    let gain = table("Reflection gain", &header, &rows);
    let rows: Vec<Vec<String>> = summary
        .iterations
        .iter()
        .zip(&names)
        .map(|(iteration, name)| {
            let reflection = &iteration.reflection;
            let solved = reflection.solved_by_sample + reflection.solved_by_refinement_only;
            let known = |number: u64| iteration.sampled_right.map_or(NONE.into(), |_| count(number));
            vec![
                name.clone(),
                count(iteration.instructions),
                known(reflection.solved_by_sample),
                known(reflection.solved_by_refinement_only),
                known(iteration.instructions.saturating_sub(solved)),
            ]
        })
        .collect();
    let header = ["", "instructions", "by some sample", "only by a refinement", "not at all"];
    let solved = table("Instructions solved", &header, &rows);
    let by_judge = match summary.iterations.iter().any(|iteration| iteration.right_by_judge) {
        true => " No checker says what is right: here it means perfect by the judge.",
        false => "",
    };
    let body = format!(
        "<p>A draft is the sampled candidate that was chosen to be refined. Reflection gain compares, where the draft was wrong, \
         its refinements with the samples of the same instructions: above zero, writing again under feedback finds \
         what sampling again would not.{by_judge}</p>\n{}{gain}{solved}",
        charts(&chart.html())
    );
    Some(Section { id: "reflection", heading: "Reflection", body })
}

/// Levels of each aspect before and after refining.
pub(super) fn aspects(summary: &Summary) -> Option<Section> {
    let judged: Vec<_> =
        summary.iterations.iter().filter(|iteration| !iteration.aspects.is_empty()).collect();
    if judged.is_empty() {
        return None;
    }
    let figures: String = judged
        .iter()
        .map(|iteration| {
            BarChart {
                title: &format!("Iteration {}: mean level, 1 to 3", iteration.iteration),
                description: "Mean expected level of each aspect over all samples, over the drafts and over their refinements; the \
                              table holds the figures.",
                series: &["refinements", "drafts", "all samples"],
                groups: iteration
                    .aspects
                    .iter()
                    .map(|movement| BarGroup {
                        name: &movement.aspect,
                        values: vec![movement.refined, movement.drafts, movement.sampled],
                    })
                    .collect(),
                axis: (1.0, 3.0, 1.0),
                write: |value| decimal(value, 2),
            }
            .html()
        })
        .collect();
    let rows: Vec<Vec<String>> = judged
        .iter()
        .flat_map(|iteration| iteration.aspects.iter().map(move |movement| (iteration.iteration, movement)))
        .map(|(iteration, movement)| {
            let change = movement.refined.zip(movement.drafts).map(|(refined, draft)| refined - draft);
            vec![
                movement.aspect.clone(),
                iteration.to_string(),
                movement.chosen.map_or(NONE.to_string(), count),
                optional(movement.sampled, 2),
                optional(movement.drafts, 2),
                optional(movement.refined, 2),
                signed(change, 2),
            ]
        })
        .collect();
    let header =
        ["aspect", "iteration", "chosen for", "all samples", "drafts", "refinements", "refinements − drafts"];
    let body = format!(
        "<p>The feedback's mean level: 1 fails, 2 partly, 3 fully. Judged as answers to the instruction alone; the judge is \
         not told which ones are refinements. Drafts are chosen for having something to fix, so part of their change \
         would come by chance. Where the feedback model chooses aspects, <em>chosen for</em> counts the instructions that it chose \
         one for; only their candidates are judged on it.</p>\n{}{}",
        charts(&figures),
        table("Mean level of each aspect", &header, &rows)
    );
    Some(Section { id: "aspects", heading: "Aspects", body })
}

fn with_quartiles(distribution: Option<Distribution>, decimals: usize) -> String {
    let Some(Distribution { lower_quartile, median, upper_quartile, .. }) = distribution else {
        return NONE.into();
    };
    let [low, middle, high] = [lower_quartile, median, upper_quartile].map(|value| decimal(value, decimals));
    format!("{middle} ({low} to {high})")
}

/// What training was given.
pub(super) fn pairs(summary: &Summary) -> Option<Section> {
    if summary.iterations.is_empty() {
        return None;
    }
    let mut header = vec!["".to_string()];
    header.extend(summary.iterations.iter().map(|iteration| format!("iteration {}", iteration.iteration)));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |name: &str, figure: &dyn Fn(&rlrf_method::summary::IterationSummary) -> String| {
        let mut row = vec![name.to_string()];
        row.extend(summary.iterations.iter().map(figure));
        row
    };
    let with_share =
        |part: u64, whole: u64| format!("{} ({})", part_of(part, whole), percent(share(part, whole)));
    let mut rows = vec![
        row("pairs", &|i| count(i.pairs)),
        row("instructions with a pair", &|i| with_share(i.paired_instructions, i.instructions)),
        row("pairs that choose a refinement", &|i| with_share(i.pairs_chosen_refined, i.pairs)),
        row("gap of a pair, levels: median (quartiles)", &|i| with_quartiles(i.pair_gaps, 2)),
        row("length of chosen, characters", &|i| with_quartiles(i.chosen_lengths, 0)),
        row("length of rejected, characters", &|i| with_quartiles(i.rejected_lengths, 0)),
        row("mean length, chosen less rejected", &|i| {
            let difference = i
                .chosen_lengths
                .zip(i.rejected_lengths)
                .map(|(chosen, rejected)| chosen.mean - rejected.mean);
            signed(difference, 1)
        }),
        row("instructions trained on", &|i| with_share(i.trained_instructions, i.instructions)),
        row("samples", &|i| count(i.sampled)),
        row("distinct samples", &|i| with_share(i.sampled_distinct, i.sampled)),
        row("right samples", &|i| i.sampled_right.map_or(NONE.into(), |right| with_share(right, i.sampled))),
        row("refinements", &|i| count(i.refined)),
        row("cut at the length limit, never chosen", &|i| with_share(i.cut, i.sampled + i.refined)),
        row("perfect instructions, nothing to refine", &|i| with_share(i.perfect, i.instructions)),
        row("instructions whose draft was too long to be refined", &|i| {
            with_share(i.refinements_too_long, i.instructions)
        }),
        row("feedback replies that could not be read", &|i| with_share(i.feedback_failed, i.feedback)),
        row("feedback verdicts that had to be forced or mended", &|i| {
            with_share(i.feedback_repaired, i.feedback)
        }),
        row("choices of aspects that could not be read", &|i| count(i.aspect_choices_failed)),
    ];
    // Local judges alone are never asked again, and have no members.
    if summary.iterations.iter().any(|i| i.feedback_reasked + i.members_failed > 0) {
        rows.push(row("feedback that was asked for once more", &|i| {
            with_share(i.feedback_reasked, i.feedback)
        }));
        rows.push(row("panel members' judgements left out, unreadable", &|i| count(i.members_failed)));
    }
    let body = table("Candidates and the preference pairs made of them", &header, &rows);
    Some(Section { id: "pairs", heading: "Pairs", body })
}
