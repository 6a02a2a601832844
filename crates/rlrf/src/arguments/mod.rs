//! The command line, parsed and not interpreted.

mod aspects;
mod compare;
mod evaluate;
mod factscore;
mod feedback;
mod index;
mod refine;
mod reward;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rlrf_method::preference_file::PreferenceFormat;

use crate::bench::arguments::BenchCommand;
pub(crate) use aspects::{AspectsCheckOptions, AspectsCommand, AspectsListOptions};
pub(crate) use compare::GridOptions;
pub(crate) use evaluate::{
    AspectsOptions, Benchmark, CompareOptions, EvalOptions, EvaluateOptions, JudgeOptions, JustEvalOptions,
    PairwiseOptions, ProblemsOptions, WordProblemOptions,
};
pub(crate) use factscore::{AbstentionRule, FactScoreOptions};
pub(crate) use feedback::{
    FeedbackCommand, FeedbackEvalOptions, FeedbackOptions, FeedbackRecordsOptions, FeedbackTrainOptions,
    JudgeCandidatesOptions,
};
pub(crate) use index::{IndexBuildOptions, IndexCommand, IndexSearchOptions};
pub(crate) use refine::{RefineCandidatesOptions, RefineCommand, RefineDemonstrationsOptions, RefineOptions};
pub(crate) use reward::{RewardCommand, RewardEvalOptions, RewardPairsOptions, RewardTrainOptions};

/// Align a language model by reflective feedback (RLRF, arXiv 2403.14238).
///
/// `rlrf run CONFIG` does it all: it samples candidates for your instructions, has a feedback model criticise them
/// aspect by aspect, refines a promising one under its feedback, builds preference pairs, fine-tunes with DPO, and
/// starts over with the new model. The other commands are its stages one by one, from file to file.
///
/// Interrupt `run`, `eval` or one of the stages with Ctrl-C and repeat it: it goes on where it was. Until a stage's output is whole, what is finished of it lies in OUT.partial beside it; an existing output is
/// replaced only then.
#[derive(Debug, Parser)]
#[command(name = "rlrf", version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress on standard error
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Threads to compute with [default: one per core]; results do not depend on it
    #[arg(long, global = true, value_name = "COUNT")]
    pub(crate) threads: Option<NonZeroUsize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole loop as a configuration file says
    #[command(after_help = "Examples:\n  \
        rlrf run examples/word-problems/rlrf.toml\n  \
        rlrf run rlrf.toml --set seed=2 --set sample.n=15 --out runs/second\n\n\
        The run folder holds run.toml (the resolved configuration), run.db (every row), models/M0, M1, ..., \
        summary.json and report.html.")]
    Run(RunOptions),
    /// Compare methods over several seeds, each a run of its own
    #[command(after_help = "Examples:\n  \
        rlrf compare examples/word-problems/compare.toml\n  \
        rlrf compare compare.toml --only rlrf --only reward-dpo --set instructions.limit=100 --out runs/small\n\n\
        A grid file names a configuration (`config`), `seeds`, and `methods`: each a `name`, settings (`set`), and seeds of its \
        own if need be. Starting models, samples and judgements that runs have in common are computed once. The folder holds the \
        runs, compare.json, compare.md and compare.html, all rewritten after every run: an unfinished comparison can be read.")]
    Compare(GridOptions),
    /// Sample n candidates for each instruction
    #[command(after_help = "Example:\n  \
        rlrf sample --model MODEL --instructions prompts.jsonl --out candidates.jsonl --set sample.n=8\n\n\
        Settings: seed, [sample], [generation], [engine], instructions.limit.")]
    Sample(SampleOptions),
    /// Have candidates criticised, aspect by aspect; train and measure the model that does it
    #[command(after_help = "Examples:\n  \
        rlrf feedback --model JUDGE --candidates candidates.jsonl --out judged.jsonl --set 'feedback.aspects=[\"completeness\"]'\n  \
        rlrf feedback --model http://127.0.0.1:8000/v1 --candidates candidates.jsonl --out judged.jsonl\n  \
        rlrf feedback --candidates candidates.jsonl --out judged.jsonl --set checker=arithmetic\n  \
        rlrf feedback --candidates candidates.jsonl --out judged.jsonl --set 'feedback.aspects=[\"conciseness\"]' \
        --set 'feedback.checkers.conciseness={kind=\"length\",max=60}'\n\n\
        Only candidates without feedback are judged. A candidate from elsewhere needs a field `text` alone. The key of an \
        endpoint is taken from RLRF_API_KEY, else OPENAI_API_KEY.\n\
        Settings: checker, feedback.aspects, feedback.aspects_file, feedback.reference, feedback.weights, feedback.checkers, \
        feedback.choose, feedback.retrieval, [feedback.critique], feedback.endpoint, feedback.judges, templates.feedback, \
        templates.choose, [generation], [engine].")]
    Feedback(FeedbackOptions),
    /// Refine the promising candidate of each instruction under its feedback
    #[command(after_help = "Examples:\n  \
        rlrf refine --model MODEL --candidates judged.jsonl --out refined.jsonl --set refine.m=8\n  \
        rlrf refine demonstrations --candidates refined-and-judged.jsonl --out demonstrations.jsonl\n\n\
        Run `rlrf feedback` on the result to have the refinements judged, too. Instructions that have refinements \
        are left alone.\n\
        Settings: seed, [select], [refine] (all m in one round, whatever refine.rounds says), templates.refine, \
        feedback.aspects, feedback.aspects_file, [generation], [engine].")]
    Refine(RefineOptions),
    /// Build preference pairs (in TRL's formats) from judged candidates
    #[command(after_help = "Examples:\n  \
        rlrf pairs --candidates judged.jsonl --out pairs.jsonl --set pairs.margin=1\n  \
        rlrf pairs --candidates judged.jsonl --out pairs.jsonl --set pairs.by=aspect --set pairs.length_balanced=true\n  \
        rlrf pairs --candidates judged.jsonl --out pairs.jsonl --format plain\n\n\
        Settings: [pairs], feedback.aspects, feedback.aspects_file.")]
    Pairs(PairsOptions),
    /// Fine-tune a model on demonstrations (`prompt` and `completion`, or `messages`), or on the best of scored candidates
    #[command(after_help = "Examples:\n  \
        rlrf sft --model MODEL --data demonstrations.jsonl --out TUNED --set policy.sft.training.learning_rate=1e-4\n  \
        rlrf sft --model MODEL --candidates judged.jsonl --out TUNED --set sft.min_score=2.5\n\n\
        Settings: seed; with --data [policy.sft.training], policy.sft.completion_only_loss; with --candidates sft.min_score, \
        [sft.training].")]
    Sft(SftOptions),
    /// Fine-tune a model on preference pairs (`prompt`, `chosen`, `rejected`)
    #[command(after_help = "Examples:\n  \
        rlrf dpo --model MODEL --pairs pairs.jsonl --out TUNED --set dpo.objective.beta=0.3\n  \
        rlrf dpo --model MODEL --pairs pairs.jsonl --out TUNED --set dpo.objective.loss=simpo --set dpo.objective.beta=2\n\n\
        dpo.objective.loss is dpo (with label_smoothing: conservative DPO), robust, ipo, simpo, orpo or kto.\n\
        Settings: seed, [dpo.objective], [dpo.training].")]
    Dpo(DpoOptions),
    /// Fine-tune a model on the scores of candidates, by a policy gradient
    #[command(after_help = "Example:\n  \
        rlrf grpo --model MODEL --candidates judged.jsonl --out TUNED --set grpo.objective.loss=rloo\n\n\
        MODEL is the one that the candidates were sampled from. Instructions whose candidates all have the same score are left \
        out.\n\
        Settings: seed, [grpo.objective], [grpo.training].")]
    Grpo(GrpoOptions),
    /// Train or measure a reward model, or write pairs for it
    Reward {
        #[command(subcommand)]
        command: RewardCommand,
    },
    /// Measure a model on a benchmark, or score answers that exist
    #[command(after_help = "Examples:\n  \
        rlrf eval problems --model MODEL --problems heldout.jsonl --set checker=arithmetic\n  \
        rlrf eval gsm8k --model MODEL --problems test.jsonl\n  \
        rlrf eval compare runs/eval/first runs/eval/second\n\n\
        The folder of an evaluation holds run.toml (its settings), run.db (every response), evaluation.json (the \
        numbers, their 95% intervals, the counts of every exclusion) and items.jsonl (one line an item). The same \
        command again draws nothing anew and prints the same.")]
    Eval(Box<EvalOptions>),
    /// The aspects that feedback is given on: list them, or check a file of your own
    Aspects {
        #[command(subcommand)]
        command: AspectsCommand,
    },
    /// Make a corpus searchable, or search it
    Index {
        #[command(subcommand)]
        command: IndexCommand,
    },
    /// Make a new model, or look at one
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Measure the speed and memory of this machine on a fixed workload
    #[command(after_help = "Example:\n  rlrf bench decode --model MODEL --samples 16 --json\n\n\
        Peak memory is the whole process's: measure one workload per process. `bench/compare` runs the same \
        workloads beside PyTorch, TRL and llama.cpp.")]
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
}

/// Where settings come from: defaults, then a file, then the command line.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file with the settings; those of the other stages are ignored
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change a setting, such as --set sample.n=8; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Configuration file (TOML); its paths are relative to it
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
    /// Change a setting, such as --set sample.n=8; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Folder of the run [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SampleOptions {
    /// The model: a folder in Hugging Face layout, or the URL of an endpoint
    #[arg(long, value_name = "DIR-OR-URL")]
    pub(crate) model: String,
    /// The model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) model_name: Option<String>,
    /// Instructions: JSONL with `prompt` or `messages`, optional `reference`, `answer`, `id`
    #[arg(long, value_name = "FILE")]
    pub(crate) instructions: PathBuf,
    /// Candidates, one instruction a line
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// TRL's formats of preference pairs.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum PairsFormat {
    #[default]
    Conversational,
    Plain,
}

impl From<PairsFormat> for PreferenceFormat {
    fn from(format: PairsFormat) -> Self {
        match format {
            PairsFormat::Conversational => Self::Conversational,
            PairsFormat::Plain => Self::Plain,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PairsOptions {
    /// Judged candidates, as `rlrf feedback` writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: PathBuf,
    /// Pairs: JSONL with `prompt`, `chosen`, `rejected`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// TRL's format to write: lists of messages, or plain text (of prompts that are one user message)
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: PairsFormat,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct SftOptions {
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: SftData,
    /// Folder of the fine-tuned model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// One of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SftData {
    /// Demonstrations: JSONL with `prompt` and `completion`, or `messages`
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// Or judged candidates, as `rlrf feedback` writes them: the best one of each instruction is learnt
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DpoOptions {
    /// Model folder in Hugging Face layout; also the reference model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Pairs: JSONL with `prompt`, `chosen`, `rejected`
    #[arg(long, value_name = "FILE")]
    pub(crate) pairs: PathBuf,
    /// Folder of the fine-tuned model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct GrpoOptions {
    /// Model folder in Hugging Face layout: what the candidates were sampled from
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Judged candidates, as `rlrf feedback` writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: PathBuf,
    /// Folder of the fine-tuned model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Make a model with random weights and a tokenizer trained on your text
    #[command(
        after_help = "Example:\n  rlrf model new --preset small-2m --text corpus.txt --vocab-size 2048 --out my-model"
    )]
    New(NewModelOptions),
    /// Parameters, memory and architecture of a model folder
    #[command(after_help = "Example:\n  rlrf model info MODEL --json")]
    Info(ModelInfoOptions),
}

#[derive(Debug, Args)]
pub(crate) struct NewModelOptions {
    /// A named shape: tiny, small-2m, word-4m, smollm-135m
    #[arg(long, value_name = "NAME", required_unless_present = "config", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// A config.json with the shape (its vocab_size is replaced)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Text to train the tokenizer on; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) text: Vec<PathBuf>,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub(crate) vocab_size: usize,
    /// Seed of the random weights
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Folder of the new model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ModelInfoOptions {
    /// Model folder in Hugging Face layout
    #[arg(value_name = "DIR")]
    pub(crate) model: PathBuf,
}
