//! The benchmarks as definitions.

pub mod reply;
