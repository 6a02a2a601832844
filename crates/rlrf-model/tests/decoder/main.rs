//! The promises of the decoder: its backward is its derivative, packing and caching change nothing, and
//! transformers computes the same.

#![allow(clippy::unwrap_used, reason = "clippy's exemption of tests does not reach their helpers")]

mod computation;
mod gradients;
mod inference;
mod lora;
mod packing;
mod parity;
mod rows;
mod score;
mod support;
