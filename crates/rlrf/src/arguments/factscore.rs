//! The command line of `rlrf eval factscore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::evaluate::{EvaluateOptions, JudgeOptions};

#[derive(Debug, Args)]
pub(crate) struct FactScoreOptions {
    /// Who to ask about: one title a line, as the corpus has it
    #[arg(long, value_name = "FILE", required_unless_present_any = ["responses", "facts"],
        conflicts_with_all = ["responses", "facts"])]
    pub(crate) topics: Option<PathBuf>,
    /// Responses to score in place of a model's: JSONL with `topic` and `output`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "facts"])]
    pub(crate) responses: Option<PathBuf>,
    /// Facts with labels by humans to score, without any model: JSONL as the release has it in data/labeled
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "judge", "index"])]
    pub(crate) facts: Option<PathBuf>,
    /// Index of the encyclopedia, as `rlrf index build` makes it
    #[arg(long, value_name = "DIR", required_unless_present = "facts")]
    pub(crate) index: Option<PathBuf>,
    /// What to ask; `<entity>` stands for the topic
    #[arg(long, value_name = "TEXT", default_value = "Question: Tell me a bio of <entity>.")]
    pub(crate) prompt: String,
    /// A response with fewer facts is penalised; 0 is no penalty
    #[arg(long, value_name = "FACTS", default_value_t = 10.0)]
    pub(crate) gamma: f64,
    /// Passages that a fact is judged by
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub(crate) passages: usize,
    /// Which responses abstain, beside the empty ones
    #[arg(long, value_enum, value_name = "RULE", default_value_t = AbstentionRule::Generic)]
    pub(crate) abstention: AbstentionRule,
    /// With --facts: count irrelevant facts as unsupported, and not leave them out
    #[arg(long, requires = "facts")]
    pub(crate) irrelevant_as_unsupported: bool,
    #[command(flatten)]
    pub(crate) judge: JudgeOptions,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}

/// The rules of `rlrf_eval::factscore::Abstention`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AbstentionRule {
    /// None
    Never,
    /// Those that begin with "I'm sorry" or ask to "provide more"
    Generic,
    /// Those whose first paragraph says that nothing was found, as Perplexity AI puts it
    PerplexityAi,
}
