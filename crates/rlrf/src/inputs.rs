//! Everything that a command reads before it begins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rlrf_arithmetic::{ArithmeticChecker, WordProblem};
use rlrf_method::aspect::DEFAULT_ASPECTS;
use rlrf_method::demonstration::Demonstration;
use rlrf_method::dispatch::AspectCheckers;
use rlrf_method::grounding::Grounding;
use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::preference_file::read_preferences;
use rlrf_method::seam::Checker;
use rlrf_method::template::{ChooseQuestion, DEFAULT_CHOOSE, DEFAULT_FEEDBACK, DEFAULT_REFINE};
use rlrf_method::{Aspect, Feedback, FeedbackRecord, Instruction, ParseOutcome, Templates};
use rlrf_model::Model;
use rlrf_remote::is_url;
use serde::Serialize;

use crate::aspects;
use crate::config::{Config, Method, RunChecker};
use crate::overlap::Trained;
use crate::retrieval;

/// Reads files named in a configuration, relative to its folder, and remembers what they held.
pub(crate) struct Reader {
    folder: PathBuf,
    digests: BTreeMap<String, String>,
    /// Files and folders of the command line, by the name of their option.
    given: BTreeMap<String, PathBuf>,
}

impl Reader {
    /// For paths relative to the folder of `config`, or to the working folder.
    pub(crate) fn new(config: Option<&Path>) -> Self {
        let folder = config.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
        let given = config.map(|config| ("config".to_string(), config.to_path_buf())).into_iter().collect();
        Self { folder, digests: BTreeMap::new(), given }
    }

    /// A path of the configuration as seen from the working folder.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A model of the configuration: an address as it is, a folder as seen from the working folder.
    pub(crate) fn model(&self, source: &str) -> String {
        if is_url(source) { source.to_string() } else { self.path(Path::new(source)).display().to_string() }
    }

    pub(crate) fn bytes(&mut self, path: &Path) -> Result<(String, Vec<u8>)> {
        let place = self.path(path);
        let bytes = std::fs::read(&place).with_context(|| format!("{}: cannot read", place.display()))?;
        self.remember(&path.display().to_string(), &short_digest(&bytes));
        Ok((place.display().to_string(), bytes))
    }

    fn text(&mut self, path: &Path) -> Result<(String, String)> {
        let (name, bytes) = self.bytes(path)?;
        let text = utf8(&name, bytes)?;
        Ok((name, text))
    }

    /// Instructions of a JSONL file.
    pub(crate) fn instructions(&mut self, path: &Path) -> Result<Vec<Instruction>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(Instruction::read_jsonl(&name, &bytes)?)
    }

    /// The configured aspects.
    pub(crate) fn aspects(&mut self, config: &Config) -> Result<Vec<Aspect>> {
        aspects::configured(&self.all_aspects(config)?, &config.feedback)
    }

    /// Every aspect that may be named.
    pub(crate) fn all_aspects(&mut self, config: &Config) -> Result<Vec<Aspect>> {
        Ok(match &config.feedback.aspects_file {
            Some(path) => {
                let (name, text) = self.text(path)?;
                aspects::read(&name, &text)?
            }
            None => aspects::read("aspects.toml", DEFAULT_ASPECTS)?,
        })
    }

    /// The checkers of a file of aspects.
    pub(crate) fn aspect_checkers(&mut self, path: &Path) -> Result<AspectCheckers> {
        let (name, bytes) = self.bytes(path)?;
        read_checkers(&name, bytes)
    }

    /// The configured prompts.
    pub(crate) fn templates(&mut self, config: &Config) -> Result<Templates> {
        let mut read = |path: &Option<PathBuf>, default: &str| match path {
            Some(path) => self.text(path).map(|(_, text)| text),
            None => Ok(default.to_string()),
        };
        let feedback = read(&config.templates.feedback, DEFAULT_FEEDBACK)?;
        let refine = read(&config.templates.refine, DEFAULT_REFINE)?;
        let choose = read(&config.templates.choose, DEFAULT_CHOOSE)?;
        let templates = Templates::with_choose(&feedback, &refine, &choose)?;
        Ok(if config.feedback.reference { templates } else { templates.without_reference() })
    }

    /// Problems that a program writes demonstrations from.
    pub(crate) fn word_problems(&mut self, path: &Path) -> Result<Vec<WordProblem>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(WordProblem::read_jsonl(&name, &bytes)?)
    }

    /// Demonstrations of a JSONL file.
    pub(crate) fn demonstrations(&mut self, path: &Path) -> Result<Vec<Demonstration>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(Demonstration::read_jsonl(&name, &bytes)?)
    }

    /// Feedback records of a JSONL file, and the file's name.
    pub(crate) fn feedback_records(
        &mut self,
        path: &Path,
        aspects: &[Aspect],
    ) -> Result<(String, Vec<FeedbackRecord>)> {
        let (name, bytes) = self.bytes(path)?;
        let records = FeedbackRecord::read_jsonl(&name, &bytes, aspects)?;
        Ok((name, records))
    }

    /// Preference pairs of a JSONL file.
    pub(crate) fn preferences(&mut self, path: &Path) -> Result<Vec<PreferenceGroup>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(read_preferences(&name, &bytes)?)
    }

    /// A file of the command line: relative to the working folder, remembered by the name of its option.
    pub(crate) fn given(&mut self, option: &str, path: &Path) -> Result<(String, Vec<u8>)> {
        let bytes = std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
        self.remember_given(option, path, &short_digest(&bytes));
        Ok((path.display().to_string(), bytes))
    }

    /// Remembers an input of the command line that was read elsewhere.
    pub(crate) fn remember_given(&mut self, option: &str, path: &Path, digest: &str) {
        self.given.insert(option.to_string(), path.to_path_buf());
        self.remember(option, digest);
    }

    /// The option of the command line, if any, that names `path` as an input.
    pub(crate) fn option_of(&self, path: &Path) -> Option<&str> {
        let path = path.canonicalize().ok()?;
        let is_it = |(_, given): &(&String, &PathBuf)| given.canonicalize().is_ok_and(|given| given == path);
        self.given.iter().find(is_it).map(|(option, _)| option.as_str())
    }

    /// The digests that a repeated command will find once `out` holds an output of this digest: it may be an input, too.
    pub(crate) fn digests_after(&self, out: &Path, digest: &str) -> BTreeMap<String, String> {
        let place = |path: &Path| path.canonicalize().ok();
        let mut digests = self.digests.clone();
        for (option, path) in &self.given {
            if place(out).is_some() && place(out) == place(path) {
                digests.insert(option.clone(), digest.to_string());
            }
        }
        digests
    }

    /// The digest of everything that was read, by name.
    pub(crate) fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// Remembers an input that was read elsewhere.
    pub(crate) fn remember(&mut self, name: &str, digest: &str) {
        self.digests.insert(name.to_string(), digest.to_string());
    }
}

/// A changed configuration in the user's words: where inputs alone have changed, their names and not their digests.
pub(crate) fn changed(error: rlrf_store::Error) -> anyhow::Error {
    let inputs: Option<Vec<String>> = match &error {
        rlrf_store::Error::ConfigurationChanged { differences, .. } => {
            let input = |key: &str| Some(key.strip_prefix("inputs.")?.trim_matches('"').to_string());
            differences.iter().map(|difference| input(&difference.key)).collect()
        }
        _ => None,
    };
    match (&error, inputs) {
        (rlrf_store::Error::ConfigurationChanged { folder, .. }, Some(inputs)) => anyhow!(
            "{} was begun with another content of {}: restore it to go on, or choose another --out to begin anew",
            folder.display(),
            inputs.join(", ")
        ),
        _ => error.into(),
    }
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| anyhow!("{name}: not UTF-8"))
}

/// The checkers of a file of aspects; at least one.
pub(crate) fn read_checkers(name: &str, bytes: Vec<u8>) -> Result<AspectCheckers> {
    let checkers = aspects::checkers(&aspects::read(name, &utf8(name, bytes)?)?)?;
    if checkers.is_empty() {
        bail!("{name}: no aspect has a `checker`");
    }
    Ok(checkers)
}

/// Of a file.
pub(crate) fn short_digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_string()
}

/// The configuration with the digest of every input: what `run.toml` holds, and what a resumed run must share.
/// `command` is the stage, where it is a stage alone.
pub(crate) fn resolved_configuration(
    command: Option<&str>,
    config: &Config,
    inputs: &BTreeMap<String, String>,
) -> Result<String> {
    #[derive(Serialize)]
    struct Resolved<'a> {
        command: Option<&'a str>,
        #[serde(flatten)]
        config: &'a Config,
        inputs: &'a BTreeMap<String, String>,
    }
    Ok(toml::to_string(&Resolved { command, config, inputs })?)
}

/// The instructions that `instructions.limit` leaves.
pub(crate) fn limited(mut instructions: Vec<Instruction>, config: &Config) -> Result<Vec<Instruction>> {
    instructions.truncate(config.instructions.limit.unwrap_or(usize::MAX));
    if instructions.is_empty() {
        bail!("configuration: instructions.limit = 0 leaves no instruction");
    }
    Ok(instructions)
}

/// Refuses what the checker cannot check, before any time is spent.
pub(crate) fn check_answers(checker: &dyn Checker, problems: &[Instruction], file: &Path) -> Result<()> {
    for (number, problem) in (1..).zip(problems) {
        checker.check(problem, "").with_context(|| format!("{}: record {number}", file.display()))?;
    }
    Ok(())
}

/// Refuses an instruction that the model cannot be asked: it would stop the run when it is sampled.
pub(crate) fn refuse_long(instructions: &[Instruction], file: &Path, model: &Model) -> Result<()> {
    for (number, instruction) in (1..).zip(instructions) {
        if let Some(long) = rlrf_local::too_long(model, &instruction.messages)? {
            bail!(
                "{}: record {number}, \"{}...\": {long}; shorten it, or leave it out",
                file.display(),
                instruction.text().chars().take(40).collect::<String>().replace('\n', " ")
            );
        }
    }
    Ok(())
}

/// The same for the checkers of single aspects.
pub(crate) fn check_aspects(
    checkers: &AspectCheckers,
    instructions: &[Instruction],
    file: &Path,
) -> Result<()> {
    for (aspect, checker) in checkers {
        check_answers(checker.as_ref(), instructions, file).with_context(|| format!("aspect {aspect:?}"))?;
    }
    Ok(())
}

/// The same for records of feedback.
pub(crate) fn check_records(checker: &dyn Checker, records: &[FeedbackRecord], file: &Path) -> Result<()> {
    for record in records {
        checker.check(&record.instruction, "").with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// The configured checker.
pub(crate) fn checker(config: &Config) -> Result<Option<Box<dyn Checker>>> {
    Ok(match &config.checker {
        None => None,
        Some(RunChecker::Arithmetic) => Some(Box::new(ArithmeticChecker)),
        Some(RunChecker::Of(config)) => Some(rlrf_checkers::checker(config).context("configuration")?),
    })
}

/// Everything that `rlrf run` reads.
pub(crate) struct RunInputs {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) aspects: Vec<Aspect>,
    /// Those too that the run does not judge.
    pub(crate) all_aspects: Vec<Aspect>,
    pub(crate) aspect_checkers: AspectCheckers,
    pub(crate) grounding: Option<Grounding>,
    pub(crate) templates: Templates,
    pub(crate) checker: Option<Box<dyn Checker>>,
}

impl RunInputs {
    /// Reads and cross-checks: every problem can be checked, every prompt rendered.
    pub(crate) fn read(config: &Config, reader: &mut Reader) -> Result<Self> {
        let Some(file) = &config.instructions.file else {
            bail!("configuration: instructions.file is missing: name a JSONL file of instructions");
        };
        let instructions = limited(reader.instructions(file)?, config)?;
        let checker = checker(config)?;
        if let Some(checker) = &checker {
            check_answers(checker.as_ref(), &instructions, file)?;
        }
        if config.method == Method::SftGold {
            gold(&instructions).with_context(|| file.display().to_string())?;
        }
        let all_aspects = reader.all_aspects(config)?;
        let aspects = aspects::configured(&all_aspects, &config.feedback)?;
        let aspect_checkers = aspects::checkers(&aspects)?;
        if config.needs_feedback() {
            check_aspects(&aspect_checkers, &instructions, file)?;
        }
        let templates = reader.templates(config)?;
        render_once(&templates, &instructions[0], &aspects)?;
        aspects::check_choice(config.feedback.choose.as_ref(), &aspects)?;
        let grounding = match &config.feedback.retrieval {
            // What is hidden need not be looked up.
            Some(retrieval) if config.feedback.reference => {
                Some(retrieval::grounding(retrieval, reader, &instructions)?)
            }
            _ => None,
        };
        Ok(Self { instructions, aspects, all_aspects, aspect_checkers, grounding, templates, checker })
    }

    /// The questions that the policy will learn to answer.
    pub(crate) fn trained(&self) -> Trained {
        let mut trained = Trained::default();
        for instruction in &self.instructions {
            trained.add(&instruction.messages, &format!("instruction {}", instruction.id));
        }
        trained
    }
}

/// The references of the instructions as what the policy is to answer.
pub(crate) fn gold(instructions: &[Instruction]) -> Result<Vec<Demonstration>> {
    let demonstration = |instruction: &Instruction| {
        let reference = instruction.reference.clone().filter(|reference| !reference.trim().is_empty());
        let Some(completion) = reference else {
            bail!(
                "instruction {} has no `reference`, which method = \"sft-gold\" trains on: add one, or leave the instruction out",
                instruction.id
            );
        };
        Ok(Demonstration { prompt: instruction.messages.clone(), completion })
    };
    instructions.iter().map(demonstration).collect()
}

/// A template may fail only when it is rendered; that must not be hours into a run.
fn render_once(templates: &Templates, instruction: &Instruction, aspects: &[Aspect]) -> Result<()> {
    let mut feedback = Vec::new();
    for aspect in aspects {
        templates.feedback(instruction, "a response", aspect)?;
        let distribution = [1.0, 0.0, 0.0];
        let critique = "a critique".to_string();
        feedback.push(Feedback::from_distribution(
            &aspect.name,
            critique,
            distribution,
            ParseOutcome::Parsed,
        ));
    }
    templates.refine(instruction, "a response", &feedback)?;
    let candidates: Vec<&Aspect> = aspects.iter().collect();
    for ask in [ChooseQuestion::Letter, ChooseQuestion::Reason("an aspect"), ChooseQuestion::List] {
        templates.choose(instruction, &candidates, 1, ask)?;
    }
    Ok(())
}
