//! Promises of the engine, on a small trained model.

#![allow(clippy::unwrap_used, reason = "clippy's exemption of tests does not reach their helpers")]

mod common;
mod ending;
mod invariance;
mod parity;
mod sampling;
