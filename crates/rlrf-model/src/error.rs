//! What can go wrong with a model folder and with the calls on a loaded model.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An adapter that cannot be made.
    #[error("lora.{field} {problem}")]
    Lora {
        /// The field of the configuration.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: cannot {action}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, such as `read` or `rename into place`.
        action: &'static str,
        /// The operating system's reason.
        cause: std::io::Error,
    },
    /// A JSON file of the folder lacks a field or holds one that cannot be used.
    #[error("{}: field `{field}`: {problem}", file.display())]
    Field {
        /// The file, such as `config.json`.
        file: PathBuf,
        /// The field, dotted when nested.
        field: String,
        /// What is wrong with it and what is supported.
        problem: String,
    },
    /// A file as a whole cannot be used: not JSON, truncated, of another format.
    #[error("{}: {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor is missing, unexpected, misshapen, of an unknown type or not finite.
    #[error("{}: tensor `{tensor}`: {problem}", file.display())]
    Tensor {
        /// The file that holds the tensor or should hold it.
        file: PathBuf,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Text could not be tokenised or detokenised, or a tokenizer could not be built.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A chat template is absent, does not compile, refuses the conversation or loses a message.
    #[error("chat template: {0}")]
    Template(String),
    /// A preset that does not exist.
    #[error("`{name}` is not the name of a preset; there are: {known}")]
    Preset {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A token id beyond the model's vocabulary.
    #[error(
        "token {token} is not in the model's vocabulary of {vocab_size} tokens: tokenizer and model do not belong together"
    )]
    TokenOutOfRange {
        /// The token id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A position beyond the model's context.
    #[error(
        "position {position} is beyond the model's context of {max_position_embeddings} tokens: shorten the text"
    )]
    PositionOutOfRange {
        /// The position.
        position: u32,
        /// The context length.
        max_position_embeddings: usize,
    },
    /// A flat parameter vector of another model.
    #[error("a parameter vector of {found} values does not fit this model, which has {expected}")]
    ParameterCount {
        /// Length of the model's layout.
        expected: usize,
        /// Length of the vector given.
        found: usize,
    },
    /// A batch that was put together by hand and is not whole.
    #[error(
        "malformed batch: its positions and spans must cover its {rows} rows in order, and a prefix must lie within an earlier root span"
    )]
    Batch {
        /// Number of tokens of the batch.
        rows: usize,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, cause }
    }

    pub(crate) fn field(file: &Path, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { file: file.to_owned(), field: field.into(), problem: problem.into() }
    }

    pub(crate) fn file(file: &Path, problem: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tensor(file: &Path, tensor: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Tensor { file: file.to_owned(), tensor: tensor.into(), problem: problem.into() }
    }
}
