//! The models that a run starts from. Whatever can be refused about them is, before the run folder is bound to its
//! configuration: the corrected command must not meet a run of another configuration.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use rlrf_arithmetic::Demonstrations;
use rlrf_local::LocalJudge;
use rlrf_method::FeedbackRecord;
use rlrf_method::demonstration::Demonstration;
use rlrf_method::digest::{digest, stream};
use rlrf_model::preset::{Preset, SPECIAL_TOKENS};
use rlrf_model::{Model, Tokenizer};

use crate::config::{Config, DemonstrationSet, FeedbackOrigin, NewModelConfig, SftSection};
use crate::inputs::{Reader, RunInputs, refuse_long};
use crate::models;
use crate::overlap::Trained;
use crate::starting_reward::StartingReward;

/// A tokenizer's vocabulary holds at least the special tokens and every byte.
const LEAST_VOCABULARY: usize = 256 + SPECIAL_TOKENS.len();

/// The policy, and the feedback model and the reward model where there are such.
pub(crate) struct StartingModels {
    pub(crate) policy: StartingModel,
    pub(crate) feedback: Option<StartingModel>,
    pub(crate) reward: Option<StartingReward>,
}

impl StartingModels {
    /// Reads and checks all; `trained` gets the questions that they will learn from.
    pub(crate) fn read(
        config: &Config,
        reader: &mut Reader,
        inputs: &RunInputs,
        trained: &mut Trained,
    ) -> Result<Self> {
        let (policy, feedback) = (&config.policy, &config.feedback);
        if feedback.source != FeedbackOrigin::Model {
            refuse_idle_feedback_model(config)?;
        }
        if feedback.source == FeedbackOrigin::Checker && inputs.checker.is_none() {
            bail!(
                "configuration: feedback.source = \"checker\" needs `checker`, such as checker = \"arithmetic\""
            );
        }
        let needs_judge = config.needs_judge();
        let mut read = |section, seed, model: &Option<PathBuf>, new, sft: &Option<SftSection>| {
            let sft = match sft {
                Some(sft) => {
                    let written = match sft.demonstrations.is_empty() {
                        true => Demonstrations::default(),
                        false => written_demonstrations(config, seed, reader, inputs, trained)?,
                    };
                    Some(FineTuning {
                        demonstrations: demonstrations(section, sft, &written, reader, inputs, trained)?,
                        section: sft.clone(),
                    })
                }
                None => None,
            };
            let origin = Origin::read(section, model, new, reader)?;
            StartingModel { origin, seed, sft }.checked(section)
        };
        let models = Self {
            policy: read("policy", config.seed, &policy.model, &policy.new, &policy.sft)?,
            feedback: match feedback.source {
                FeedbackOrigin::Model if needs_judge => {
                    let seed = feedback.seed.unwrap_or(config.seed);
                    Some(read("feedback", seed, &feedback.model, &feedback.new, &feedback.sft)?)
                }
                _ => None,
            },
            reward: match config.uses_reward() {
                true => Some(StartingReward::read(config, reader, inputs, trained)?),
                false => None,
            },
        };
        let judge = match feedback.source {
            FeedbackOrigin::Policy if config.needs_feedback() => Some(&models.policy),
            _ => models.feedback.as_ref(),
        };
        if let (Origin::Loaded(policy), Some(file)) = (&models.policy.origin, &config.instructions.file) {
            refuse_long(&inputs.instructions, file, policy)?;
        }
        if let Some(StartingModel { origin: Origin::Loaded(judge), .. }) = judge {
            LocalJudge::new(judge, &inputs.templates, &feedback.critique, config.engine())?;
        }
        Ok(models)
    }
}

/// One model: a folder's, or a new one; then, if wanted, fine-tuned on demonstrations.
pub(crate) struct StartingModel {
    origin: Origin,
    /// Decides weights and the order of examples.
    pub(crate) seed: u64,
    sft: Option<FineTuning>,
}

/// Supervised fine-tuning before the first iteration.
pub(crate) struct FineTuning {
    pub(crate) section: SftSection,
    pub(crate) demonstrations: Vec<Demonstration>,
}

enum Origin {
    Loaded(Box<Model>),
    New(NewModelConfig),
}

impl Origin {
    fn read(
        section: &str,
        model: &Option<PathBuf>,
        new: &Option<NewModelConfig>,
        reader: &mut Reader,
    ) -> Result<Self> {
        match (model, new) {
            (None, None) => bail!(
                "configuration: name the {section} model: `{section}.model` (a model folder) or `{section}.new`"
            ),
            (Some(_), Some(_)) => {
                bail!("configuration: give `{section}.model` or `{section}.new`, not both")
            }
            (Some(folder), None) => {
                let model = models::load(&reader.path(folder))?;
                reader.remember(&format!("{section}.model"), &model.digest());
                Ok(Self::Loaded(Box::new(model)))
            }
            (None, Some(new)) => {
                check_new(section, new)?;
                Ok(Self::New(new.clone()))
            }
        }
    }
}

/// Refuses a new model that cannot be made.
pub(crate) fn check_new(section: &str, new: &NewModelConfig) -> Result<()> {
    Preset::by_name(&new.preset)
        .and_then(|preset| preset.config(new.vocab_size))
        .map_err(|error| anyhow!("configuration: {section}.new.preset: {error}"))?;
    if new.vocab_size < LEAST_VOCABULARY {
        bail!(
            "configuration: {section}.new.vocab_size = {}: must be at least {LEAST_VOCABULARY}, for every byte and {} \
             special tokens",
            new.vocab_size,
            SPECIAL_TOKENS.len()
        );
    }
    Ok(())
}

/// A new model, its tokenizer trained on `texts`.
pub(crate) fn make_new(
    new: &NewModelConfig,
    texts: impl Iterator<Item = String>,
    seed: u64,
) -> Result<Model> {
    let tokenizer = Tokenizer::train_bpe(texts, new.vocab_size, &SPECIAL_TOKENS)?;
    let shape = Preset::by_name(&new.preset)?.config(tokenizer.vocab_size())?;
    Ok(Model::new_random(shape, tokenizer, stream(seed, "weights", &new.preset, 0))?)
}

impl StartingModel {
    fn checked(self, section: &str) -> Result<Self> {
        if matches!(self.origin, Origin::New(_)) && self.sft.is_none() {
            bail!(
                "configuration: {section}.new needs `{section}.sft` with demonstrations: its tokenizer is trained on them"
            );
        }
        Ok(self)
    }

    /// Identity of everything that decides the model; `stage` is what its training is called, and seeded by.
    pub(crate) fn digest(&self, stage: &str) -> String {
        let origin = match &self.origin {
            Origin::Loaded(model) => digest(&("loaded", model.digest())),
            Origin::New(new) => digest(&("new", new)),
        };
        let sft = self.sft.as_ref().map(|sft| (&sft.section, digest(&sft.demonstrations)));
        digest(&("starting model", stage, origin, self.seed, sft))
    }

    /// The model before its fine-tuning, and what it is to be fine-tuned on. A new one's tokenizer is trained on that.
    pub(crate) fn make(self) -> Result<(Model, Option<FineTuning>)> {
        let seed = self.seed;
        let model = match self.origin {
            Origin::Loaded(model) => *model,
            Origin::New(new) => {
                let demonstrations = self.sft.iter().flat_map(|sft| &sft.demonstrations);
                let texts = demonstrations
                    .flat_map(|d| d.prompt.iter().map(|m| m.content.clone()).chain([d.completion.clone()]));
                make_new(&new, texts, seed)?
            }
        };
        Ok((model, self.sft))
    }
}

/// Settings of a feedback model that nothing would use.
fn refuse_idle_feedback_model(config: &Config) -> Result<()> {
    let feedback = &config.feedback;
    let given = [
        ("model", feedback.model.is_some()),
        ("new", feedback.new.is_some()),
        ("sft", feedback.sft.is_some()),
    ];
    if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
        bail!(
            "configuration: `feedback.{key}` describes a feedback model, but feedback.source says that none is used: set \
             feedback.source = \"model\", or take `feedback.{key}` out"
        );
    }
    Ok(())
}

/// What the program writes.
pub(crate) fn written_demonstrations(
    config: &Config,
    seed: u64,
    reader: &mut Reader,
    inputs: &RunInputs,
    trained: &mut Trained,
) -> Result<Demonstrations> {
    let Some(file) = &config.demonstrations.problems else {
        bail!("configuration: demonstrations.problems is missing, but some section wants demonstrations");
    };
    let problems = reader.word_problems(file)?;
    for (number, problem) in (1..).zip(&problems) {
        if let Some(original) = problem.original() {
            let question = [rlrf_method::Message::user(original.question)];
            trained.add(&question, &format!("problem {number} of {}", file.display()));
        }
    }
    // A model is asked about those without a checker alone.
    let aspect = inputs.aspects.iter().find(|aspect| aspect.checker.is_none()).or(inputs.aspects.first());
    let Some(aspect) = aspect else { bail!("configuration: no aspect") };
    let seed = stream(seed, "demonstrations", "", 0);
    let per_problem = &config.demonstrations.per_problem;
    Ok(Demonstrations::write(&problems, per_problem, aspect, &inputs.templates, seed)?)
}

/// What an `sft` section names.
fn demonstrations(
    section: &str,
    sft: &SftSection,
    written: &Demonstrations,
    reader: &mut Reader,
    inputs: &RunInputs,
    trained: &mut Trained,
) -> Result<Vec<Demonstration>> {
    let mut demonstrations = Vec::new();
    for file in &sft.files {
        for (number, demonstration) in (1..).zip(reader.demonstrations(file)?) {
            trained.add(&demonstration.prompt, &format!("demonstration {number} of {}", file.display()));
            demonstrations.push(demonstration);
        }
    }
    for file in &sft.records {
        let (name, records) = reader.feedback_records(file, &inputs.all_aspects)?;
        for (number, record) in (1..).zip(&records) {
            trained.add(&record.instruction.messages, &format!("record {number} of {}", file.display()));
        }
        demonstrations.extend(FeedbackRecord::demonstrations(&name, &records, &inputs.templates)?);
    }
    for set in &sft.demonstrations {
        demonstrations.extend_from_slice(match set {
            DemonstrationSet::Answers => &written.answers,
            DemonstrationSet::Refinements => &written.refinements,
            DemonstrationSet::Feedback => &written.feedback,
        });
    }
    if demonstrations.is_empty() {
        bail!(
            "configuration: `{section}.sft` yields no demonstrations: name `files`, `records`, or `demonstrations` of which \
             demonstrations.per_problem writes at least one"
        );
    }
    Ok(demonstrations)
}
