//! The command line of `rlrf feedback`: judging candidates, and training and measuring the model that judges.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Settings;
use super::evaluate::EvaluateOptions;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct FeedbackOptions {
    #[command(subcommand)]
    pub(crate) command: Option<FeedbackCommand>,
    #[command(flatten)]
    pub(crate) judge: JudgeCandidatesOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FeedbackCommand {
    /// Teach a model to give feedback, from records of feedback
    #[command(after_help = "Examples:\n  \
        rlrf feedback train --model MODEL --records records.jsonl --out JUDGE\n  \
        rlrf feedback train --model MODEL --records records.jsonl --held-out-share 0.1 --out JUDGE \
        --set feedback.sft.training.epochs=3\n\n\
        A record is a line {\"prompt\" or \"messages\", \"response\", \"aspect\", \"critique\", \"level\"}, optional \"reference\". The model \
        learns to reply to the judge's prompt with the critique, then the level.\n\
        Settings: seed, [feedback.sft.training], feedback.sft.completion_only_loss, feedback.aspects_file, templates.feedback; \
        for the agreement on held-out records also checker, [feedback.critique], [generation], [engine].")]
    Train(Box<FeedbackTrainOptions>),
    /// Measure how far a model's feedback agrees with records of feedback
    #[command(after_help = "Examples:\n  \
        rlrf feedback eval --model JUDGE --records held-out.jsonl\n  \
        rlrf feedback eval --model JUDGE --records held-out.jsonl --set checker=arithmetic --json\n\n\
        With a checker that knows errors by name, also: how many critiques name the error that it knows. The folder of the \
        evaluation is like those of `rlrf eval`; docs/evaluation.md defines the numbers.\n\
        Settings: checker, feedback.aspects_file, [feedback.critique], templates.feedback, [generation], [engine].")]
    Eval(Box<FeedbackEvalOptions>),
    /// Make records of feedback out of judged candidates, or of any candidates with a checker
    #[command(after_help = "Examples:\n  \
        rlrf feedback records --candidates judged.jsonl --out records.jsonl\n  \
        rlrf feedback records --candidates candidates.jsonl --set checker=arithmetic --out records.jsonl\n\n\
        Without a checker the feedback that the candidates have is recorded; with one, what the checker says, on the aspects \
        of the settings. Responses that occur twice are recorded once, unreadable replies not at all.\n\
        Settings: checker, feedback.aspects, feedback.aspects_file, feedback.checkers.")]
    Records(FeedbackRecordsOptions),
}

#[derive(Debug, Args)]
pub(crate) struct JudgeCandidatesOptions {
    /// The feedback model: a folder, or the URL of an endpoint; without it the settings' `feedback.endpoint`,
    /// `feedback.judges` or `checker` judge
    #[arg(long, value_name = "DIR-OR-URL")]
    pub(crate) model: Option<String>,
    /// The feedback model's name at the endpoint
    #[arg(long, value_name = "NAME", requires = "model")]
    pub(crate) model_name: Option<String>,
    /// Candidates, as `rlrf sample` or `rlrf refine` writes them
    // Required, and an option all the same: a subcommand takes the place of both files.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) candidates: Option<PathBuf>,
    /// The same with feedback and scores; may be the same file
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct FeedbackTrainOptions {
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Records of feedback
    #[arg(long, value_name = "FILE")]
    pub(crate) records: PathBuf,
    /// Records that the agreement of the trained model is measured on; none of their questions may be trained on
    #[arg(long, value_name = "FILE", conflicts_with = "held_out_share")]
    pub(crate) held_out: Option<PathBuf>,
    /// Or: hold out the records of this share of the questions
    #[arg(long, value_name = "SHARE")]
    pub(crate) held_out_share: Option<f64>,
    /// Folder of the feedback model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct FeedbackEvalOptions {
    /// Records of feedback; they need no `critique`
    #[arg(long, value_name = "FILE")]
    pub(crate) records: PathBuf,
    #[command(flatten)]
    pub(crate) evaluate: EvaluateOptions,
}

#[derive(Debug, Args)]
pub(crate) struct FeedbackRecordsOptions {
    /// Candidates, as `rlrf sample`, `rlrf feedback` or `rlrf refine` writes them
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: PathBuf,
    /// Records: JSONL with `messages`, `response`, `aspect`, `critique`, `level`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}
