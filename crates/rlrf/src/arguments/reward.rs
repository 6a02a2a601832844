//! The command line of `rlrf reward`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Settings;

#[derive(Debug, Subcommand)]
pub(crate) enum RewardCommand {
    /// Train a reward model on preference pairs (`prompt`, `chosen`, `rejected`, optional `margin`)
    #[command(after_help = "Example:\n  \
        rlrf reward train --model MODEL --pairs pairs.jsonl --out REWARD --set reward.training.learning_rate=1e-4\n\n\
        A language model gets a fresh score head; a reward model is trained on. What comes out is a sequence classifier of \
        one label in Hugging Face layout. Of the instructions, reward.held_out (5%) are not learnt: accuracy is measured \
        on their pairs.\n\
        Settings: seed, [reward.training], reward.margin, reward.held_out.")]
    Train(RewardTrainOptions),
    /// Measure how well a reward model orders preference pairs
    #[command(after_help = "Example:\n  rlrf reward eval --model REWARD --pairs held-out.jsonl --json\n\n\
        Accuracy is the share of pairs whose chosen response has the higher reward, margin the mean difference; the 95% \
        intervals are by bootstrap over the prompts. The same command again computes nothing anew.")]
    Eval(RewardEvalOptions),
    /// Write pairs from problems with known solutions: each right, against mistaken attempts
    #[command(after_help = "Example:\n  \
        rlrf reward pairs --problems heldout.jsonl --out held-out-pairs.jsonl --set demonstrations.per_problem.mistakes=2\n\n\
        The problems are instructions whose `reference` is an arithmetic expression.\n\
        Settings: seed, demonstrations.per_problem.mistakes.")]
    Pairs(RewardPairsOptions),
}

#[derive(Debug, Args)]
pub(crate) struct RewardTrainOptions {
    /// Model folder in Hugging Face layout: a language model or a reward model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Pairs: JSONL with `prompt`, `chosen`, `rejected`, and optional `margin`
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,
    /// Folder of the reward model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct RewardEvalOptions {
    /// Folder of the reward model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Pairs: JSONL with `prompt`, `chosen`, `rejected`
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,
    /// Folder of the evaluation [default: runs/eval/reward-DIGEST, by its inputs]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Only the pairs of the first so many prompts
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct RewardPairsOptions {
    /// Problems: JSONL with `prompt` or `messages`, and `reference`
    #[arg(long, value_name = "FILE")]
    pub(crate) problems: PathBuf,
    /// Pairs: JSONL with `prompt`, `chosen`, `rejected`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}
