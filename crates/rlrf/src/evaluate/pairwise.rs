//! `rlrf eval pairwise`: which of two models' answers a judge prefers.

use std::path::Path;

use anyhow::{Result, bail};
use rlrf_eval::pairwise::{self, Answers, BENCHMARK, DEFINITION, PairQuestion, TEMPLATE};
use rlrf_method::config::Sampling;
use rlrf_method::seam::Policy;
use serde_json::json;

use super::Call;
use crate::arguments::PairwiseOptions;
use crate::console::Console;

/// Who answers on one side.
enum Side {
    Model(Box<dyn Policy>),
    File(Vec<Answers>),
}

pub(super) fn eval(options: &PairwiseOptions, json: bool, console: &Console) -> Result<()> {
    let mut call = Call::new(BENCHMARK, &options.evaluate, &["evaluation.max_new_tokens"], json, console)?;
    if options.evaluate.model.is_some() {
        bail!("two models are compared: name them with --a and --b in place of --model");
    }
    match &options.replies {
        Some(replies) => from_replies(options, replies, &mut call),
        None => with_judge(options, &mut call),
    }
}

fn from_replies(options: &PairwiseOptions, replies: &Path, call: &mut Call<'_>) -> Result<()> {
    let asked = [
        ("--a", options.a.is_some()),
        ("--b", options.b.is_some()),
        ("--judge", options.judge.judge.is_some()),
        ("--questions", options.questions.is_some()),
    ];
    if let Some((option, _)) = asked.iter().find(|(_, given)| *given) {
        bail!("--replies is scored without a model: leave out {option}, or --replies to judge anew");
    }
    let (name, bytes) = call.reader.given("replies", replies)?;
    let compared = call.limited(pairwise::read_replies(&name, &bytes)?)?;
    let folder = call.begin_without_model(&json!({ "definition": DEFINITION }))?;
    call.finish(pairwise::score(&stem(replies), &compared), folder)
}

fn with_judge(options: &PairwiseOptions, call: &mut Call<'_>) -> Result<()> {
    let (Some(path), Some(a), Some(b)) = (&options.questions, &options.a, &options.b) else {
        bail!(
            "a comparison needs --questions FILE, --a and --b (each a model, or a file of its answers), and --judge"
        );
    };
    let (name, bytes) = call.reader.given("questions", path)?;
    let all = PairQuestion::read(&name, &bytes, options.turns.into())?;
    let mut a = side("a", a, options.a_name.as_deref(), &all, call)?;
    let mut b = side("b", b, options.b_name.as_deref(), &all, call)?;
    let questions = call.limited(all)?;
    let mut judge = call.judge(&options.judge)?;
    let judge_sampling = Sampling::greedy(options.judge.judge_tokens);
    let mut folder = call.begin(&json!({
        "definition": DEFINITION,
        "judge_sampling": judge_sampling,
        "template": TEMPLATE,
        "turns": options.turns,
    }))?;
    let mut context = folder.context(call.console);
    let sampling = Sampling::greedy(call.config.evaluation.max_new_tokens);
    let mut answers = |side: &mut Side| match side {
        Side::File(answers) => Ok(answers.clone()),
        Side::Model(model) => pairwise::answer(&mut context, 0, model.as_mut(), &questions, &sampling),
    };
    let (answers_a, answers_b) = (answers(&mut a)?, answers(&mut b)?);
    let answers = (&answers_a[..], &answers_b[..]);
    let mut outcome = folder.judged(&options.judge, call.console, |context| {
        let set = stem(path);
        Ok(pairwise::evaluate(context, (&set, 0), judge.as_mut(), &questions, answers, &judge_sampling)?)
    })?;
    outcome.evaluation.settings["turns"] = options.turns.into();
    outcome.evaluation.settings["sampling"] = json!(sampling);
    call.finish(outcome, Some(folder))
}

/// A file holds answers; anything else is a model.
fn side(
    option: &str,
    source: &str,
    name: Option<&str>,
    questions: &[PairQuestion],
    call: &mut Call<'_>,
) -> Result<Side> {
    if !Path::new(source).is_file() {
        return Ok(Side::Model(call.open(option, source, name)?));
    }
    let (file, bytes) = call.reader.given(option, Path::new(source))?;
    Ok(Side::File(pairwise::read_answers((&file, &bytes), questions)?))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
