//! Holds the real binary to its promises, each test in a fresh folder.
#![allow(clippy::unwrap_used, reason = "a test")]

mod bench;
mod endpoint;
mod evaluate;
mod example;
mod factscore;
mod folder;
mod garbage;
mod judged;
mod judges;
mod kill;
mod measured;
mod methods;
mod objectives;
mod reward;
mod stages;
