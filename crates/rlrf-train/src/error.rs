//! What can go wrong in training.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value that makes no sense.
    #[error("training configuration: {field} = {value}: {advice}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        advice: &'static str,
    },
    /// Nothing to train on.
    #[error("there is nothing to train on: the list of examples is empty")]
    NoExamples,
    /// An example that cannot be trained on.
    #[error("example {index}: {reason}")]
    Example {
        /// Place in the list that was given, from 0.
        index: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The loss, the gradient or the parameters are no longer numbers.
    #[error(
        "{quantity} is {value} at step {step}: lower the learning rate (now {learning_rate:e}), raise warm-up, or look at \
         the examples of this step; the parameters of the step before and the last checkpoint are kept"
    )]
    NonFinite {
        /// What was not finite.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// The step, from 1.
        step: u64,
        /// The learning rate of the step.
        learning_rate: f64,
    },
    /// The caller asked to stop; the checkpoint, if there is a place for one, holds everything up to `step`.
    #[error(
        "training was interrupted after step {step} of {total_steps}; run it again to go on from its checkpoint"
    )]
    Interrupted {
        /// Steps done.
        step: u64,
        /// Steps planned.
        total_steps: u64,
    },
    /// A checkpoint could not be written or removed.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The model refused its input.
    #[error(transparent)]
    Model(#[from] rlrf_model::Error),
}

impl Error {
    pub(crate) fn checkpoint(path: &Path, reason: impl std::fmt::Display) -> Self {
        Error::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
    }
}
