//! `rlrf eval just-eval`: a judge's scores of responses, or scores recomputed from a judge's replies.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rlrf_eval::just_eval::{
    self, BENCHMARK, DEFINITION, DIGEST, Judging, JustEvalInstruction, Missing, ORIGIN, Response, TEMPLATE,
};
use rlrf_method::config::Sampling;
use serde_json::json;

use super::Call;
use crate::arguments::JustEvalOptions;
use crate::console::Console;

pub(super) fn eval(options: &JustEvalOptions, json: bool, console: &Console) -> Result<()> {
    let mut call = Call::new(BENCHMARK, &options.evaluate, &["evaluation.max_new_tokens"], json, console)?;
    match &options.replies {
        Some(replies) => from_replies(options, replies, &mut call),
        None => with_judge(options, &mut call),
    }
}

fn from_replies(options: &JustEvalOptions, replies: &Path, call: &mut Call<'_>) -> Result<()> {
    let asked = [
        ("--model", options.evaluate.model.is_some()),
        ("--judge", options.judge.judge.is_some()),
        ("--responses", options.responses.is_some()),
    ];
    if let Some((option, _)) = asked.iter().find(|(_, given)| *given) {
        bail!("--replies is scored without a model: leave out {option}, or --replies to judge anew");
    }
    let instructions = options.instructions.as_deref().map(|path| instructions(path, call)).transpose()?;
    let (name, bytes) = call.reader.given("replies", replies)?;
    let judged = just_eval::read_replies((&name, &bytes), instructions.as_deref())?;
    let judged = call.limited(judged)?;
    let folder = call.begin_without_model(&json!({ "compat": options.compat, "definition": DEFINITION }))?;
    let set = instructions.as_deref().map_or_else(|| stem(replies), |all| set_name(all, options));
    let mut outcome = just_eval::score(&set, &judged, options.compat);
    if let Some(instructions) = &instructions {
        outcome.evaluation.digests.insert("data".into(), JustEvalInstruction::digest(instructions));
    }
    call.finish(outcome, folder)
}

fn with_judge(options: &JustEvalOptions, call: &mut Call<'_>) -> Result<()> {
    let Some(path) = &options.instructions else {
        bail!(
            "there is nothing to ask: name the instructions with --instructions FILE. Expected is {ORIGIN}"
        );
    };
    let all = instructions(path, call)?;
    let given = options.responses.as_deref().map(|path| responses(path, &all, call)).transpose()?;
    let set = set_name(&all, options);
    let instructions = call.limited(all)?;
    let given = given.map(|responses| call.limited(responses)).transpose()?;
    if given.is_some() && options.evaluate.model.is_some() {
        bail!("both --responses and --model answer: leave out one of them");
    }
    let mut policy = if given.is_some() { None } else { Some(call.model()?) };
    let mut judge = call.judge(&options.judge)?;
    let judge_sampling = Sampling::greedy(options.judge.judge_tokens);
    let mut folder = call.begin(&json!({
        "compat": options.compat,
        "definition": DEFINITION,
        "judge_sampling": judge_sampling,
        "template": TEMPLATE,
    }))?;
    let sampling = Sampling::greedy(call.config.evaluation.max_new_tokens);
    let (responses, missing) = match (given, &mut policy) {
        (Some(responses), _) => (responses, Missing::NoResponse),
        (None, Some(policy)) => {
            let context = &mut folder.context(call.console);
            let responses = just_eval::respond_to(context, 0, policy.as_mut(), &instructions, &sampling)?;
            (responses, Missing::PromptTooLong)
        }
        (None, None) => bail!("nobody answers: name the model to measure, as in --model DIR"),
    };
    let judging =
        Judging { set: &set, iteration: 0, sampling: &judge_sampling, missing, compat: options.compat };
    let mut outcome = folder.judged(&options.judge, call.console, |context| {
        Ok(judging.evaluate(context, judge.as_mut(), (&instructions, &responses))?)
    })?;
    if policy.is_some() {
        outcome.evaluation.settings["sampling"] = json!(sampling);
    }
    call.finish(outcome, Some(folder))
}

/// The instructions, and a word about them if they are not the official ones.
fn instructions(path: &Path, call: &mut Call<'_>) -> Result<Vec<JustEvalInstruction>> {
    let read = call.reader.given("instructions", path);
    let (name, bytes) = read.map_err(|error| anyhow!("{error:#}; expected is {ORIGIN}"))?;
    let instructions = JustEvalInstruction::read(&name, &bytes)?;
    let digest = JustEvalInstruction::digest(&instructions);
    if digest != DIGEST {
        call.console.say(&format!(
            "{name}: these are not the 1,000 instructions of Just-Eval (digest {digest}, theirs is {DIGEST}): the \
             numbers compare with each other, not with published ones. Expected is {ORIGIN}"
        ));
    }
    Ok(instructions)
}

fn responses(
    path: &Path,
    instructions: &[JustEvalInstruction],
    call: &mut Call<'_>,
) -> Result<Vec<Option<Response>>> {
    let (name, bytes) = call.reader.given("responses", path)?;
    Ok(just_eval::read_responses((&name, &bytes), instructions)?)
}

/// The benchmark's name for its own instructions, the file's for others.
fn set_name(instructions: &[JustEvalInstruction], options: &JustEvalOptions) -> String {
    match (JustEvalInstruction::digest(instructions) == DIGEST, &options.instructions) {
        (false, Some(path)) => stem(path),
        _ => BENCHMARK.into(),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
