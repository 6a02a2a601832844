//! The run on disk: one folder, one SQLite file of keyed rows, finished artifacts, resume.
//!
//! ```text
//! runs/NAME/
//!   run.toml   the resolved configuration, written once
//!   run.db     SQLite (WAL): one table of rows per stage, artifacts, events
//!   run.lock   held by the one process that may write
//! ```
//!
//! [`RunStore`] implements [`rlrf_method::RowStore`]: a stage asks which keys are missing, computes these and
//! commits them, so that resume, crash recovery and never paying twice are one mechanism. What `commit` has
//! returned from survives the end of the process, however it ends, and the loss of power on a disk that honours
//! a flush.
//!
//! The store does not know what the rows mean.

mod artifact;
mod borrow;
mod configuration;
mod database;
mod error;
mod event;
mod file;
mod lock;
mod row;
mod run;

pub use artifact::Artifact;
pub use configuration::Difference;
pub use error::Error;
pub use event::Event;
pub use file::write_atomically;
pub use run::RunStore;
