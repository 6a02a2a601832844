//! What can go wrong in the method.

use crate::row::StoreError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record of an input file is not as it should be.
    #[error("{file}:{line}: {message}")]
    Record {
        /// The file as the user named it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// An input file as a whole is not as it should be.
    #[error("{file}: {message}")]
    Input {
        /// The file as the user named it.
        file: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A prompt template cannot be read or rendered.
    #[error("template {name}: {message}")]
    Template {
        /// The template's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A configuration value is out of its range.
    #[error("configuration: {field} = {value}: {message}")]
    Config {
        /// Dotted name of the field.
        field: String,
        /// The value found.
        value: String,
        /// What is allowed.
        message: String,
    },
    /// The store of rows failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed row cannot be read back.
    #[error("{table} row {key}: {message}; the run folder was changed by something else")]
    Row {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A model, judge or trainer failed.
    #[error("{0}")]
    Backend(String),
    /// The user asked to stop; everything finished so far is committed, and the same call goes on from there.
    #[error("interrupted")]
    Interrupted,
}
