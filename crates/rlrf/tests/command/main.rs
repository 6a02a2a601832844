//! Holds the real binary to its promises, each test in a fresh folder.
#![allow(clippy::unwrap_used, reason = "a test")]

mod evaluate;
mod example;
mod folder;
mod garbage;
mod judged;
mod kill;
mod stages;
