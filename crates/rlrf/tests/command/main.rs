//! Holds the real binary to its promises, each test in a fresh folder.
#![allow(clippy::unwrap_used, reason = "a test")]

mod bench;
mod example;
mod folder;
mod garbage;
mod kill;
mod stages;
