//! The command line of `rlrf eval`: one variant a benchmark.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Settings;
use super::factscore::FactScoreOptions;

#[derive(Debug, Args)]
pub(crate) struct EvalOptions {
    #[command(subcommand)]
    pub(crate) benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    /// Accuracy on a file of problems whose answers a checker decides
    #[command(
        after_help = "Example:\n  rlrf eval problems --model MODEL --problems heldout.jsonl --set checker=arithmetic\n\n\
        Answers are greedy.\n\
        Settings: checker, evaluation.max_new_tokens, [engine]."
    )]
    Problems(ProblemsOptions),
    /// Share of the facts in biographies that an encyclopedia supports (FActScore)
    #[command(
        name = "factscore",
        after_help = "Examples:\n  \
        rlrf eval factscore --model MODEL --judge JUDGE --topics prompt_entities.txt --index wikipedia\n  \
        rlrf eval factscore --judge JUDGE --responses responses.jsonl --index wikipedia\n  \
        rlrf eval factscore --facts labeled/ChatGPT.jsonl\n\n\
        Settings: evaluation.max_new_tokens, [engine]."
    )]
    FactScore(FactScoreOptions),
}

/// What every benchmark takes.
#[derive(Debug, Args)]
pub(crate) struct EvaluateOptions {
    /// The model to measure: a folder in Hugging Face layout, or the URL of an endpoint
    #[arg(long, value_name = "DIR-OR-URL")]
    pub(crate) model: Option<String>,
    /// The model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) model_name: Option<String>,
    /// Folder of the evaluation [default: runs/eval/BENCHMARK-DIGEST, by its settings and inputs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Only the first so many items
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// What benchmarks with a judge take, too.
#[derive(Debug, Args)]
pub(crate) struct JudgeOptions {
    /// The judge: a model folder, or the URL of an endpoint
    #[arg(long, value_name = "DIR-OR-URL")]
    pub(crate) judge: Option<String>,
    /// The judge's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) judge_name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProblemsOptions {
    /// Problems: JSONL with `prompt` or `messages`, and `answer`
    #[arg(long, value_name = "FILE")]
    pub(crate) problems: PathBuf,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}
