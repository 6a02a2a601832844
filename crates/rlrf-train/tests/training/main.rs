//! Training held to its promises: parity with torch and TRL, invariance to packing, exact resumption, learning.

#![allow(clippy::unwrap_used)]

mod common;
mod interruption;
mod invariance;
mod learning;
mod losses;
mod parity;
mod reward;
