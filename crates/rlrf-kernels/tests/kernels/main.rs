//! Every kernel against a plain reference.

mod attention;
mod common;
mod elementwise;
mod logprobs;
mod matmul;
mod rows;
