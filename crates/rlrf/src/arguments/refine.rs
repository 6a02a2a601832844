//! The command line of `rlrf refine`: refining candidates, and what teaches a policy to refine.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Settings;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RefineOptions {
    #[command(subcommand)]
    pub(crate) command: Option<RefineCommand>,
    #[command(flatten)]
    pub(crate) refine: RefineCandidatesOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RefineCommand {
    /// Make demonstrations of refining out of judged refinements, for `rlrf sft --data`
    #[command(after_help = "Example:\n  \
        rlrf refine demonstrations --candidates judged.jsonl --out demonstrations.jsonl --set pairs.margin=1\n\n\
        From question, draft and feedback to the refinement, wherever it came to its end, scores at least \
        pairs.min_chosen_score, and is better than its draft by pairs.margin.\n\
        Settings: pairs.margin, pairs.min_chosen_score, refine.feedback, templates.refine.")]
    Demonstrations(RefineDemonstrationsOptions),
}

#[derive(Debug, Args)]
pub(crate) struct RefineCandidatesOptions {
    /// The model: a folder in Hugging Face layout, or the URL of an endpoint
    // These are required, and options all the same: a subcommand takes their place.
    #[arg(long, value_name = "DIR-OR-URL", required = true)]
    pub(crate) model: Option<String>,
    /// The model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) model_name: Option<String>,
    /// Judged candidates, as `rlrf feedback` writes them
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) candidates: Option<PathBuf>,
    /// The same with refinements; may be the same file
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct RefineDemonstrationsOptions {
    /// Candidates with refinements, judged: `rlrf feedback` on what `rlrf refine` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: PathBuf,
    /// Demonstrations: JSONL with `prompt` and `completion`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) settings: Settings,
}
