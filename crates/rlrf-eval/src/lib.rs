//! Benchmarks as definitions: what is asked, how an answer is read, what is counted, and how sure the numbers are.
//!
//! Every benchmark asks its models through [`respond()`], which draws nothing twice, and ends in one form of result,
//! [`Outcome`]: an [`Evaluation`] with its numbers and the [`Item`]s from which each of them can be recomputed.
//! Nothing here knows tensors, files, HTTP or SQL.

pub mod aspects;
pub mod choose;
pub mod compare;
pub mod evaluation;
pub mod factscore;
mod judging;
pub mod just_eval;
pub mod pairwise;
pub mod problems;
mod records;
pub mod reply;
pub mod respond;
pub mod responses;
pub mod reward;
pub mod statistics;
pub mod word_problems;

pub use choose::choose;
pub use evaluation::{Evaluation, Item, Outcome};
pub use records::read_records;
pub use respond::{Context, Prompt, respond};
