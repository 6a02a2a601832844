//! What can go wrong with a model folder.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error { }
