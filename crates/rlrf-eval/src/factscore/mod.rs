//! FActScore (Min et al. 2023, arXiv 2305.14251): how much of what a model tells about a person is supported by that
//! person's page of an encyclopedia.
//!
//! A response is split into sentences, a model breaks each into atomic facts ([`decomposition`]), and a model says of
//! each fact whether it is true, given the passages of the page that match it best ([`verdict`]). The score of a
//! response is the share of its facts that are supported, less a penalty where they are few; a response that abstains
//! has no score and lowers the ratio of responses instead ([`score`]). Facts with labels by humans are scored without
//! any model ([`labelled`]).

pub mod abstention;
pub mod decomposition;
mod demonstration;
pub mod evaluate;
pub mod labelled;
pub mod score;
pub mod topic;
pub mod verdict;

pub use abstention::Abstention;
pub use evaluate::{Definition, Knowledge, ask, evaluate};
pub use labelled::score_labelled;
pub use topic::{Biography, read_responses, read_topics};

/// Name of the benchmark.
pub const BENCHMARK: &str = "factscore";

/// Version of its definition.
pub(crate) const DEFINITION: u32 = 1;
