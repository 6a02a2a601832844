//! `rlrf eval`: one file per benchmark; each reads its inputs, opens its models, and lets `rlrf-eval` do the rest.
//!
//! An evaluation has a folder of its own with every response in its database. The same command finds them again, so
//! that it resumes, and costs nothing when nothing is left to do.

mod aspects;
mod compare;
mod factscore;
mod feedback;
pub(crate) mod judge_cache;
mod just_eval;
mod pairwise;
mod problems;
mod reward;
mod sets;
mod word_problems;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rlrf_eval::word_problems::Source;
use rlrf_eval::{Context, Evaluation, Outcome};
use rlrf_method::digest::digest;
use rlrf_method::seam::Policy;
use rlrf_store::{RunStore, write_atomically};
use serde::Serialize;

use self::judge_cache::JudgeCache;
use crate::arguments::{Benchmark, EvalOptions, EvaluateOptions, JudgeOptions, Settings};
use crate::config::Config;
use crate::console::{self, Console};
use crate::inputs::{Reader, resolved_configuration};
use crate::model_source;
use crate::stages::{open_rows, refuse_foreign};

pub(crate) use feedback::eval as eval_feedback;
pub(crate) use reward::eval as eval_reward;
pub(crate) use sets::{Judges, MeasuredSet, MeasuredSets};

pub(crate) fn eval(options: &EvalOptions, json: bool, console: &Console) -> Result<()> {
    match &options.benchmark {
        Benchmark::Problems(options) => problems::eval(options, json, console),
        Benchmark::Aspects(options) => aspects::eval(options, json, console),
        Benchmark::JustEval(options) => just_eval::eval(options, json, console),
        Benchmark::Pairwise(options) => pairwise::eval(options, json, console),
        Benchmark::Gsm8k(options) => word_problems::eval(Source::Gsm8k, options, json, console),
        Benchmark::Svamp(options) => word_problems::eval(Source::Svamp, options, json, console),
        Benchmark::Mawps(options) => word_problems::eval(Source::Mawps, options, json, console),
        Benchmark::Compare(options) => compare::eval(options, json),
        Benchmark::FactScore(options) => factscore::eval(options, json, console),
    }
}

/// One call of a benchmark: its settings, and what it has read.
struct Call<'a> {
    benchmark: &'static str,
    options: &'a EvaluateOptions,
    config: Config,
    reader: Reader,
    json: bool,
    console: &'a Console,
}

impl<'a> Call<'a> {
    /// `keys` are the settings of configuration files that the benchmark heeds, beside `[generation]` and `[engine]`.
    fn new(
        benchmark: &'static str,
        options: &'a EvaluateOptions,
        keys: &[&str],
        json: bool,
        console: &'a Console,
    ) -> Result<Self> {
        let Settings { config, set } = &options.settings;
        let reader = Reader::new(config.as_deref());
        let config = Config::load_stage(config.as_deref(), set, &[keys, &["generation", "engine"]].concat())?;
        Ok(Self { benchmark, options, config, reader, json, console })
    }

    /// The model to measure.
    fn model(&mut self) -> Result<Box<dyn Policy>> {
        let Some(source) = &self.options.model else {
            bail!("nobody answers: name the model to measure, as in --model DIR");
        };
        let name = self.options.model_name.as_deref();
        self.open("model", source, name)
    }

    /// The judge.
    fn judge(&mut self, options: &JudgeOptions) -> Result<Box<dyn Policy>> {
        let Some(source) = &options.judge else {
            bail!("nobody judges: name the judge, as in --judge DIR");
        };
        self.open("judge", source, options.judge_name.as_deref())
    }

    /// A model of the command line, by the name of its option.
    fn open(&mut self, option: &str, source: &str, name: Option<&str>) -> Result<Box<dyn Policy>> {
        let model = model_source::open(source, name, self.config.engine())?;
        self.reader.remember_given(option, Path::new(source), &model.digest());
        Ok(model)
    }

    /// The items that `--limit` leaves.
    fn limited<T>(&self, mut items: Vec<T>) -> Result<Vec<T>> {
        items.truncate(self.options.limit.unwrap_or(usize::MAX));
        if items.is_empty() {
            bail!("--limit 0 leaves no item");
        }
        Ok(items)
    }

    /// The folder of this evaluation, with the rows of earlier calls. `settings` are those of the benchmark itself: all
    /// that decides its numbers beside the configuration and the inputs.
    fn begin(&self, settings: &impl Serialize) -> Result<EvaluationFolder> {
        #[derive(Serialize)]
        struct Resolved<'a, S> {
            limit: Option<usize>,
            settings: &'a S,
        }
        let own = toml::to_string(&toml::Table::from_iter([(
            "evaluate".to_string(),
            toml::Value::try_from(Resolved { limit: self.options.limit, settings })?,
        )]))?;
        let command = format!("eval {}", self.benchmark);
        let resolved =
            resolved_configuration(Some(&command), &self.config, self.reader.digests())? + "\n" + &own;
        let name = format!("{}-{}", self.benchmark, &digest(&resolved)[..12]);
        let folder = self.options.out.clone().unwrap_or_else(|| Path::new("runs/eval").join(name));
        refuse_foreign(&folder)?;
        let store = open_rows(&folder, &resolved)?;
        Ok(EvaluationFolder { store, folder })
    }

    /// Scored without a model: kept in a folder only where `--out` names one.
    fn begin_without_model(&self, settings: &impl Serialize) -> Result<Option<EvaluationFolder>> {
        self.options.out.is_some().then(|| self.begin(settings)).transpose()
    }

    /// Keeps the outcome in its folder and prints the evaluation.
    fn finish(&self, mut outcome: Outcome, folder: Option<EvaluationFolder>) -> Result<()> {
        for (name, digest) in self.reader.digests() {
            outcome.evaluation.digests.entry(name.clone()).or_insert_with(|| digest.clone());
        }
        let place = folder.map(|folder| folder.keep(&outcome)).transpose()?;
        self.print(&outcome.evaluation)?;
        if let Some(place) = place {
            self.console.say(&format!("kept in {}", place.display()));
        }
        Ok(())
    }

    fn print(&self, evaluation: &Evaluation) -> Result<()> {
        let text = match self.json {
            true => serde_json::to_string_pretty(evaluation)?,
            false => rlrf_report::evaluation_table(evaluation).trim_end().to_string(),
        };
        Ok(console::print(&text)?)
    }
}

/// The folder of one evaluation.
struct EvaluationFolder {
    store: RunStore,
    folder: PathBuf,
}

impl EvaluationFolder {
    fn context<'a>(&'a mut self, console: &'a Console) -> Context<'a> {
        Context { store: &mut self.store, progress: console }
    }

    /// Lets `ask` have the judges' replies that evaluations share.
    fn judged<T>(
        &mut self,
        options: &JudgeOptions,
        console: &Console,
        ask: impl FnOnce(&mut Context<'_>) -> Result<T>,
    ) -> Result<T> {
        let folder = options.judge_cache.as_deref().unwrap_or(Path::new(judge_cache::FOLDER));
        let mut cache = JudgeCache::open(&mut self.store, folder, console)?;
        let asked = ask(&mut Context { store: &mut cache, progress: console });
        cache.close()?;
        asked
    }

    /// Writes the items first: an `evaluation.json` says that all is there.
    fn keep(mut self, outcome: &Outcome) -> Result<PathBuf> {
        outcome.commit(&mut self.store)?;
        let mut lines = Vec::new();
        for item in &outcome.items {
            serde_json::to_writer(&mut lines, item)?;
            lines.push(b'\n');
        }
        write_atomically(self.folder.join("items.jsonl"), &lines)?;
        let json = serde_json::to_string_pretty(&outcome.evaluation)? + "\n";
        write_atomically(self.folder.join("evaluation.json"), json.as_bytes())?;
        Ok(self.folder)
    }
}
