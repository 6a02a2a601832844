//! Who judges in a run: the policy itself, a feedback model, or the checker.

use anyhow::Result;
use rlrf_local::{LocalJudge, LocalPolicy};
use rlrf_method::seam::{CheckerJudge, Judge};
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
    Ok(match (config.feedback.source, feedback, &inputs.checker) {
        (FeedbackOrigin::Checker, _, Some(checker)) => Box::new(CheckerJudge(checker.as_ref())),
        (FeedbackOrigin::Model, Some(model), _) => {
            Box::new(LocalJudge::new(model, templates, critique, config.engine())?)
        }
        _ => Box::new(LocalJudge::of_policy(policy, templates, critique)?),
    })
}
