//! `rlrf eval`: exact-match accuracy of one model on one file.

use anyhow::{Context, Result, bail};
use rlrf_local::LocalPolicy;
use rlrf_method::Instruction;
use rlrf_method::evaluation::evaluate;

use super::{Stage, report};
use crate::arguments::EvalOptions;
use crate::console::Console;
use crate::inputs::{check_answers, checker};

pub(crate) fn eval(options: &EvalOptions, json: bool, console: &Console) -> Result<()> {
    let mut stage = Stage::new("eval", &options.settings, &["checker", "evaluation.max_new_tokens"])?;
    let Some(checker) = checker(&stage.config) else {
        bail!("nothing says which answers are right: name a checker, as in --set checker=arithmetic");
    };
    let (name, bytes) = stage.reader.given("problems", &options.problems)?;
    let problems = Instruction::read_jsonl(&name, &bytes)?;
    check_answers(checker.as_ref(), &problems, &options.problems)?;
    let model = stage.model(&options.model)?;
    let mut policy = LocalPolicy::new(&model, stage.config.engine())?;
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let Some(mut output) = stage.begin(&folder.path().join("eval"), json, console)? else { return Ok(()) };
    let set = options.problems.file_stem().unwrap_or_default().to_string_lossy();
    let evaluation = evaluate(
        &mut output.store,
        console,
        &mut policy,
        checker.as_ref(),
        (&set, 0),
        &problems,
        stage.config.evaluation.max_new_tokens,
    )?;
    let line = format!(
        "{set}: {:.1}% ({}/{}), {} answers unreadable, {:.1} tokens per answer",
        100.0 * evaluation.accuracy,
        evaluation.correct,
        evaluation.problems,
        evaluation.unreadable,
        evaluation.mean_tokens
    );
    report(json, &evaluation, &line)
}
