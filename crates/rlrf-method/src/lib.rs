//! RLRF as plain data and functions: instructions, aspects and rubrics, feedback, scoring, selection,
//! refinement prompts, preference pairs, and the loop over them.
//!
//! Nothing here knows tensors, files, HTTP or SQL: models, judges and stores come in through the traits of
//! [`seam`] and [`row`]. The method is Lee et al., "Reinforcement Learning from Reflective Feedback"
//! (arXiv 2403.14238); what the paper leaves open is a documented configuration value.

pub mod aspect;
pub mod best;
pub mod candidates;
pub mod checker_config;
pub mod choose;
pub mod committer;
pub mod config;
pub mod demonstration;
pub mod digest;
pub mod dispatch;
pub mod distribution;
pub mod error;
pub mod explore;
pub mod feedback;
pub mod feedback_record;
pub mod fence;
pub mod grounding;
pub mod instruction;
pub mod iteration;
pub mod judgements;
pub mod kept;
pub mod pairs;
pub mod panel;
pub mod preference_file;
pub mod reflection;
pub mod reward;
pub mod row;
pub mod score;
pub mod scored;
pub mod seam;
pub mod search;
pub mod select;
pub mod summary;
pub mod template;
pub mod text_judge;
pub mod toml_error;
pub mod verdict;
pub mod written;

pub use aspect::Aspect;
pub use checker_config::CheckerConfig;
pub use error::{Error, Result};
pub use feedback::{Feedback, FeedbackSource, LEVELS, ParseOutcome};
pub use feedback_record::FeedbackRecord;
pub use instruction::{Instruction, Message, Role};
pub use row::{Row, RowStore, StoreError, Table};
pub use template::Templates;
