//! Why an index could not be built, opened or searched.

use std::io;
use std::path::PathBuf;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// A record of the corpus is not what the format says.
    #[error("{}:{line}: {message}", path.display())]
    Record {
        /// The corpus.
        path: PathBuf,
        /// Line of a JSONL file, row of a database; from 1.
        line: u64,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// The corpus as a whole cannot be used.
    #[error("{}: {message}", path.display())]
    Corpus {
        /// The corpus.
        path: PathBuf,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// The folder holds no index.
    #[error(
        "{} holds no index ({cause}): give the folder that `rlrf index build CORPUS --out DIR` wrote", folder.display()
    )]
    NoIndex {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        cause: String,
    },
    /// The index is laid out as another version of rlrf does.
    #[error(
        "{} is an index of format {found}, but this rlrf reads format {expected}: build it again from its corpus",
        folder.display()
    )]
    Version {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u64,
        /// The format that is understood.
        expected: u32,
    },
    /// The index is damaged.
    #[error("the index in {} is damaged ({cause}): remove it and build it again from its corpus", folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Tantivy keeps others from changing an index while it is opened, by a file in its folder.
    #[error("cannot lock the index in {} ({cause}): its folder must be writable; copy it to where it is", folder.display())]
    NotLocked {
        /// The folder.
        folder: PathBuf,
        /// What prevented it.
        cause: String,
    },
    /// The place of the new index is taken.
    #[error("{} holds {what}: remove it, or choose another --out", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// What it holds.
        what: String,
    },
    /// Another process builds the same index.
    #[error("another rlrf is building {}: wait until it has finished, or choose another --out", folder.display())]
    Locked {
        /// The folder of the index.
        folder: PathBuf,
    },
    /// Tantivy could not write the index.
    #[error("cannot write the index in {}: {cause}", folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// Tantivy's answer.
        cause: tantivy::TantivyError,
    },
    /// An option is out of its range.
    #[error("{0}")]
    Option(String),
    /// The user asked to stop; nothing is left of the unfinished index.
    #[error("interrupted")]
    Interrupted,
}
