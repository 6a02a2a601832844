//! Configuration files: defaults, unknown keys refused with a suggestion, `--set`.

mod checker;
mod evaluation;
mod fine_tuning;
mod judge;
mod method;
mod retrieval;
mod reward;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rlrf_arithmetic::DemonstrationConfig;
use rlrf_engine::EngineOptions;
use rlrf_local::{DpoTrainingConfig, GrpoTrainingConfig, JudgeConfig, SftConfig};
use rlrf_method::CheckerConfig;
use rlrf_method::config::{
    ChooseConfig, MethodConfig, PairsConfig, RefineConfig, SampleConfig, ScoreConfig, SearchConfig,
    SelectConfig,
};
use rlrf_method::toml_error::{toml_error, with_suggestion};
use rlrf_model::WeightFormat;
use rlrf_train::TrainingConfig;
use serde::{Deserialize, Serialize};

pub(crate) use checker::RunChecker;
pub(crate) use evaluation::{
    AspectSet, EvaluationConfig, EvaluationSet, FactScoreSet, JustEvalSet, ProblemSet, WordProblemSet,
};
pub(crate) use fine_tuning::{BestOfNConfig, TrainerKind};
pub(crate) use judge::JudgeModel;
pub(crate) use method::Method;
pub(crate) use retrieval::RetrievalConfig;
pub(crate) use reward::{HeldOut, RewardConfig};

/// A whole configuration. Every field has a default; `rlrf run` needs `instructions.file` and a policy.
///
/// Written out, it is what a run's result follows from: settings of memory and speed are read, but left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Name of the run; its folder is `runs/NAME`.
    pub(crate) name: String,
    /// Fixes every random choice.
    pub(crate) seed: u64,
    /// What is done with the candidates: RLRF, or one of the methods that it is compared with.
    pub(crate) method: Method,
    /// Who trains the policy on them.
    pub(crate) trainer: TrainerKind,
    /// Iterations of the loop.
    pub(crate) iterations: u32,
    /// Decides exactly which answers are right: for evaluation, the reflection gain, and `feedback.source = "checker"`.
    pub(crate) checker: Option<RunChecker>,
    pub(crate) instructions: InstructionsConfig,
    pub(crate) policy: PolicyConfig,
    pub(crate) feedback: FeedbackConfig,
    pub(crate) reward: RewardConfig,
    pub(crate) demonstrations: DemonstrationsConfig,
    pub(crate) templates: TemplatesConfig,
    pub(crate) sample: SampleConfig,
    pub(crate) score: ScoreConfig,
    pub(crate) select: SelectConfig,
    pub(crate) refine: RefineConfig,
    pub(crate) search: SearchConfig,
    pub(crate) pairs: PairsConfig,
    pub(crate) dpo: DpoTrainingConfig,
    pub(crate) sft: BestOfNConfig,
    pub(crate) grpo: GrpoTrainingConfig,
    pub(crate) evaluation: EvaluationConfig,
    pub(crate) generation: GenerationConfig,
    #[serde(skip_serializing)]
    pub(crate) engine: EngineConfig,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InstructionsConfig {
    /// JSONL with `prompt` or `messages`, optional `reference`, `answer`, `id`.
    pub(crate) file: Option<PathBuf>,
    /// Only the first so many.
    pub(crate) limit: Option<usize>,
}

/// Where `M_0` comes from: a folder, or a new model; then, if wanted, supervised fine-tuning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PolicyConfig {
    /// Model folder in Hugging Face layout.
    pub(crate) model: Option<PathBuf>,
    /// Or: a new model, its tokenizer trained on the demonstrations of `sft`.
    pub(crate) new: Option<NewModelConfig>,
    /// Supervised fine-tuning before the first iteration.
    pub(crate) sft: Option<SftSection>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewModelConfig {
    /// A named shape (`rlrf model new --help` lists them).
    pub(crate) preset: String,
    /// Tokens of the vocabulary.
    pub(crate) vocab_size: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SftSection {
    /// Files of demonstrations.
    pub(crate) files: Vec<PathBuf>,
    /// Files of feedback records: demonstrations of judging.
    pub(crate) records: Vec<PathBuf>,
    /// Sets of demonstrations written by the program of `demonstrations`.
    pub(crate) demonstrations: Vec<DemonstrationSet>,
    /// Whether only completions are learnt; a model trained from scratch learns language from the prompts, too.
    pub(crate) completion_only_loss: bool,
    /// Optimiser, schedule, batch.
    pub(crate) training: TrainingConfig,
}

impl SftSection {
    /// The trainer's part, with the seed of its stage.
    pub(crate) fn settings(&self, seed: u64) -> SftConfig {
        let training = TrainingConfig { seed, ..self.training.clone() };
        SftConfig { completion_only_loss: self.completion_only_loss, training }
    }
}

impl Default for SftSection {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            records: Vec::new(),
            demonstrations: Vec::new(),
            completion_only_loss: true,
            training: TrainingConfig::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DemonstrationSet {
    Answers,
    Refinements,
    Feedback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FeedbackOrigin {
    /// The policy judges itself.
    Policy,
    /// Another model judges.
    Model,
    /// A model behind an endpoint judges, in free text.
    Endpoint,
    /// Several models judge; their levels are averaged.
    Panel,
    /// The checker judges.
    Checker,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FeedbackConfig {
    /// Who judges.
    pub(crate) source: FeedbackOrigin,
    /// Seed that a new or fine-tuned feedback model is made with, in place of the run's: so that runs of several seeds
    /// share one judge.
    pub(crate) seed: Option<u64>,
    /// Whether the judge is shown the reference; without it, as an ablation, it must know by itself.
    pub(crate) reference: bool,
    /// Folder of the feedback model, for `source = "model"`.
    pub(crate) model: Option<PathBuf>,
    /// Or: a new model, its tokenizer trained on the demonstrations of `sft`.
    pub(crate) new: Option<NewModelConfig>,
    /// Supervised fine-tuning of the feedback model.
    pub(crate) sft: Option<SftSection>,
    /// The model that judges, for `source = "endpoint"`.
    pub(crate) endpoint: Option<JudgeModel>,
    /// The models that judge, for `source = "panel"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) judges: Vec<JudgeModel>,
    /// Aspects to judge, by name.
    pub(crate) aspects: Vec<String>,
    /// File of aspects and rubrics instead of the eight of the paper.
    pub(crate) aspects_file: Option<PathBuf>,
    /// Weights of aspects in a candidate's score, by name, in place of those of their file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) weights: BTreeMap<String, f64>,
    /// Checkers that decide aspects, by name, in place of a model or of those of their file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) checkers: BTreeMap<String, CheckerConfig>,
    /// The feedback model chooses, for each instruction, the aspects that matter most.
    pub(crate) choose: Option<ChooseConfig>,
    /// Reference knowledge is looked up in an index.
    pub(crate) retrieval: Option<RetrievalConfig>,
    /// How critiques are written.
    pub(crate) critique: JudgeConfig,
}

impl Default for FeedbackConfig {
    fn default() -> Self {
        Self {
            source: FeedbackOrigin::Policy,
            seed: None,
            reference: true,
            model: None,
            new: None,
            sft: None,
            endpoint: None,
            judges: Vec::new(),
            aspects: ["logical correctness", "factuality", "completeness"].map(String::from).to_vec(),
            aspects_file: None,
            weights: BTreeMap::new(),
            checkers: BTreeMap::new(),
            choose: None,
            retrieval: None,
            critique: JudgeConfig::default(),
        }
    }
}

/// Demonstrations written by a program from problems with known solutions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DemonstrationsConfig {
    /// Problems: JSONL with `template`, `numbers`, `equation`.
    pub(crate) problems: Option<PathBuf>,
    /// How many of each kind, per problem.
    pub(crate) per_problem: DemonstrationConfig,
}

/// Jinja files instead of the built-in prompts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TemplatesConfig {
    pub(crate) feedback: Option<PathBuf>,
    pub(crate) refine: Option<PathBuf>,
    pub(crate) choose: Option<PathBuf>,
}

/// How local models generate, judges included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GenerationConfig {
    /// Format of the weights: `f32`, `bf16` or `int8`.
    pub(crate) weights: WeightFormat,
}

/// How much the generation engine does at once; changes speed and memory only, and is no part of a run's identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EngineConfig {
    /// Samples decoded together.
    pub(crate) max_rows: usize,
    /// Tokens of key/value cache.
    pub(crate) cache_tokens: usize,
    /// Prompt tokens that join the decoding rows of one step.
    pub(crate) prefill_tokens: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let EngineOptions { max_rows, cache_tokens, prefill_tokens, .. } = EngineOptions::default();
        Self { max_rows, cache_tokens, prefill_tokens }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "rlrf".into(),
            seed: 1,
            method: Method::default(),
            trainer: TrainerKind::default(),
            iterations: 2,
            checker: None,
            instructions: InstructionsConfig::default(),
            policy: PolicyConfig::default(),
            feedback: FeedbackConfig::default(),
            reward: RewardConfig::default(),
            demonstrations: DemonstrationsConfig::default(),
            templates: TemplatesConfig::default(),
            sample: SampleConfig::default(),
            score: ScoreConfig::default(),
            select: SelectConfig::default(),
            refine: RefineConfig::default(),
            search: SearchConfig::default(),
            pairs: PairsConfig::default(),
            dpo: DpoTrainingConfig::default(),
            sft: BestOfNConfig::default(),
            grpo: GrpoTrainingConfig::default(),
            evaluation: EvaluationConfig::default(),
            generation: GenerationConfig::default(),
            engine: EngineConfig::default(),
        }
    }
}

impl Config {
    /// Reads `file` (or starts from the defaults), applies `--set` and checks every range.
    pub(crate) fn load(file: Option<&Path>, set: &[String]) -> Result<Self> {
        Ok(Self::read(file, set)?.1)
    }

    /// The same for a stage alone: only the settings under the dotted `keys` are taken, the others have their defaults.
    pub(crate) fn load_stage(file: Option<&Path>, set: &[String], keys: &[&str]) -> Result<Self> {
        let whole = toml::Value::Table(Self::read(file, set)?.0);
        let mut used = toml::Table::new();
        for key in keys {
            if let Some(value) = key.split('.').try_fold(&whole, |value, part| value.get(part)) {
                insert(&mut used, key, value.clone())?;
            }
        }
        Ok(used.try_into()?)
    }

    fn read(file: Option<&Path>, set: &[String]) -> Result<(toml::Table, Self)> {
        let mut table = toml::Table::new();
        if let Some(file) = file {
            let bytes = std::fs::read(file)
                .with_context(|| format!("{}: cannot read the configuration", file.display()))?;
            let text = String::from_utf8(bytes).map_err(|_| anyhow!("{}: not UTF-8", file.display()))?;
            table = text.parse().map_err(|error| describe(file, &text, &error))?;
            if table.contains_key("inputs") {
                bail!(
                    "{}: is the record of a run, with the digests of what it read: give the configuration that it was begun \
                     with",
                    file.display()
                );
            }
            // Once more for its messages with lines.
            toml::from_str::<Self>(&text).map_err(|error| describe(file, &text, &error))?;
        }
        let of_file = table.clone();
        for assignment in set {
            assign(&mut table, assignment)?;
        }
        let mut config: Self = table.clone().try_into().map_err(|error: toml::de::Error| {
            let alone = |assignment: &&String| {
                let mut table = of_file.clone();
                assign(&mut table, assignment).is_ok()
                    && table.try_into::<Self>().is_err_and(|alone| alone.message() == error.message())
            };
            let which = set.iter().find(alone).map(|assignment| format!(" {assignment}"));
            anyhow!("--set{}: {}", which.unwrap_or_default(), with_suggestion(error.message()))
        })?;
        config.method.apply(&mut config);
        config.validate()?;
        Ok((table, config))
    }

    fn validate(&self) -> Result<()> {
        if self.name.is_empty() || self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            bail!("configuration: name = {:?}: must be a plain folder name", self.name);
        }
        if self.feedback.aspects.is_empty() {
            bail!("configuration: feedback.aspects is empty: name at least one aspect");
        }
        if self.feedback.source == FeedbackOrigin::Checker {
            for (field, set) in
                [("choose", self.feedback.choose.is_some()), ("retrieval", self.feedback.retrieval.is_some())]
            {
                if set {
                    bail!(
                        "configuration: feedback.{field} is for a model, but feedback.source is \"checker\""
                    );
                }
            }
        }
        if let Some(retrieval) = &self.feedback.retrieval {
            retrieval.validate()?;
        }
        self.loop_config().validate()?;
        self.engine().validate()?;
        let critique = rlrf_engine::Sampling {
            temperature: self.feedback.critique.temperature,
            ..rlrf_engine::Sampling::greedy(self.feedback.critique.max_new_tokens)
        };
        critique.validate().context("feedback.critique")?;
        let level_temperature = self.feedback.critique.level_temperature;
        if !(0.01..=100.0).contains(&level_temperature) {
            bail!(
                "configuration: feedback.critique.level_temperature = {level_temperature}: must be 0.01 to 100"
            );
        }
        for (section, sampling) in
            [("sample.sampling", &self.sample.sampling), ("refine.sampling", &self.refine.sampling)]
        {
            if sampling.stop.iter().any(String::is_empty) {
                bail!("configuration: {section}.stop holds an empty text, which would end every response");
            }
        }
        self.evaluation.validate()?;
        self.reward.validate()?;
        let written = &self.demonstrations.per_problem;
        for (key, share) in
            [("right_share", written.right_share), ("counterfactual_share", written.counterfactual_share)]
        {
            if !(0.0..=1.0).contains(&share) {
                bail!(
                    "configuration: demonstrations.per_problem.{key} = {share}: must be a fraction between 0 and 1"
                );
            }
        }
        for (section, training) in [
            ("policy.sft.training", self.policy.sft.as_ref().map(|sft| &sft.training)),
            ("feedback.sft.training", self.feedback.sft.as_ref().map(|sft| &sft.training)),
            ("dpo.training", Some(&self.dpo.training)),
            ("sft.training", Some(&self.sft.training)),
            ("grpo.training", Some(&self.grpo.training)),
        ] {
            if let Some(training) = training {
                training.validate().with_context(|| section.to_string())?;
            }
        }
        self.sft.validate()?;
        self.dpo.objective.validate().context("dpo.objective")?;
        self.grpo.objective.validate().context("grpo.objective")
    }

    /// The loop's part.
    pub(crate) fn loop_config(&self) -> MethodConfig {
        MethodConfig {
            seed: self.seed,
            sample: self.sample.clone(),
            score: self.score.clone(),
            select: self.select.clone(),
            refine: self.refine.clone(),
            search: self.search.clone(),
            pairs: self.pairs.clone(),
        }
    }

    /// Whether the loop asks for feedback.
    pub(crate) fn needs_feedback(&self) -> bool {
        self.method != Method::SftGold && self.loop_config().needs_feedback()
    }

    /// Whether there must be a judge: for the loop, or to measure aspects.
    pub(crate) fn needs_judge(&self) -> bool {
        let measures = self.evaluation.sets.iter().any(|set| matches!(set, EvaluationSet::Aspects(_)));
        measures || self.needs_feedback()
    }

    /// Whether the run scores candidates by a reward model: where it has a share in the score, or breaks ties.
    pub(crate) fn uses_reward(&self) -> bool {
        let breaks_ties = self.reward.break_ties && self.reward.is_configured();
        self.method != Method::SftGold && (self.score.reward_weight > 0.0 || breaks_ties)
    }

    /// The engine's part.
    pub(crate) fn engine(&self) -> EngineOptions {
        let EngineConfig { max_rows, cache_tokens, prefill_tokens } = self.engine;
        EngineOptions { weights: self.generation.weights, max_rows, cache_tokens, prefill_tokens }
    }
}

/// `a.b.c=value`; the value is TOML, or else plain text.
fn assign(table: &mut toml::Table, assignment: &str) -> Result<()> {
    let (key, value) = assignment
        .split_once('=')
        .filter(|(key, _)| !key.trim().is_empty())
        .ok_or_else(|| anyhow!("--set {assignment}: expected KEY=VALUE, such as --set sample.n=8"))?;
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_string()));
    insert(table, key.trim(), value).with_context(|| format!("--set {assignment}"))
}

/// Puts a value at a dotted key; sections that are not there yet begin.
fn insert(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut place = table;
    for part in parts {
        let entry = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry.as_table_mut().ok_or_else(|| anyhow!("`{part}` is not a section"))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

pub(crate) fn describe(file: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    anyhow!(toml_error(&file.display().to_string(), text, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, set: &[&str]) -> Result<Config> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("rlrf.toml");
        std::fs::write(&file, text)?;
        let set: Vec<String> = set.iter().map(|s| (*s).to_string()).collect();
        Config::load(Some(&file), &set)
    }

    #[test]
    fn defaults_hold_and_set_overrides() {
        assert_eq!(load("", &[]).unwrap(), Config::default());
        let config =
            load("[sample]\nn = 4\n", &["sample.sampling.top_p=1", "name=second", "refine.m=2"]).unwrap();
        assert_eq!((config.sample.n, config.sample.sampling.top_p, config.refine.m), (4, 1.0, 2));
        assert_eq!(config.name, "second");
    }

    #[test]
    fn a_method_decides_its_own_settings() {
        let text = "[sample]\nn = 4\n[refine]\nm = 3\n[feedback]\nsource = \"model\"\nmodel = \"m\"";
        let config = load(text, &["method=reward-dpo"]).unwrap();
        assert_eq!((config.sample.n, config.refine.m, config.score.reward_weight), (7, 0, 1.0));
        assert_eq!(config.feedback.source, FeedbackOrigin::Model);
        let config = load(text, &["method=self-rewarding"]).unwrap();
        assert_eq!((config.sample.n, config.score.reward_weight), (7, 0.0));
        assert_eq!((config.feedback.source, config.feedback.model), (FeedbackOrigin::Policy, None));
        assert_eq!(load(text, &["method=rlrf"]).unwrap(), load(text, &[]).unwrap());
        let config = load(text, &["method=rejection-sampling", "score.reward_weight=0.5"]).unwrap();
        assert_eq!((config.trainer, config.score.reward_weight), (TrainerKind::Sft, 0.5));
        assert_eq!(load(text, &["method=reward-dpo", "trainer=grpo"]).unwrap().trainer, TrainerKind::Dpo);
        assert_eq!(load(text, &["trainer=grpo"]).unwrap().trainer, TrainerKind::Grpo);
        let config = load(text, &["method=sft-gold"]).unwrap();
        assert!(config.trainer == TrainerKind::Sft && !config.needs_feedback());
        let message = format!("{:#}", load(text, &["method=dpo"]).unwrap_err());
        assert!(message.contains("reward-dpo"), "{message}");
    }

    #[test]
    fn a_stage_takes_its_own_settings_alone() {
        let text =
            "seed = 3\n[sample]\nn = 4\n[policy.sft]\nfiles = [\"f\"]\n[policy.sft.training]\nepochs = 7\n";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rlrf.toml");
        std::fs::write(&file, text).unwrap();
        let stage = |keys: &[&str]| Config::load_stage(Some(&file), &["refine.m=2".into()], keys);
        let config = stage(&["seed", "policy.sft.training", "policy.sft.completion_only_loss"]).unwrap();
        let sft = config.policy.sft.unwrap();
        assert_eq!((config.seed, sft.training.epochs, sft.files.len()), (3, 7, 0));
        assert_eq!((config.sample, config.refine), (SampleConfig::default(), RefineConfig::default()));
        assert_eq!(stage(&["refine"]).unwrap().refine.m, 2);
        assert!(stage(&["policy.model"]).unwrap().policy.model.is_none());
    }

    #[test]
    fn a_resolved_configuration_reads_back() {
        for checker in ["\"arithmetic\"", "{ kind = \"number\", tolerance = 0.5 }"] {
            let new = format!("checker = {checker}\n[policy.new]\npreset = \"tiny\"\nvocab_size = 300");
            let config = load(&new, &[]).unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
        }
    }

    #[test]
    fn errors_name_line_field_and_a_near_name() {
        for (text, set, expected) in [
            ("seed = 1\nseeds = 2", vec![], "rlrf.toml:2: unknown field `seeds`"),
            ("[dpo.training]\nlearning_rat = 1", vec![], "did you mean `learning_rate`?"),
            ("seed = \"x\"", vec![], "rlrf.toml:1: invalid type"),
            ("seed = ", vec![], "rlrf.toml:1: "),
            ("", vec!["seed=2", "smaple.n=2"], "--set smaple.n=2: unknown field `smaple`"),
            ("", vec!["seed=2", "iterations=two"], "--set iterations=two: invalid type"),
            ("", vec!["policy.new.preset=tiny", "policy.new.vocab_size=x"], "vocab_size=x: invalid type"),
            ("[inputs]\n\"data.jsonl\" = \"0\"", vec![], "is the record of a run"),
            ("", vec!["sample.n"], "expected KEY=VALUE"),
            ("", vec!["seed.x=1"], "--set"),
            ("[sample]\nn = 0", vec![], "sample.n = 0"),
            ("", vec!["checker=number"], "unknown variant `number`, expected `arithmetic`"),
            ("checker = 3", vec![], "expected \"arithmetic\", or a checker with its settings such as { kind"),
            ("checker = { kind = \"nubmer\" }", vec![], "unknown variant `nubmer`"),
            ("[sample.sampling]\ntop_p = 2.0", vec![], "sample.sampling.top_p = 2"),
            ("[dpo.objective]\nbeta = 0.0", vec![], "beta"),
            ("", vec!["dpo.objective.loss=sigmoid"], "unknown variant `sigmoid`"),
            (
                "",
                vec!["dpo.objective.loss=ipo", "dpo.objective.label_smoothing=0.1"],
                "dpo.objective: training",
            ),
            (
                "[grpo.objective]\nepsilon = 1.0",
                vec![],
                "grpo.objective: training configuration: epsilon = 1",
            ),
            ("[sft]\nmin_score = 0.0", vec![], "sft.min_score = 0"),
            ("", vec!["trainer=ppo"], "unknown variant `ppo`"),
            ("name = \"a/b\"", vec![], "plain folder name"),
            ("[refine.sampling]\nstop = [\"\"]", vec![], "refine.sampling.stop holds an empty text"),
            ("[feedback.critique]\ntemperature = -1.0", vec![], "feedback.critique"),
            (
                "[feedback.critique]\nlevel_temperature = 0.0",
                vec![],
                "feedback.critique.level_temperature = 0",
            ),
            (
                "[evaluation]\nsets = [{ name = \"a\", file = \"b\", benchmark = \"gsm8\" }]",
                vec![],
                "unknown variant `gsm8`",
            ),
            (
                "[evaluation]\nsets = [{ name = \"a\", file = \"b\", benchmark = \"gsm8k\", shot = 1 }]",
                vec![],
                "did you mean `shots`?",
            ),
            (
                "[evaluation]\nsets = [{ name = \"a\", file = \"b\", shots = 1 }]",
                vec![],
                "unknown field `shots`",
            ),
            ("\n[evaluation.judge]\nmodle = \"x\"", vec![], "rlrf.toml:3: unknown field `modle`"),
            (
                "[evaluation.judge]\nmodel = \"x\"\nmax_new_tokens = 0",
                vec![],
                "evaluation.judge: max_new_tokens = 0",
            ),
            ("[evaluation]\nmax_new_tokens = 0", vec![], "evaluation.max_new_tokens = 0"),
            ("[demonstrations.per_problem]\nright_share = 1.5", vec![], "right_share = 1.5"),
            ("[demonstrations.per_problem]\nright_share = nan", vec![], "right_share = NaN"),
            (
                "[demonstrations.per_problem]\ncounterfactual_share = -1.0",
                vec![],
                "counterfactual_share = -1",
            ),
        ] {
            let message = format!("{:#}", load(text, &set).unwrap_err());
            assert!(message.contains(expected), "{message} does not contain {expected}");
        }
    }

    #[test]
    fn every_key_is_documented() {
        fn leaves(table: &toml::Table, keys: &mut Vec<String>) {
            for (key, value) in table {
                match value {
                    toml::Value::Table(inner) => leaves(inner, keys),
                    _ => keys.push(key.clone()),
                }
            }
        }
        let page = include_str!("../../../docs/configuration.md");
        let mut keys = Vec::new();
        leaves(&toml::Table::try_from(Config::default()).unwrap(), &mut keys);
        assert!(keys.len() > 30, "{keys:?}");
        for key in keys {
            let named = [format!("`{key}`"), format!(".{key}`"), format!("{key} = ")];
            assert!(named.iter().any(|name| page.contains(name)), "docs/configuration.md lacks {key}");
        }
    }
}
