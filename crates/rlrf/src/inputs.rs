//! Everything that a command reads before it begins.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rlrf_arithmetic::{ArithmeticChecker, WordProblem};
use rlrf_method::aspect::DEFAULT_ASPECTS;
use rlrf_method::demonstration::Demonstration;
use rlrf_method::seam::Checker;
use rlrf_method::template::{DEFAULT_FEEDBACK, DEFAULT_REFINE};
use rlrf_method::{Aspect, Instruction, Templates};

use crate::config::{CheckerKind, Config, WarmUpConfig};

/// Reads files named in a configuration, relative to its folder, and remembers what they held.
pub(crate) struct Reader {
    folder: PathBuf,
    digests: BTreeMap<String, String>,
}

impl Reader {
    /// For paths relative to the folder of `config`, or to the working folder.
    pub(crate) fn new(config: Option<&Path>) -> Self {
        let folder = config.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
        Self { folder, digests: BTreeMap::new() }
    }

    /// A path of the configuration as seen from the working folder.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Digest of every file read so far, by its path in the configuration.
    pub(crate) fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    fn bytes(&mut self, path: &Path) -> Result<(String, Vec<u8>)> {
        let place = self.path(path);
        let bytes = std::fs::read(&place).with_context(|| format!("{}: cannot read", place.display()))?;
        self.digests.insert(path.display().to_string(), blake3::hash(&bytes).to_hex()[..16].to_string());
        Ok((place.display().to_string(), bytes))
    }

    fn text(&mut self, path: &Path) -> Result<(String, String)> {
        let (name, bytes) = self.bytes(path)?;
        let text = String::from_utf8(bytes).map_err(|_| anyhow!("{name}: not UTF-8"))?;
        Ok((name, text))
    }

    /// Instructions of a JSONL file.
    pub(crate) fn instructions(&mut self, path: &Path) -> Result<Vec<Instruction>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(Instruction::read_jsonl(&name, &bytes)?)
    }

    /// The configured aspects.
    pub(crate) fn aspects(&mut self, config: &Config) -> Result<Vec<Aspect>> {
        let all = match &config.feedback.aspects_file {
            Some(path) => {
                let (name, text) = self.text(path)?;
                Aspect::read_toml(&name, &text)?
            }
            None => Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS)?,
        };
        Ok(Aspect::choose(&all, &config.feedback.aspects)?)
    }

    /// The configured prompts.
    pub(crate) fn templates(&mut self, config: &Config) -> Result<Templates> {
        let mut read = |path: &Option<PathBuf>, default: &str| match path {
            Some(path) => self.text(path).map(|(_, text)| text),
            None => Ok(default.to_string()),
        };
        let feedback = read(&config.templates.feedback, DEFAULT_FEEDBACK)?;
        let refine = read(&config.templates.refine, DEFAULT_REFINE)?;
        Ok(Templates::new(&feedback, &refine)?)
    }

    /// Problems that a program writes demonstrations from.
    pub(crate) fn word_problems(&mut self, path: &Path) -> Result<Vec<WordProblem>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(WordProblem::read_jsonl(&name, &bytes)?)
    }

    /// Demonstrations of the files of a warm-up.
    pub(crate) fn demonstrations(&mut self, warm_up: &WarmUpConfig) -> Result<Vec<Demonstration>> {
        let mut demonstrations = Vec::new();
        for path in &warm_up.files {
            demonstrations.extend(self.demonstrations_of(path)?);
        }
        Ok(demonstrations)
    }

    /// Demonstrations of one file.
    pub(crate) fn demonstrations_of(&mut self, path: &Path) -> Result<Vec<Demonstration>> {
        let (name, bytes) = self.bytes(path)?;
        Ok(Demonstration::read_jsonl(&name, &bytes)?)
    }

    /// The bytes of any other file.
    pub(crate) fn raw(&mut self, path: &Path) -> Result<(String, Vec<u8>)> {
        self.bytes(path)
    }
}

/// The configured checker.
pub(crate) fn checker(config: &Config) -> Option<Box<dyn Checker>> {
    config.checker.map(|CheckerKind::Arithmetic| Box::new(ArithmeticChecker) as Box<dyn Checker>)
}

/// One problem set.
pub(crate) struct ProblemSet {
    pub(crate) name: String,
    pub(crate) problems: Vec<Instruction>,
}

/// Everything that `rlrf run` reads.
pub(crate) struct RunInputs {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) aspects: Vec<Aspect>,
    pub(crate) templates: Templates,
    pub(crate) sets: Vec<ProblemSet>,
    pub(crate) checker: Option<Box<dyn Checker>>,
}

impl RunInputs {
    /// Reads and cross-checks: problems can be checked, and no instruction occurs in an evaluation set.
    pub(crate) fn read(config: &Config, reader: &mut Reader) -> Result<Self> {
        let Some(file) = &config.instructions.file else {
            bail!("configuration: instructions.file is missing: name a JSONL file of instructions");
        };
        let mut instructions = reader.instructions(file)?;
        instructions.truncate(config.instructions.limit.unwrap_or(usize::MAX));
        if instructions.is_empty() {
            bail!("configuration: instructions.limit = 0 leaves no instruction");
        }
        let checker = checker(config);
        let mut sets = Vec::new();
        for set in &config.evaluation.sets {
            let problems = reader.instructions(&set.file)?;
            let Some(checker) = &checker else {
                bail!("configuration: evaluation.sets needs `checker`, such as checker = \"arithmetic\"");
            };
            for problem in &problems {
                checker.check(problem, "").with_context(|| set.file.display().to_string())?;
            }
            sets.push(ProblemSet { name: set.name.clone(), problems });
        }
        if let Some(checker) = &checker {
            for instruction in &instructions {
                checker.check(instruction, "").with_context(|| file.display().to_string())?;
            }
        }
        if !config.evaluation.allow_overlap {
            refuse_overlap(&instructions, &sets)?;
        }
        Ok(Self {
            instructions,
            aspects: reader.aspects(config)?,
            templates: reader.templates(config)?,
            sets,
            checker,
        })
    }
}

fn refuse_overlap(instructions: &[Instruction], sets: &[ProblemSet]) -> Result<()> {
    let trained: HashMap<String, &str> =
        instructions.iter().map(|instruction| (instruction.normalised(), instruction.id.as_str())).collect();
    for set in sets {
        let shared: Vec<&str> =
            set.problems.iter().filter_map(|problem| trained.get(&problem.normalised()).copied()).collect();
        if let Some(first) = shared.first() {
            bail!(
                "{} instructions are also in the evaluation set {:?} (the first: {first}); take them out, or set \
                 evaluation.allow_overlap = true and do not trust its accuracy",
                shared.len(),
                set.name
            );
        }
    }
    Ok(())
}
