//! The command line of `rlrf index`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Index the passages of a corpus
    #[command(after_help = "Examples:\n  \
        rlrf index build wikipedia.jsonl --out wikipedia\n  \
        rlrf index build enwiki-20230401.db --out wikipedia\n\n\
        CORPUS is JSONL with `title` and `text` (or `contents`; text or a list of texts), or the SQLite file of the FActScore \
        release. The folder is complete or absent; an interrupted build begins anew.")]
    Build(IndexBuildOptions),
    /// Find the passages that answer a query best
    #[command(
        after_help = "Example:\n  rlrf index search wikipedia 'Where was he born?' --title 'Nikola Tesla' --top 3"
    )]
    Search(IndexSearchOptions),
}

#[derive(Debug, Args)]
pub(crate) struct IndexBuildOptions {
    /// The corpus: JSONL, or the SQLite file of FActScore
    #[arg(value_name = "CORPUS")]
    pub(crate) corpus: PathBuf,
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Words of a passage at most; the passages of an SQLite file stay as they are
    #[arg(long, value_name = "COUNT", default_value_t = rlrf_retrieval::DEFAULT_PASSAGE_WORDS)]
    pub(crate) passage_words: usize,
}

#[derive(Debug, Args)]
pub(crate) struct IndexSearchOptions {
    /// Folder of the index
    #[arg(value_name = "DIR")]
    pub(crate) index: PathBuf,
    /// What to look for: words, in any order
    #[arg(value_name = "QUERY")]
    pub(crate) query: String,
    /// Only on the page of this title
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Passages at most
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub(crate) top: usize,
}
