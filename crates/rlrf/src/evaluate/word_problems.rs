//! `rlrf eval gsm8k`, `svamp` and `mawps`.

use anyhow::{Result, bail};
use rlrf_eval::responses::read_responses;
use rlrf_eval::word_problems::{Asking, Source, Template, evaluate, score_texts};
use rlrf_method::config::Sampling;
use serde_json::json;

use super::Call;
use crate::arguments::WordProblemOptions;
use crate::console::Console;

/// Of several samples, as in the paper on self-consistency (Wang et al., arXiv 2203.11171).
const SAMPLES_TEMPERATURE: f32 = 0.7;

pub(super) fn eval(
    source: Source,
    options: &WordProblemOptions,
    json: bool,
    console: &Console,
) -> Result<()> {
    let keys = ["seed", "evaluation.max_new_tokens"];
    let mut call = Call::new(source.name(), &options.evaluate, &keys, json, console)?;
    let (name, bytes) = call.reader.given("problems", &options.problems)?;
    let mut problems = source.read(&name, &bytes)?;
    let set = options.problems.file_stem().unwrap_or_default().to_string_lossy();
    if let Some(file) = &options.responses {
        let (name, bytes) = call.reader.given("responses", file)?;
        let ids: Vec<&str> = problems.iter().map(|problem| problem.id.as_str()).collect();
        let texts = call.limited(read_responses(&name, &bytes, &ids)?)?;
        problems.truncate(texts.len());
        let folder = call.begin_without_model(&json!({}))?;
        return call.finish(score_texts(source, &set, &problems, texts), folder);
    }
    let problems = call.limited(problems)?;
    let asking = Asking {
        template: Template::named(&options.template, options.shots)?,
        samples: options.samples.get(),
        sampling: sampling(options, call.config.evaluation.max_new_tokens)?,
        seed: call.config.seed,
    };
    let mut model = call.model()?;
    let mut folder = call.begin(&asking.settings())?;
    let mut context = folder.context(console);
    let outcome = evaluate(&mut context, model.as_mut(), source, (&set, 0), &problems, &asking)?;
    call.finish(outcome, Some(folder))
}

fn sampling(options: &WordProblemOptions, max_new_tokens: usize) -> Result<Sampling> {
    let samples = options.samples.get();
    let temperature = options.temperature.unwrap_or(if samples > 1 { SAMPLES_TEMPERATURE } else { 0.0 });
    if !(0.0..=100.0).contains(&temperature) {
        bail!("--temperature {temperature}: must be 0 to 100");
    }
    if temperature == 0.0 && samples > 1 {
        bail!(
            "--samples {samples} --temperature 0: greedy samples are all the same; give a temperature above 0"
        );
    }
    Ok(Sampling { temperature, ..Sampling::greedy(max_new_tokens) })
}
