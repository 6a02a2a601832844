//! `rlrf eval factscore`: FActScore of a model, of responses, or of labelled facts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rlrf_eval::factscore::{self, Abstention, BENCHMARK, Definition};
use rlrf_retrieval::Index;
use serde_json::json;

use super::Call;
use crate::arguments::{AbstentionRule, FactScoreOptions};
use crate::console::Console;

pub(super) fn eval(options: &FactScoreOptions, json: bool, console: &Console) -> Result<()> {
    let keys = ["evaluation.max_new_tokens"];
    let mut call = Call::new(BENCHMARK, &options.evaluate, &keys, json, console)?;
    let definition = Definition {
        prompt: options.prompt.clone(),
        max_new_tokens: call.config.evaluation.max_new_tokens,
        gamma: options.gamma,
        passages: options.passages,
        abstention: match options.abstention {
            AbstentionRule::Never => Abstention::Never,
            AbstentionRule::Generic => Abstention::Generic,
            AbstentionRule::PerplexityAi => Abstention::PerplexityAi,
        },
    };
    definition.validate().context("factscore")?;
    match (&options.facts, &options.index) {
        (Some(facts), _) => labelled(options, facts, &mut call),
        (None, Some(index)) => judged(options, index, &definition, &mut call, console),
        (None, None) => bail!("there is nothing to check facts by: name an index, as in --index DIR"),
    }
}

fn labelled(options: &FactScoreOptions, facts: &Path, call: &mut Call<'_>) -> Result<()> {
    let (name, bytes) = call.reader.given("facts", facts)?;
    let irrelevant = options.irrelevant_as_unsupported;
    let limit = options.evaluate.limit;
    let outcome = factscore::score_labelled((&name, &bytes), &set(facts), limit, options.gamma, irrelevant)?;
    let folder = call
        .begin_without_model(&json!({ "gamma": options.gamma, "irrelevant_as_unsupported": irrelevant }))?;
    call.finish(outcome, folder)
}

fn judged(
    options: &FactScoreOptions,
    index_folder: &PathBuf,
    definition: &Definition,
    call: &mut Call<'_>,
    console: &Console,
) -> Result<()> {
    let index = Index::open(index_folder)?;
    call.reader.remember_given("index", index_folder, &index.manifest().digest);
    let Some(judge) = &options.judge.judge else {
        bail!("nobody judges the facts: name a judge, as in --judge DIR");
    };
    let (file, topics, responses) = match (&options.topics, &options.responses) {
        (Some(topics), _) => {
            let (name, bytes) = call.reader.given("topics", topics)?;
            (topics, call.limited(factscore::read_topics(&name, &bytes)?)?, None)
        }
        (None, Some(responses)) => {
            let (name, bytes) = call.reader.given("responses", responses)?;
            let read = call.limited(factscore::read_responses(&name, &bytes)?)?;
            (responses, Vec::new(), Some(read))
        }
        (None, None) => bail!("there is nobody to ask about: name them, as in --topics FILE"),
    };
    let mut policy = if responses.is_none() { Some(call.model()?) } else { None };
    let mut judge = call.open("judge", judge, options.judge.judge_name.as_deref())?;
    let mut folder = call.begin(definition)?;
    let set = set(file);
    let place = (set.as_str(), 0);
    let biographies = match (responses, &mut policy) {
        (Some(responses), _) => responses,
        (None, Some(policy)) => {
            let context = &mut folder.context(console);
            factscore::ask(context, policy.as_mut(), &index, place, &topics, definition)?
        }
        (None, None) => bail!("nobody answers: name the model to measure, as in --model DIR"),
    };
    // Two large models need not be in memory at once.
    drop(policy);
    let context = &mut folder.context(console);
    let outcome = factscore::evaluate(context, judge.as_mut(), &index, place, &biographies, definition)?;
    let without = outcome.evaluation.counted("no_page");
    if without > 0 {
        console.say(&format!(
            "note: the index has no page of {without} topics; they are left out of all numbers"
        ));
    }
    call.finish(outcome, Some(folder))
}

fn set(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
