//! The command line of `rlrf bench`. The defaults are the workloads of `bench/README.md`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Training steps: forward, backward and AdamW on sequences of random tokens, loss on every token
    Train(TrainOptions),
    /// Sampling at temperature 1, end to end: prompts computed, tokens drawn, text decoded
    Decode(DecodeOptions),
    /// Levels of many responses to one instruction, read off the logits
    Feedback(FeedbackOptions),
    /// DPO: reference log-probabilities, then an epoch over pairs that share prompts and candidates
    Dpo(DpoOptions),
    /// Matrix products in the shapes of a model
    Matmul(MatmulOptions),
}

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// Model folder in Hugging Face layout; what its weights are does not matter
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Numbers that weights and activations are kept in
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,
}

/// Numbers that weights and activations are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    F32,
    Bf16,
    Int8,
}

/// How often.
#[derive(Debug, Args)]
pub(crate) struct Repetitions {
    /// Repetitions that are measured
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub(crate) repeat: NonZeroUsize,
    /// Repetitions before those
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) warmup: usize,
}

#[derive(Debug, Args)]
pub(crate) struct TrainOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Train adapters of this rank on all linear layers in place of the model
    #[arg(long, value_name = "RANK")]
    pub(crate) lora_rank: Option<NonZeroUsize>,
    /// Sequences per step
    #[arg(long, value_name = "COUNT", default_value = "4")]
    pub(crate) batch: NonZeroUsize,
    /// Tokens per sequence
    #[arg(long, value_name = "COUNT", default_value = "256", conflicts_with = "lengths")]
    pub(crate) length: NonZeroUsize,
    /// Sequences of these lengths instead: lines of two numbers, tokens of the prompt and of the completion that is
    /// learnt. A repetition is then not a step, but an epoch
    #[arg(long, value_name = "FILE")]
    pub(crate) lengths: Option<PathBuf>,
    /// Tokens that pass through the model at once [default: all of a step; with --lengths 2048]
    #[arg(long, value_name = "COUNT")]
    pub(crate) tokens_per_microbatch: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) repetitions: Repetitions,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Distinct prompts
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) prompts: NonZeroUsize,
    /// Samples of each prompt
    #[arg(long, value_name = "COUNT", default_value = "16")]
    pub(crate) samples: NonZeroUsize,
    /// Tokens of a prompt
    #[arg(long, value_name = "COUNT", default_value = "128")]
    pub(crate) prompt_tokens: NonZeroUsize,
    /// Tokens drawn for a sample; end tokens do not end it
    #[arg(long, value_name = "COUNT", default_value = "64")]
    pub(crate) new_tokens: NonZeroUsize,
    #[command(flatten)]
    pub(crate) repetitions: Repetitions,
}

#[derive(Debug, Args)]
pub(crate) struct FeedbackOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Responses that are judged
    #[arg(long, value_name = "COUNT", default_value = "30")]
    pub(crate) responses: NonZeroUsize,
    /// Aspects that each response is judged on
    #[arg(long, value_name = "COUNT", default_value = "3")]
    pub(crate) aspects: NonZeroUsize,
    /// Tokens that all prompts begin with: rubrics, instruction, reference
    #[arg(long, value_name = "COUNT", default_value = "400")]
    pub(crate) shared_tokens: NonZeroUsize,
    /// Tokens of a response, behind those
    #[arg(long, value_name = "COUNT", default_value = "100")]
    pub(crate) response_tokens: NonZeroUsize,
    /// Tokens that ask for the level on one aspect, at the end
    #[arg(long, value_name = "COUNT", default_value = "8")]
    pub(crate) aspect_tokens: NonZeroUsize,
    #[command(flatten)]
    pub(crate) repetitions: Repetitions,
}

#[derive(Debug, Args)]
pub(crate) struct DpoOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Train adapters of this rank on all linear layers in place of the model
    #[arg(long, value_name = "RANK")]
    pub(crate) lora_rank: Option<NonZeroUsize>,
    /// Prompts, each with 8 pairs of 4 chosen and 4 rejected candidates
    #[arg(long, value_name = "COUNT", default_value = "8")]
    pub(crate) prompts: NonZeroUsize,
    /// Prompts of an update
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(crate) prompts_per_step: NonZeroUsize,
    /// Tokens of a prompt, and of a candidate
    #[arg(long, value_name = "COUNT", default_value = "128")]
    pub(crate) length: NonZeroUsize,
    /// Tokens that pass through the model at once [default: a prompt and its candidates]
    #[arg(long, value_name = "COUNT")]
    pub(crate) tokens_per_microbatch: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) repetitions: Repetitions,
}

#[derive(Debug, Args)]
pub(crate) struct MatmulOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Rows of the left side
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1,16,1024")]
    pub(crate) rows: Vec<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) repetitions: Repetitions,
}
