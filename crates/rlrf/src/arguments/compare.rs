//! `rlrf compare`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct GridOptions {
    /// Grid file (TOML): a configuration, methods, seeds; its paths are relative to it
    #[arg(value_name = "GRID")]
    pub(crate) grid: PathBuf,
    /// Change a setting of all runs, such as --set instructions.limit=50; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Folder of the comparison [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Only the methods of these names; may be repeated
    #[arg(long, value_name = "METHOD")]
    pub(crate) only: Vec<String>,
    /// Only the runs of these seeds; may be repeated. Two commands on one comparison, each with seeds of its own, go well side by
    /// side
    #[arg(long = "seed", value_name = "SEED")]
    pub(crate) seeds: Vec<u64>,
}
