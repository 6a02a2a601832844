//! What the user should know of a run, with what to do about it.

use rlrf_method::summary::IterationSummary;

use crate::figure::{count, decimal, percent, points, share};
use crate::summary::TrainingCurve;

/// The end of training is judged by the mean of this many steps: one batch alone is noise.
const LAST_STEPS: usize = 10;

/// A judge that has to be cut off on more than this share of its replies does not write the critiques it is asked for.
const REPAIRED_SHARE: f64 = 0.2;

/// A policy that does not come to its end on more than this share of its candidates has too little room, or is collapsing.
const CUT_SHARE: f64 = 0.2;

/// The warnings of a run: at most one of each kind, naming the iterations or stages that it is about. The chosen
/// responses may lose `chosen_fall_warning` nats per token against the reference before the policy is said to collapse.
#[must_use]
pub fn warnings(
    iterations: &[IterationSummary],
    training: &[TrainingCurve],
    chosen_fall_warning: f64,
) -> Vec<String> {
    [
        reflection_gain(iterations),
        chosen_fall(training, chosen_fall_warning),
        failed_feedback(iterations),
        repaired_feedback(iterations),
        failed_choices(iterations),
        long_refinements(iterations),
        cut_candidates(iterations),
        nothing_to_train_on(iterations),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn reflection_gain(iterations: &[IterationSummary]) -> Option<String> {
    let lost = list(iterations.iter().filter_map(|iteration| {
        let reflection = &iteration.reflection;
        let gain = reflection.gain().filter(|gain| *gain <= 0.0)?;
        Some(format!(
            "{} points in iteration {} ({} of the refinements right, {} of fresh samples)",
            points(Some(gain)),
            iteration.iteration,
            percent(reflection.refined_rate()),
            percent(reflection.fresh_rate()),
        ))
    }))?;
    Some(format!(
        "Reflection gain is not positive: {lost}. More samples would have done as well as refining. Let the critique \
         say where the error is and what is needed there, not only its kind, and teach refining with a larger share \
         of the fine-tuning that shows draft, feedback and better response."
    ))
}

fn chosen_fall(training: &[TrainingCurve], threshold: f64) -> Option<String> {
    let fallen = list(training.iter().filter_map(|curve| {
        let fall = last_chosen_fall(curve).filter(|fall| *fall > threshold)?;
        Some(format!("{} nats per token at the end of {}", decimal(fall, 2), curve.stage))
    }))?;
    Some(format!(
        "The chosen responses have become less probable than under the reference model: by {fallen}. The policy may \
         be collapsing although its reward accuracy looks good. Lower learning_rate, raise beta, or set sft_weight = 1."
    ))
}

/// Mean over the last steps that have it.
fn last_chosen_fall(curve: &TrainingCurve) -> Option<f64> {
    let last: Vec<f64> = curve
        .steps
        .iter()
        .rev()
        .filter_map(|step| step["preference"]["chosen_fall_per_token"].as_f64())
        .take(LAST_STEPS)
        .collect();
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
}

fn failed_feedback(iterations: &[IterationSummary]) -> Option<String> {
    let failed =
        list(iterations.iter().filter(|iteration| iteration.feedback_failed > 0).map(|iteration| {
            format!("{} in iteration {}", count(iteration.feedback_failed), iteration.iteration)
        }))?;
    Some(format!(
        "Feedback replies that could not be read: {failed}. They are left out of every score. Read them among the \
         run's feedback rows; a longer limit for replies, a clearer prompt or more fine-tuning of the feedback model helps, \
         and where the prompt did not fit, shorter responses or a model with a longer context."
    ))
}

fn failed_choices(iterations: &[IterationSummary]) -> Option<String> {
    let failed = |iteration: &&IterationSummary| iteration.aspect_choices_failed > 0;
    let failed = list(iterations.iter().filter(failed).map(|iteration| {
        format!("{} in iteration {}", count(iteration.aspect_choices_failed), iteration.iteration)
    }))?;
    Some(format!(
        "Choices of aspects that could not be read: {failed}. The first aspects of the configuration stand for them. A \
         clearer prompt (templates.choose) or a stronger feedback model helps, or aspects that the configuration fixes."
    ))
}

fn repaired_feedback(iterations: &[IterationSummary]) -> Option<String> {
    let repaired = list(iterations.iter().filter_map(|iteration| {
        let share = share(iteration.feedback_repaired, iteration.feedback)?;
        (share > REPAIRED_SHARE).then(|| {
            format!(
                "{} of {} ({}) in iteration {}",
                count(iteration.feedback_repaired),
                count(iteration.feedback),
                percent(Some(share)),
                iteration.iteration
            )
        })
    }))?;
    Some(format!(
        "Verdicts that had to be forced or mended, because the judge did not come to one as asked: {repaired}. Such levels may \
         say little. Raise feedback.critique.max_new_tokens, or fine-tune the feedback model on more feedback."
    ))
}

fn long_refinements(iterations: &[IterationSummary]) -> Option<String> {
    let long =
        list(iterations.iter().filter(|iteration| iteration.refinements_too_long > 0).map(|iteration| {
            format!("{} in iteration {}", count(iteration.refinements_too_long), iteration.iteration)
        }))?;
    Some(format!(
        "Instructions left unrefined, because draft and feedback do not fit the policy's context: {long}. Lower \
         sample.sampling.max_new_tokens or feedback.critique.max_new_tokens, or use a model with a longer context."
    ))
}

fn cut_candidates(iterations: &[IterationSummary]) -> Option<String> {
    let cut = list(iterations.iter().filter_map(|iteration| {
        let candidates = iteration.sampled + iteration.refined;
        let share = share(iteration.cut, candidates).filter(|share| *share > CUT_SHARE)?;
        let (cut, candidates) = (count(iteration.cut), count(candidates));
        Some(format!("{cut} of {candidates} ({}) in iteration {}", percent(Some(share)), iteration.iteration))
    }))?;
    Some(format!(
        "Candidates that were cut at the length limit: {cut}. They may be rejected, but are never chosen. Raise \
         sample.sampling.max_new_tokens and refine.sampling.max_new_tokens."
    ))
}

fn nothing_to_train_on(iterations: &[IterationSummary]) -> Option<String> {
    let empty: Vec<&IterationSummary> =
        iterations.iter().filter(|iteration| iteration.trained_instructions == 0).collect();
    let numbers = list(empty.iter().map(|iteration| iteration.iteration.to_string()))?;
    let advice = if empty.iter().all(|iteration| iteration.perfect == iteration.instructions) {
        "Every candidate is perfect: use harder instructions, or a stricter rubric"
    } else if empty.iter().all(|iteration| iteration.cut == iteration.sampled + iteration.refined) {
        "Every candidate was cut at the length limit"
    } else {
        "The candidates of an instruction do not differ enough, or none is good enough: sample more of them, raise the \
         temperature, or lower the margin or the least score"
    };
    Some(format!("Nothing to train on in iteration {numbers}. {advice}."))
}

/// The items separated by commas; none if there are none.
fn list(items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    (!items.is_empty()).then(|| items.join(", "))
}

#[cfg(test)]
mod tests {
    use rlrf_method::reflection::Reflection;
    use serde_json::json;

    use super::*;

    fn iteration(number: u32) -> IterationSummary {
        IterationSummary {
            iteration: number,
            instructions: 10,
            perfect: 1,
            refinements_too_long: 0,
            candidate_tokens: 0,
            sampled: 80,
            sampled_distinct: 60,
            refined: 72,
            cut: 3,
            sampled_right: Some(20),
            right_by_judge: false,
            feedback: 152,
            feedback_failed: 0,
            feedback_repaired: 30,
            aspect_choices_failed: 0,
            feedback_reasked: 0,
            members_failed: 0,
            pairs: 12,
            paired_instructions: 6,
            pairs_chosen_refined: 5,
            pair_gaps: None,
            chosen_lengths: None,
            rejected_lengths: None,
            trained_instructions: 6,
            reflection: Reflection {
                wrong_drafts: 9,
                refined: 72,
                refined_right: 36,
                fresh_right: 24.0,
                solved_by_sample: 5,
                solved_by_refinement_only: 2,
            },
            aspects: Vec::new(),
        }
    }

    fn curve(falls: &[f64]) -> TrainingCurve {
        let steps = falls.iter().map(|fall| json!({"preference": {"chosen_fall_per_token": fall}})).collect();
        TrainingCurve { stage: "dpo M_0".into(), steps }
    }

    #[test]
    fn a_healthy_run_has_none() {
        assert_eq!(warnings(&[iteration(0)], &[curve(&[0.6, 0.1, 0.2])], 0.5), Vec::<String>::new());
        assert_eq!(warnings(&[], &[], 0.5), Vec::<String>::new());
    }

    #[test]
    fn a_gain_that_is_not_positive_names_its_iterations() {
        let mut none = iteration(1);
        none.reflection.refined_right = 24;
        let mut negative = iteration(2);
        negative.reflection.refined_right = 18;
        let found = warnings(&[iteration(0), none, negative], &[], 0.5);
        assert_eq!(found.len(), 1);
        let expected = "+0.0 points in iteration 1 (33.3% of the refinements right, 33.3% of fresh samples), \
                        -8.3 points in iteration 2 (25.0% of the refinements right, 33.3% of fresh samples)";
        assert!(found[0].contains(expected), "{}", found[0]);
    }

    #[test]
    fn nothing_to_compare_is_no_warning() {
        let mut unrefined = iteration(0);
        unrefined.reflection = Reflection::default();
        assert_eq!(warnings(&[unrefined], &[], 0.5), Vec::<String>::new());
    }

    #[test]
    fn a_fall_is_judged_at_the_end() {
        let early = [vec![9.0; 5], vec![0.1; 10]].concat();
        let late = [vec![0.1; 5], vec![0.75; 10]].concat();
        assert_eq!(warnings(&[], &[curve(&early)], 0.5), Vec::<String>::new());
        assert_eq!(warnings(&[], &[curve(&late)], 0.8), Vec::<String>::new());
        let found = warnings(&[], &[curve(&late)], 0.5);
        assert!(found[0].contains("0.75 nats per token at the end of dpo M_0"), "{}", found[0]);
        let without =
            TrainingCurve { stage: "sft".into(), steps: vec![json!({"loss": 1.0, "preference": null})] };
        assert_eq!(warnings(&[], &[without], 0.5), Vec::<String>::new());
    }

    #[test]
    fn forced_verdicts_and_long_drafts_are_counted() {
        let mut counted = iteration(3);
        (counted.feedback_repaired, counted.refinements_too_long) = (31, 4);
        let found = warnings(&[counted], &[], 0.5);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("31 of 152 (20.4%) in iteration 3"), "{}", found[0]);
        assert!(found[1].contains("4 in iteration 3"), "{}", found[1]);
    }

    #[test]
    fn a_policy_without_room_to_end_is_named() {
        let mut cut = iteration(0);
        cut.cut = 100;
        let found = warnings(&[cut.clone()], &[], 0.5);
        assert!(found[0].contains("100 of 152 (65.8%) in iteration 0"), "{}", found[0]);
        (cut.cut, cut.trained_instructions) = (152, 0);
        assert!(warnings(&[cut], &[], 0.5)[1].contains("Every candidate was cut"));
    }

    #[test]
    fn failed_replies_and_empty_trainings_are_counted() {
        let mut failed = iteration(0);
        failed.feedback_failed = 1234;
        failed.trained_instructions = 0;
        let found = warnings(&[failed.clone()], &[], 0.5);
        assert!(found[0].contains("1,234 in iteration 0"), "{}", found[0]);
        assert!(found[1].contains("in iteration 0. The candidates"), "{}", found[1]);
        failed.perfect = failed.instructions;
        assert!(warnings(&[failed], &[], 0.5)[1].contains("Every candidate is perfect"));
    }
}
