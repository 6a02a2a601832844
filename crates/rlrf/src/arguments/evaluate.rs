//! The command line of `rlrf eval`: one variant a benchmark.

use std::num::NonZeroU32;
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
        Settings: checker, evaluation.max_new_tokens, [generation], [engine]."
    )]
    Problems(ProblemsOptions),
    /// The level of each aspect, by checkers and by a feedback model
    #[command(after_help = "Examples:\n  \
        rlrf eval aspects --model MODEL --instructions heldout.jsonl --checkers checkers.toml\n  \
        rlrf eval aspects --model MODEL --instructions heldout.jsonl --judge FEEDBACK-MODEL --temperature 1\n\n\
        The judge is asked about `feedback.aspects`, as in a run; `--checkers` is a file of aspects with a `checker` each.\n\
        Settings: seed, feedback.aspects, feedback.aspects_file, feedback.checkers, feedback.reference, [feedback.critique], templates.feedback, \
        evaluation.max_new_tokens, [generation], [engine].")]
    Aspects(AspectsOptions),
    /// GSM8K: word problems, exact match, strict (`#### n`) and flexible (last number)
    #[command(after_help = "Examples:\n  \
        rlrf eval gsm8k --model MODEL --problems test.jsonl\n  \
        rlrf eval gsm8k --model MODEL --problems test.jsonl --template cot --samples 8\n  \
        rlrf eval gsm8k --problems test.jsonl --responses responses.jsonl --json\n\n\
        The problems are test.jsonl of github.com/openai/grade-school-math. Templates: chat, cot, cot-turns, question.\n\
        Settings: evaluation.max_new_tokens, seed, [generation], [engine].")]
    Gsm8k(WordProblemOptions),
    /// SVAMP: word problems, exact match
    #[command(after_help = "Example:\n  rlrf eval svamp --model MODEL --problems SVAMP.json\n\n\
        The problems are SVAMP.json of github.com/arkilpatel/SVAMP; everything else is as in `rlrf eval gsm8k`.\n\
        Settings: evaluation.max_new_tokens, seed, [generation], [engine].")]
    Svamp(WordProblemOptions),
    /// MAWPS and ASDiv-A: word problems, exact match
    #[command(after_help = "Example:\n  rlrf eval mawps --model MODEL --problems dev.csv\n\n\
        The problems are a CSV file of github.com/arkilpatel/SVAMP (data/mawps-asdiv-a_svamp); everything else is as in \
        `rlrf eval gsm8k`.\n\
        Settings: evaluation.max_new_tokens, seed, [generation], [engine].")]
    Mawps(WordProblemOptions),
    /// Just-Eval-Instruct: a judge scores responses on helpfulness, clarity, factuality, depth, engagement, and safety
    #[command(after_help = "Examples:\n  \
        rlrf eval just-eval --model MODEL --judge JUDGE --instructions instructions.jsonl\n  \
        rlrf eval just-eval --responses gpt-4-0613.to_eval.json --judge JUDGE --instructions instructions.jsonl\n  \
        rlrf eval just-eval --replies replies.jsonl --json\n\n\
        The instructions may not be shipped. Expected are 1,000 records {\"id\", \"instruction\", \"dataset\", \"category\": \
        \"regular\" or \"safety\"}, as JSONL or as a JSON list: leaderboard/outputs/gpt-4-0613.to_eval.json of \
        https://github.com/Re-Align/just-eval (commit 3e1a1265) is such a file.\n\
        Responses and replies are greedy. An unreadable reply is asked for once more, then excluded and counted.\n\
        Settings: evaluation.max_new_tokens, [generation], [engine].")]
    JustEval(JustEvalOptions),
    /// Which of two models' answers a judge prefers, asked in both orders
    #[command(after_help = "Examples:\n  \
        rlrf eval pairwise --a runs/r/models/M2 --b runs/r/models/M0 --judge JUDGE --questions mt_bench_question.jsonl\n  \
        rlrf eval pairwise --a mine.jsonl --b theirs.jsonl --judge JUDGE --questions instructions.jsonl\n  \
        rlrf eval pairwise --replies judgements.jsonl --json\n\n\
        Questions: JSONL as MT-bench has it (`question_id`, `turns`), as Just-Eval has it (`instruction`), or with \
        `prompt` or `messages`. Answers: JSONL with `id` and `response` (a list has one text a turn).\n\
        Settings: evaluation.max_new_tokens, [generation], [engine].")]
    // Two models are measured, by options of their own.
    #[command(mut_arg("model", |arg| arg.hide(true)), mut_arg("model_name", |arg| arg.hide(true)))]
    Pairwise(PairwiseOptions),
    /// Paired test between two evaluations of the same items
    #[command(after_help = "Example:\n  rlrf eval compare runs/eval/gsm8k-M0 runs/eval/gsm8k-M1\n\n\
        McNemar's exact test where every score is 0 or 1, else bootstrap over the pairs; differences are second less \
        first.")]
    Compare(CompareOptions),
    /// Share of the facts in biographies that an encyclopedia supports (FActScore)
    #[command(
        name = "factscore",
        after_help = "Examples:\n  \
        rlrf eval factscore --model MODEL --judge JUDGE --topics prompt_entities.txt --index wikipedia\n  \
        rlrf eval factscore --judge JUDGE --responses responses.jsonl --index wikipedia\n  \
        rlrf eval factscore --facts labeled/ChatGPT.jsonl\n\n\
        Settings: evaluation.max_new_tokens, [generation], [engine]."
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
    /// Longest reply of the judge, in tokens
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    pub(crate) judge_tokens: usize,
    /// Folder of judges' replies that evaluations share [default: runs/eval/judge-cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) judge_cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProblemsOptions {
    /// Problems: JSONL with `prompt` or `messages`, and `answer`
    #[arg(long, value_name = "FILE")]
    pub(crate) problems: PathBuf,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}

#[derive(Debug, Args)]
pub(crate) struct AspectsOptions {
    /// Instructions: JSONL as `instructions.file` of a run
    #[arg(long, value_name = "FILE")]
    pub(crate) instructions: PathBuf,
    /// File of aspects with checkers
    #[arg(long, value_name = "FILE")]
    pub(crate) checkers: Option<PathBuf>,
    /// The feedback model: a folder, or the URL of an endpoint
    #[arg(long, value_name = "DIR-OR-URL")]
    pub(crate) judge: Option<String>,
    /// The feedback model's name at the endpoint
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub(crate) judge_name: Option<String>,
    /// Of the responses; 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}

#[derive(Debug, Args)]
pub(crate) struct WordProblemOptions {
    /// The benchmark's own file
    #[arg(long, value_name = "FILE")]
    pub(crate) problems: PathBuf,
    /// Score these responses, without a model: JSONL with `response` (text, or a list of samples), optional `id`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "model_name", "template", "shots", "samples", "temperature"])]
    pub(crate) responses: Option<PathBuf>,
    /// The prompt: chat (zero-shot), cot (eight worked examples), cot-turns (as a conversation), question (alone)
    #[arg(long, value_name = "NAME", default_value = rlrf_eval::word_problems::DEFAULT_TEMPLATE)]
    pub(crate) template: String,
    /// Worked examples [default: all that the template has]
    #[arg(long, value_name = "COUNT")]
    pub(crate) shots: Option<usize>,
    /// Responses to each problem; several are drawn at random, for maj@k and pass@k
    #[arg(long, value_name = "COUNT", default_value_t = NonZeroU32::MIN)]
    pub(crate) samples: NonZeroU32,
    /// 0 is greedy [default: 0, or 0.7 for several samples]
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Folder of an evaluation
    #[arg(value_name = "FIRST")]
    pub(crate) first: PathBuf,
    /// Folder of another
    #[arg(value_name = "SECOND")]
    pub(crate) second: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct JustEvalOptions {
    /// The instructions, as downloaded (see below)
    #[arg(long, value_name = "FILE")]
    pub(crate) instructions: Option<PathBuf>,
    /// Judge these responses (`id`, and `response` or `output`) in place of a model's
    #[arg(long, value_name = "FILE")]
    pub(crate) responses: Option<PathBuf>,
    /// Score these replies of a judge (`id` and `result`, its raw text) without any model
    #[arg(long, value_name = "FILE")]
    pub(crate) replies: Option<PathBuf>,
    /// Score "N/A" 5, as the original does, in place of excluding it
    #[arg(long)]
    pub(crate) compat: bool,
    #[command(flatten)]
    pub(crate) judge: JudgeOptions,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}

#[derive(Debug, Args)]
pub(crate) struct PairwiseOptions {
    /// What both answer
    #[arg(long, value_name = "FILE")]
    pub(crate) questions: Option<PathBuf>,
    /// The first model, or a file of its answers
    #[arg(long, value_name = "DIR-URL-OR-FILE")]
    pub(crate) a: Option<String>,
    /// The first model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) a_name: Option<String>,
    /// The second model, or a file of its answers
    #[arg(long, value_name = "DIR-URL-OR-FILE")]
    pub(crate) b: Option<String>,
    /// The second model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) b_name: Option<String>,
    /// Turns of each question to be answered and judged, 1 or 2
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) turns: u8,
    /// Score these replies of a judge (`id`, `result`, `result_swapped`) without any model
    #[arg(long, value_name = "FILE")]
    pub(crate) replies: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) judge: JudgeOptions,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}
