//! What judges reply, read without guessing.
//!
//! Each reader returns what is certain and says why the rest is not: a reply is parsed, repaired or failed
//! ([`rlrf_method::ParseOutcome`]), and a failed one is excluded and counted by whoever asked for it. Digits are the
//! ASCII ones alone: `４`, `٤` and `four` are not read as 4, for a reply that leaves the asked form there may have left it
//! elsewhere, too.

mod aspects;
mod object;
mod pair;
mod prose;
mod rubric;

pub use aspects::{AspectReply, AspectVerdict, ReplyProblem};
pub use pair::{PairReply, Preference};
pub use rubric::RubricReply;

/// The scale of a judge's scores.
pub const SCALE: std::ops::RangeInclusive<u8> = 1..=5;
