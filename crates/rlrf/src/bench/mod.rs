//! `rlrf bench`: speed and memory of engine, trainer and matrix products on fixed workloads.
//!
//! One file per workload: it builds the work from random tokens, hands it to the libraries as the commands do, and
//! says how much of what was done. `stopwatch` times it, `machine` reads what the operating system knows, `report` prints.
//! The workloads are those of the scripts in `bench/peers`, which run other software.

pub(crate) mod arguments;
mod decode;
mod dpo;
mod feedback;
mod machine;
mod matmul;
mod precision;
mod random_tokens;
mod report;
mod stopwatch;
mod train;

use anyhow::Result;

use crate::bench::arguments::BenchCommand;
use crate::console;

/// Measures a workload and prints what came of it.
pub(crate) fn run(command: &BenchCommand, json: bool) -> Result<()> {
    let report = match command {
        BenchCommand::Train(options) => train::measure(options)?,
        BenchCommand::Decode(options) => decode::measure(options)?,
        BenchCommand::Feedback(options) => feedback::measure(options)?,
        BenchCommand::Dpo(options) => dpo::measure(options)?,
        BenchCommand::Matmul(options) => matmul::measure(options)?,
    };
    Ok(console::print(&if json { report.json().to_string() } else { report.text() })?)
}
