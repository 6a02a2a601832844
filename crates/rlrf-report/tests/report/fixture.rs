//! Summaries to report on.

use rlrf_eval::Evaluation;
use rlrf_method::distribution::Distribution;
use rlrf_method::reflection::Reflection;
use rlrf_method::summary::{AspectMovement, IterationSummary};
use rlrf_report::{Summary, Timing, Trace, TraceFeedback, TrainingCurve};
use serde_json::json;

/// A run that has not done anything.
pub(crate) fn empty() -> Summary {
    Summary {
        name: "empty".into(),
        version: String::new(),
        configuration_digest: String::new(),
        seed: 0,
        policy_parameters: 0,
        models: Vec::new(),
        evaluations: Vec::new(),
        reward: None,
        divergences: Vec::new(),
        iterations: Vec::new(),
        training: Vec::new(),
        traces: Vec::new(),
        timings: Vec::new(),
        warnings: Vec::new(),
    }
}

pub(crate) fn evaluation(set: &str, iteration: u32, correct: u64, problems: u64) -> Evaluation {
    let mut evaluation = Evaluation::new("problems", 1, set);
    evaluation.iteration = iteration;
    evaluation.count("items", problems);
    evaluation.count("unreadable", problems / 40);
    if problems > 0 {
        let share = correct as f64 / problems as f64;
        for (metric, value, width) in [("accuracy", share, 0.05), ("mean_tokens", 11.25, 1.5)] {
            evaluation.metrics.insert(metric.into(), value);
            evaluation.intervals.insert(metric.into(), [value - width, value + width]);
        }
    }
    evaluation
}

/// A run of two iterations on word problems.
pub(crate) fn word_problems() -> Summary {
    Summary {
        name: "word-problems".into(),
        version: "0.1.0".into(),
        configuration_digest: "5b1f0c9e".repeat(8),
        seed: 7,
        policy_parameters: 3_612_160,
        models: vec!["a3f29c01".repeat(8), "77e0d2b4".repeat(8), "c95a81f6".repeat(8)],
        evaluations: vec![
            evaluation("held-out", 0, 156, 400),
            evaluation("svamp", 0, 31, 300),
            evaluation("held-out", 1, 171, 400),
            evaluation("svamp", 1, 34, 300),
            evaluation("held-out", 2, 188, 400),
            evaluation("svamp", 2, 29, 300),
        ],
        reward: None,
        divergences: Vec::new(),
        iterations: vec![iteration(0, 210, 109.7), iteration(1, 140, 171.4)],
        training: vec![sft(60), dpo("dpo M_0", 48), dpo("dpo M_1", 24)],
        traces: vec![trace(0, Some(true)), trace(0, Some(false)), trace(1, None), trace(1, Some(true))],
        timings: vec![timing("sample M_0", 412.5), timing("feedback M_0", 3.2), timing("dpo M_0", 3725.0)],
        warnings: vec![
            "Reflection gain is not positive: -3.1 points in iteration 1 (23.0% of the refinements right, 26.1% of fresh samples). \
             Let the critique say where the error is and what is needed there."
                .into(),
        ],
    }
}

fn timing(stage: &str, seconds: f64) -> Timing {
    Timing { stage: stage.into(), seconds }
}

fn iteration(number: u32, refined_right: u64, fresh_right: f64) -> IterationSummary {
    IterationSummary {
        iteration: number,
        instructions: 200,
        perfect: 11,
        refinements_too_long: 3,
        sampled: 1600,
        sampled_distinct: 1105,
        refined: 1512,
        cut: 31,
        right_by_judge: false,
        sampled_right: Some(398 + 60 * u64::from(number)),
        feedback: 9336,
        feedback_failed: 2 * u64::from(number),
        feedback_repaired: 120,
        aspect_choices_failed: u64::from(number),
        feedback_reasked: 0,
        members_failed: 0,
        pairs: 431,
        paired_instructions: 152,
        candidate_tokens: 48_000,
        pairs_chosen_refined: 227,
        pair_gaps: Distribution::of(vec![0.5, 1.25, 1.75]),
        chosen_lengths: Distribution::of(vec![12.0, 17.0, 20.0]),
        rejected_lengths: Distribution::of(vec![11.0, 15.0, 31.0]),
        trained_instructions: 152,
        reflection: Reflection {
            wrong_drafts: 82,
            refined: 656,
            refined_right,
            fresh_right,
            solved_by_sample: 121,
            solved_by_refinement_only: 23,
        },
        aspects: vec![
            movement("logical correctness", 1.71, Some(1.62), Some(2.04)),
            movement("readability", 2.64, Some(2.6), Some(2.61)),
            movement("conciseness", 2.2, None, None),
        ],
    }
}

fn movement(aspect: &str, sampled: f64, drafts: Option<f64>, refined: Option<f64>) -> AspectMovement {
    AspectMovement { aspect: aspect.into(), chosen: None, sampled: Some(sampled), drafts, refined }
}

fn sft(steps: u32) -> TrainingCurve {
    let step = |step: u32| json!({"step": step, "loss": 4.2 * (-f64::from(step) / 20.0).exp() + 0.6, "preference": null});
    TrainingCurve { stage: "sft".into(), steps: (1..=steps).map(step).collect() }
}

fn dpo(stage: &str, steps: u32) -> TrainingCurve {
    let step = |step: u32| {
        let done = f64::from(step) / f64::from(steps);
        let wave = (f64::from(step) * 1.7).sin() * 0.03;
        json!({
            "step": step,
            "loss": 0.693 - 0.3 * done + wave,
            "preference": {
                "rewards_chosen": 0.1 * done,
                "rewards_rejected": -0.9 * done,
                "rewards_margin": done + wave,
                "rewards_accuracy": 0.5 + 0.4 * done + wave,
                "logps_chosen": -12.0 - 1.5 * done + 10.0 * wave,
                "logps_rejected": -13.0 - 9.0 * done + 10.0 * wave,
                "kl_per_token": 0.2 * done,
                "chosen_fall_per_token": 0.08 * done + wave,
                "sft_loss": 1.0,
            },
        })
    };
    TrainingCurve { stage: stage.into(), steps: (1..=steps).map(step).collect() }
}

pub(crate) fn trace(iteration: u32, correct: Option<bool>) -> Trace {
    Trace {
        iteration,
        instruction: "train/0412".into(),
        problem: "Paul had 16 red marbles and 14 blue ones. He shared them among 5 friends. How many did each friend get?"
            .into(),
        reference: Some("( 16 + 14 ) / 5".into()),
        draft: "( 16 - 14 ) / 5".into(),
        feedback: vec![
            TraceFeedback {
                aspect: "logical correctness".into(),
                reason: Some("It asks for a number.".into()),
                level: Some(2),
                critique: "Step 1: add, do not subtract: 16 + 14.".into(),
            },
            TraceFeedback { aspect: "readability".into(), reason: None, level: None, critique: "fine, I guess".into() },
        ],
        refinement: "( 16 + 14 ) / 5".into(),
        scores: (Some(1.84), Some(2.97)),
        correct,
    }
}
