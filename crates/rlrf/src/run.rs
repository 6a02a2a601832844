//! `rlrf run`: the whole loop in a run folder.

mod start;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rlrf_eval::Evaluation;
use rlrf_eval::evaluation::{EVALUATION, evaluation_key};
use rlrf_local::{DivergenceSample, LocalPolicy, LocalReward, TrainingStage};
use rlrf_method::digest::digest;
use rlrf_method::iteration::{CandidateGroup, Iteration};
use rlrf_method::row::SharedStore;
use rlrf_method::seam::{Judge, Progress, Reward};
use rlrf_method::summary::IterationSummary;
use rlrf_method::{Row, RowStore, Table};
use rlrf_model::Model;
use rlrf_model::folder::clear_leftovers;
use rlrf_report::summary::{Timing, TraceFeedback};
use rlrf_report::{Divergence, Summary, Trace, TrainingCurve};
use rlrf_store::{RunStore, write_atomically};
use serde_json::json;

use crate::arguments::RunOptions;
use crate::config::{Config, FeedbackOrigin, Method};
use crate::console::{self, Console};
use crate::evaluate::{Judges, MeasuredSets};
use crate::inputs::{Reader, RunInputs, changed, gold, refuse_long, resolved_configuration};
use crate::judges::{self, JudgeModels};
use crate::models;
use crate::stages::refuse_foreign;
use crate::starting_model::StartingModels;
use crate::starting_reward::StartingReward;
use crate::training_set::{TrainingSet, training_name};

/// The policy before the first iteration.
const POLICY: &str = "M0";

/// Traces shown in the report.
const TRACES: usize = 3;

/// Where a run keeps what its reward model was measured to be worth.
const REWARD_EVALUATION: &str = "evaluations/reward";

pub(crate) fn run(options: &RunOptions, json: bool, console: &Console) -> Result<()> {
    let mut prepared = PreparedRun::read(&options.config, &options.set)?;
    let folder = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&prepared.config.name));
    let summary = prepared.execute(&folder, &Shared::default(), console)?;
    if json {
        console::print(&serde_json::to_string_pretty(&summary)?)?;
    } else {
        let report = folder.join("report.html");
        console::print(&format!("{}\nreport: {}", rlrf_report::final_table(&summary), report.display()))?;
    }
    Ok(())
}

/// What a run may take over from others, beside its own inputs.
#[derive(Default)]
pub(crate) struct Shared {
    /// Folder of starting models by their digest; models that are made are left there, too.
    pub(crate) models: Option<PathBuf>,
    /// Runs whose rows are as good as this run's own.
    pub(crate) runs: Vec<PathBuf>,
}

/// A run whose inputs are read and checked.
pub(crate) struct PreparedRun {
    pub(crate) config: Config,
    reader: Reader,
    inputs: RunInputs,
    measured: MeasuredSets,
    models: Option<StartingModels>,
    judges: JudgeModels,
}

impl PreparedRun {
    /// Reads everything that the configuration names, and refuses what cannot work.
    pub(crate) fn read(file: &Path, set: &[String]) -> Result<Self> {
        let config = Config::load(Some(file), set)?;
        let mut reader = Reader::new(Some(file));
        let inputs = RunInputs::read(&config, &mut reader)?;
        let measured = MeasuredSets::read(&config, &mut reader)?;
        let mut trained = inputs.trained();
        let models = StartingModels::read(&config, &mut reader, &inputs, &mut trained)?;
        let judges = JudgeModels::of_run(&config, &inputs, &mut reader)?;
        if !config.evaluation.allow_overlap {
            trained.refuse(&measured.sets)?;
            let held_out = models.reward.iter().flat_map(StartingReward::questions_of_held_out_file);
            trained
                .refuse_questions(&held_out.collect::<Vec<_>>(), "the held-out pairs of the reward model")?;
        }
        Ok(Self { config, reader, inputs, measured, models: Some(models), judges })
    }

    /// Digest of a configuration that names the same input files as this one, these included.
    pub(crate) fn digest_of(&self, config: &Config) -> Result<String> {
        Ok(digest(&resolved_configuration(None, config, self.reader.digests())?))
    }

    /// Runs, or goes on, in `folder`, which belongs to this configuration from here on.
    pub(crate) fn execute(&mut self, folder: &Path, shared: &Shared, console: &Console) -> Result<Summary> {
        let resolved = resolved_configuration(None, &self.config, self.reader.digests())?;
        refuse_foreign(folder)?;
        let mut store = RunStore::create_or_open(folder, &resolved, &digest(&resolved)).map_err(changed)?;
        store.borrow_from(shared.runs.iter().map(RunStore::open_read_only).collect::<Result<_, _>>()?);
        let models = self.models.take().context("a run is executed once")?;
        let mut run = Run {
            config: &self.config,
            reader: &self.reader,
            inputs: &self.inputs,
            measured: &mut self.measured,
            judges: &mut self.judges,
            folder: folder.to_path_buf(),
            shared_models: shared.models.as_deref(),
            store,
            console,
        };
        let outcome = run.execute(models);
        run.keep_timings()?;
        outcome
    }
}

struct Run<'a> {
    config: &'a Config,
    reader: &'a Reader,
    inputs: &'a RunInputs,
    measured: &'a mut MeasuredSets,
    judges: &'a mut JudgeModels,
    folder: PathBuf,
    shared_models: Option<&'a Path>,
    store: RunStore,
    console: &'a Console,
}

impl Run<'_> {
    fn execute(&mut self, models: StartingModels) -> Result<Summary> {
        let version = env!("CARGO_PKG_VERSION");
        self.store.event("started", &json!({ "version": version, "engine": self.config.engine }))?;
        self.commit_instructions()?;
        let policy_digest = models.policy.digest("sft M0");
        let mut policy = self.start_tuned(POLICY, models.policy)?;
        // It may be one that was made for other instructions.
        self.refuse_long_instructions(&policy)?;
        let judge = models.feedback.map(|model| self.start_tuned("feedback", model)).transpose()?;
        let reward =
            models.reward.map(|model| self.start_reward(&model, &policy, &policy_digest)).transpose()?;
        self.evaluate(0, &policy, judge.as_ref())?;
        for number in 0..self.config.iterations {
            policy = self.iterate(number, policy, judge.as_ref(), reward.as_ref())?;
            self.evaluate(number + 1, &policy, judge.as_ref())?;
            self.measure_divergence(number + 1, &policy)?;
        }
        self.keep_timings()?;
        let summary = self.summarise(&policy)?;
        self.store.event("finished", &json!({}))?;
        Ok(summary)
    }

    fn refuse_long_instructions(&self, policy: &Model) -> Result<()> {
        match &self.config.instructions.file {
            Some(file) => refuse_long(&self.inputs.instructions, file, policy),
            None => Ok(()),
        }
    }

    fn commit_instructions(&mut self) -> Result<()> {
        let mut rows = Vec::new();
        for (position, instruction) in (0u32..).zip(&self.inputs.instructions) {
            let key = digest(&("instruction", instruction));
            if self.store.get(Table::Instructions, &key)?.is_none() {
                let body = serde_json::to_value(instruction)?;
                let instruction = instruction.id.clone();
                rows.push((Table::Instructions, Row { key, iteration: 0, instruction, position, body }));
            }
        }
        Ok(self.store.commit(&rows)?)
    }

    fn stage(&self, name: &str, iteration: u32) -> TrainingStage {
        let checkpoint = self.folder.join("checkpoints").join(name.replace(' ', "-"));
        TrainingStage { name: name.to_string(), iteration, checkpoint }
    }

    fn model_folder(&self, name: &str) -> PathBuf {
        self.folder.join("models").join(name)
    }

    /// A model that the run has recorded as finished; its stage may have been stopped before it dropped its checkpoint.
    fn finished_model(&self, name: &str, stage: &TrainingStage) -> Result<Option<Model>> {
        let folder = self.model_folder(name);
        let Some(artifact) = self.store.artifact(&format!("models/{name}"))? else {
            clear_leftovers(&folder)?;
            return Ok(None);
        };
        let model = models::load_any(&folder)?;
        if model.digest() != artifact.digest {
            bail!(
                "{}: the model is not the one that this run wrote; restore it, or start over with another --out",
                folder.display()
            );
        }
        rlrf_local::finish(stage)?;
        Ok(Some(model))
    }

    /// Saves a model, records it, then drops its checkpoint: whatever happens in between is done again.
    fn finish_model(&self, name: &str, model: &mut Model, stage: &TrainingStage) -> Result<()> {
        model.folder = self.model_folder(name);
        let digest = models::save(model, &model.folder)?;
        self.store.record_artifact(&format!("models/{name}"), &digest, &json!({}))?;
        Ok(rlrf_local::finish(stage)?)
    }

    fn evaluate(&mut self, iteration: u32, model: &Model, judge: Option<&Model>) -> Result<()> {
        self.measure(iteration, model, judge)?;
        self.keep_timings()
    }

    /// Measures a model on the sets that it has not been measured on.
    fn measure(&mut self, iteration: u32, model: &Model, judge: Option<&Model>) -> Result<()> {
        let store = RefCell::new(&mut self.store as &mut dyn RowStore);
        let mut shared = SharedStore::new(&store);
        let mut sets = Vec::new();
        for set in &self.measured.sets {
            let key = evaluation_key(set.benchmark(), set.name(), iteration);
            if shared.get(Table::Metrics, &key)?.is_none() {
                sets.push(set);
            }
        }
        if sets.is_empty() {
            return Ok(());
        }
        let mut policy = LocalPolicy::new(model, self.config.engine())?;
        let independent = self.config.feedback.source != FeedbackOrigin::Policy;
        let mut feedback = if independent && sets.iter().any(|set| set.needs_feedback()) {
            let models = (&policy, judge);
            Some(judges::judge(self.config, self.inputs, models, self.judges, shared, iteration)?)
        } else {
            None
        };
        for set in sets {
            let judges = Judges {
                replies: self.measured.judge.as_deref_mut(),
                feedback: feedback.as_mut().map(|judge| &mut **judge as &mut dyn Judge),
            };
            let mut context = rlrf_eval::Context { store: &mut shared, progress: self.console };
            let outcome = set.evaluate(&mut context, &mut policy, judges, iteration)?;
            let table = rlrf_report::evaluation_table(&outcome.evaluation);
            self.console.say(&format!("M_{iteration}\n{}", table.trim_end()));
            outcome.commit(&mut shared)?;
        }
        Ok(())
    }

    /// How far `M_t` has moved from `M_0`.
    fn measure_divergence(&mut self, iteration: u32, policy: &Model) -> Result<()> {
        let name = divergence_name(iteration);
        let samples = self.config.evaluation.divergence_samples.min(self.inputs.instructions.len());
        if samples == 0 || self.store.artifact(&name)?.is_some() {
            return Ok(());
        }
        let reference = models::load(&self.model_folder(POLICY))?;
        let sample = DivergenceSample {
            instructions: &self.inputs.instructions[..samples],
            max_new_tokens: self.config.sample.sampling.max_new_tokens,
            seed: self.config.seed,
        };
        let (kl, kl_per_token) =
            rlrf_local::divergence(policy, &reference, sample, self.config.engine(), self.console)?;
        self.keep_timings()?;
        let divergence = Divergence { iteration, kl, kl_per_token };
        Ok(self.store.record_artifact(&name, "", &serde_json::to_value(&divergence)?)?)
    }

    /// From `M_t` to `M_{t+1}`.
    fn iterate(
        &mut self,
        number: u32,
        mut policy: Model,
        judge: Option<&Model>,
        reward: Option<&Model>,
    ) -> Result<Model> {
        let name = format!("M{}", number + 1);
        let stage = self.stage(&format!("{} M_{number}", training_name(self.config)), number);
        if let Some(finished) = self.finished_model(&name, &stage)? {
            return Ok(finished);
        }
        let set = match self.config.method {
            Method::SftGold => TrainingSet::Demonstrations(gold(&self.inputs.instructions)?),
            _ => self.candidates(number, &policy, judge, reward)?,
        };
        if set.is_empty() {
            self.console.notice(&format!(
                "nothing to train on in iteration {number}: M_{} is M_{number}",
                number + 1
            ));
        } else {
            set.train(self.config, &mut policy, &stage, &mut self.store, self.console)?;
        }
        self.finish_model(&name, &mut policy, &stage)?;
        self.keep_timings()?;
        Ok(policy)
    }

    /// What the candidates of an iteration teach; what was found of them is kept.
    fn candidates(
        &mut self,
        number: u32,
        policy: &Model,
        judge: Option<&Model>,
        reward: Option<&Model>,
    ) -> Result<TrainingSet> {
        let (groups, set, summary) = self.explore(number, policy, judge, reward)?;
        let traces = self.traces(number, &groups);
        let body = json!({ "summary": summary, "traces": traces });
        self.store.record_artifact(&format!("iterations/{number}"), "", &body)?;
        Ok(set)
    }

    /// Samples, judges, refines, judges again, and takes from the candidates what the policy is trained on.
    fn explore(
        &mut self,
        number: u32,
        model: &Model,
        judge: Option<&Model>,
        reward: Option<&Model>,
    ) -> Result<(Vec<CandidateGroup>, TrainingSet, IterationSummary)> {
        let config = self.config.loop_config();
        let mut policy = LocalPolicy::new(model, self.config.engine())?;
        let store = RefCell::new(&mut self.store as &mut dyn RowStore);
        let shared = SharedStore::new(&store);
        let mut store = shared;
        let mut reward = reward.map(LocalReward::new);
        let mut iteration = Iteration {
            config: &config,
            number,
            instructions: &self.inputs.instructions,
            aspects: &self.inputs.aspects,
            choices: Vec::new(),
            templates: &self.inputs.templates,
            store: &mut store,
            progress: self.console,
            checker: self.inputs.checker.as_deref(),
            reward: reward.as_mut().map(|reward| reward as &mut dyn Reward),
        };
        let choose = self.config.feedback.choose.as_ref().filter(|_| self.config.needs_feedback());
        if let Some(choose) = choose {
            let own = match judge {
                Some(model) => LocalPolicy::new(model, self.config.engine())?,
                None => policy.clone(),
            };
            let all: Vec<usize> = (0..self.inputs.instructions.len()).collect();
            let choices =
                self.judges.ask_chooser(Some(own), self.config.engine(), (shared, number), |model| {
                    iteration.choose(model, choose, &all)
                })?;
            iteration.choices = choices;
        }
        let groups = if self.config.needs_feedback() {
            let models = (&policy, judge);
            let mut judge = judges::judge(self.config, self.inputs, models, self.judges, shared, number)?;
            let groups = iteration.explore(&mut policy, Some(judge.as_mut()))?;
            judges::refuse_silence(&groups)?;
            groups
        } else {
            iteration.explore(&mut policy, None)?
        };
        let (set, summary) = TrainingSet::of_candidates(self.config, &mut iteration, &groups)?;
        Ok((groups, set, summary))
    }

    /// Reflections worth reading: a wrong draft, its feedback, and the best refinement.
    fn traces(&self, number: u32, groups: &[CandidateGroup]) -> Vec<Trace> {
        let mut traces = Vec::new();
        for group in groups {
            let refined = group.candidates.iter().filter(|c| c.draft.is_some());
            let Some(best) = refined.max_by(|a, b| a.rank(b)) else { continue };
            let Some(draft) = best.draft.map(|index| &group.candidates[index]) else { continue };
            if draft.is_right() || best.rank(draft).is_le() {
                continue;
            }
            let instruction = &self.inputs.instructions[group.instruction];
            let shown = self.inputs.grounding.as_ref().map_or(instruction, |g| g.grounded(instruction));
            let chosen = |name: &str| {
                let mut chosen = group.choice.iter().flat_map(|choice| &choice.aspects);
                chosen.find(|chosen| chosen.aspect == name).map(|chosen| chosen.reason.clone())
            };
            traces.push(Trace {
                iteration: number,
                instruction: instruction.id.clone(),
                problem: instruction.text(),
                reference: shown.reference.clone(),
                draft: draft.generated.text.clone(),
                feedback: draft
                    .feedback
                    .iter()
                    .map(|f| TraceFeedback {
                        aspect: f.aspect.clone(),
                        reason: chosen(&f.aspect).filter(|reason| !reason.is_empty()),
                        level: f.level,
                        critique: f.critique.clone(),
                    })
                    .collect(),
                refinement: best.generated.text.clone(),
                scores: (draft.score, best.score),
                correct: best.correct,
            });
            if traces.len() == TRACES {
                break;
            }
        }
        traces
    }

    /// Timings go to the events: rows hold only what a run's inputs decide.
    fn keep_timings(&self) -> Result<()> {
        for (stage, seconds) in self.console.take_timings() {
            self.store.event("stage", &json!({ "stage": stage, "seconds": seconds }))?;
        }
        Ok(())
    }

    fn summarise(&self, policy: &Model) -> Result<Summary> {
        let mut evaluations: Vec<Evaluation> = Vec::new();
        let mut curves: Vec<TrainingCurve> = Vec::new();
        let mut iterations = Vec::new();
        let mut traces: Vec<Trace> = Vec::new();
        let mut digests = Vec::new();
        let mut divergences: Vec<Divergence> = Vec::new();
        for number in 0..=self.config.iterations {
            for row in self.store.rows(Table::Metrics, number)? {
                if row.instruction == EVALUATION {
                    evaluations.push(serde_json::from_value(row.body)?);
                    continue;
                }
                match curves.iter_mut().find(|curve| curve.stage == row.instruction) {
                    Some(curve) => curve.steps.push(row.body),
                    None => curves.push(TrainingCurve { stage: row.instruction, steps: vec![row.body] }),
                }
            }
            if let Some(artifact) = self.store.artifact(&format!("iterations/{number}"))? {
                iterations.push(serde_json::from_value(artifact.body["summary"].clone())?);
                traces.extend(serde_json::from_value::<Vec<Trace>>(artifact.body["traces"].clone())?);
            }
            if let Some(artifact) = self.store.artifact(&divergence_name(number))? {
                divergences.push(serde_json::from_value(artifact.body)?);
            }
            digests
                .extend(self.store.artifact(&format!("models/M{number}"))?.map(|artifact| artifact.digest));
        }
        evaluations
            .sort_by_key(|e| (e.iteration, self.measured.sets.iter().position(|set| set.name() == e.set)));
        traces.truncate(TRACES);
        let reward = self.store.artifact(REWARD_EVALUATION)?;
        let mut seconds: HashMap<String, f64> = HashMap::new();
        let mut order: Vec<String> = Vec::new();
        for event in self.store.events()? {
            if let (Some(stage), Some(spent)) = (event.body["stage"].as_str(), event.body["seconds"].as_f64())
            {
                if !seconds.contains_key(stage) {
                    order.push(stage.to_string());
                }
                *seconds.entry(stage.to_string()).or_default() += spent;
            }
        }
        let timings = order
            .into_iter()
            .map(|stage| Timing { seconds: seconds.get(&stage).copied().unwrap_or_default(), stage })
            .collect();
        let summary = Summary {
            name: self.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            configuration_digest: digest(&resolved_configuration(None, self.config, self.reader.digests())?),
            seed: self.config.seed,
            policy_parameters: policy.decoder.config().parameter_count() as u64,
            models: digests,
            warnings: rlrf_report::warnings(
                &iterations,
                &curves,
                self.config.dpo.objective.chosen_fall_warning,
            ),
            evaluations,
            reward: reward.map(|artifact| serde_json::from_value(artifact.body)).transpose()?,
            divergences,
            iterations,
            training: curves,
            traces,
            timings,
        };
        let json = serde_json::to_string_pretty(&summary)? + "\n";
        write_atomically(self.folder.join("summary.json"), json.as_bytes()).context("summary.json")?;
        let page = rlrf_report::report_html(&summary);
        write_atomically(self.folder.join("report.html"), page.as_bytes()).context("report.html")?;
        Ok(summary)
    }
}

/// Where a run keeps it.
fn divergence_name(iteration: u32) -> String {
    format!("divergences/{iteration}")
}
