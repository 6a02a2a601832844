//! The command line of `rlrf aspects`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AspectsCommand {
    /// Print the aspects with their criteria, levels, weights and checkers
    #[command(
        after_help = "Examples:\n  rlrf aspects list\n  rlrf aspects list --file my-aspects.toml --json"
    )]
    List(AspectsListOptions),
    /// See whether a file of aspects is in order
    #[command(
        after_help = "Example:\n  rlrf aspects check my-aspects.toml\n\ndocs/aspects.md says how to write such a file."
    )]
    Check(AspectsCheckOptions),
}

#[derive(Debug, Args)]
pub(crate) struct AspectsListOptions {
    /// TOML file of aspects [default: the eight that are built in]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AspectsCheckOptions {
    /// TOML file of aspects
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
