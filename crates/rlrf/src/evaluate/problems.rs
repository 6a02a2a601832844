//! `rlrf eval problems`: accuracy on any file of problems that a checker can check.

use anyhow::{Result, bail};
use rlrf_eval::problems::{self, BENCHMARK};
use rlrf_method::Instruction;
use serde_json::json;

use super::Call;
use crate::arguments::ProblemsOptions;
use crate::console::Console;
use crate::inputs::{check_answers, checker};

pub(super) fn eval(options: &ProblemsOptions, json: bool, console: &Console) -> Result<()> {
    let keys = ["checker", "evaluation.max_new_tokens"];
    let mut call = Call::new(BENCHMARK, &options.evaluate, &keys, json, console)?;
    let Some(checker) = checker(&call.config)? else {
        bail!("nothing says which answers are right: name a checker, as in --set checker=arithmetic");
    };
    let (name, bytes) = call.reader.given("problems", &options.problems)?;
    let problems = call.limited(Instruction::read_jsonl(&name, &bytes)?)?;
    check_answers(checker.as_ref(), &problems, &options.problems)?;
    let mut model = call.model()?;
    let mut folder = call.begin(&json!({}))?;
    let set = options.problems.file_stem().unwrap_or_default().to_string_lossy();
    let outcome = problems::evaluate(
        &mut folder.context(console),
        model.as_mut(),
        checker.as_ref(),
        (&set, 0),
        &problems,
        call.config.evaluation.max_new_tokens,
    )?;
    call.finish(outcome, Some(folder))
}
