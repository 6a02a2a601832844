//! Who judges in a run: the policy itself, a feedback model, or the checker.

use anyhow::Result;
use rlrf_local::{LocalJudge, LocalPolicy};
use rlrf_method::dispatch::{AspectCheckers, DispatchJudge};
use rlrf_method::grounding::{GroundedJudge, Grounding};
use rlrf_method::seam::{CheckerJudge, Judge, Policy};
use rlrf_model::Model;

use crate::config::{Config, FeedbackOrigin};
use crate::inputs::RunInputs;

/// The judge that `feedback.source` names; `policy` is the one that is being improved, `feedback` the feedback model
/// where there is one of its own.
pub(crate) fn judge<'a>(
    config: &Config,
    inputs: &'a RunInputs,
    policy: &LocalPolicy<'a>,
    feedback: Option<&'a Model>,
) -> Result<Box<dyn Judge + 'a>> {
    let (templates, critique) = (&inputs.templates, &config.feedback.critique);
    let judge: Box<dyn Judge + 'a> = match (config.feedback.source, feedback, &inputs.checker) {
        (FeedbackOrigin::Checker, _, Some(checker)) => Box::new(CheckerJudge(checker.as_ref())),
        (FeedbackOrigin::Model, Some(model), _) => {
            Box::new(LocalJudge::new(model, templates, critique, config.engine())?)
        }
        _ => Box::new(LocalJudge::of_policy(policy, templates, critique)?),
    };
    // With `source = "checker"` the configuration refuses what is looked up for a model.
    Ok(dispatched(Some(grounded(judge, inputs.grounding.as_ref())), &inputs.aspect_checkers))
}

/// Who chooses the aspects that matter for an instruction: the model that judges.
pub(crate) fn chooser<'a>(
    config: &Config,
    policy: &LocalPolicy<'a>,
    feedback: Option<&'a Model>,
) -> Result<Box<dyn Policy + 'a>> {
    Ok(match feedback {
        Some(model) => Box::new(LocalPolicy::new(model, config.engine())?),
        None => Box::new(policy.clone()),
    })
}

/// `judge`, shown what was looked up.
pub(crate) fn grounded<'a>(
    judge: Box<dyn Judge + 'a>,
    grounding: Option<&'a Grounding>,
) -> Box<dyn Judge + 'a> {
    match grounding {
        Some(grounding) => Box::new(GroundedJudge { judge, grounding }),
        None => judge,
    }
}

/// `judge`, for the aspects that have no checker of their own.
pub(crate) fn dispatched<'a>(
    judge: Option<Box<dyn Judge + 'a>>,
    checkers: &'a AspectCheckers,
) -> Box<dyn Judge + 'a> {
    match judge {
        Some(judge) if checkers.is_empty() => judge,
        judge => Box::new(DispatchJudge { judge, checkers }),
    }
}
