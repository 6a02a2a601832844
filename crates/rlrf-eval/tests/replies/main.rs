//! Judges' replies, well formed and mutated: what is read is what the judge wrote, the rest is excluded.

#![allow(clippy::unwrap_used, reason = "a test")]

mod just_eval;
mod random;
mod rubric;
