//! `rlrf`: aligns a language model by reflective feedback.
//!
//! `arguments` parses the command line and nothing else; `config` reads configuration files; the other modules wire
//! the libraries together, one command each.

mod arguments;
mod config;
mod console;
mod inputs;
mod model_command;
mod models;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command, ModelCommand};
use crate::console::Console;

/// Keeps large blocks mapped: fresh pages for every activation buffer would cost more than the arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = arguments.threads.map_or(0, std::num::NonZeroUsize::get);
    let pool = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool,
        Err(error) => {
            eprintln!("error: cannot start {threads} threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Inside the pool from the start: a parallel operation called from outside wakes a thread each time.
    pool.install(|| finish(&arguments))
}

fn finish(arguments: &Arguments) -> ExitCode {
    let console = Console::new(arguments.quiet);
    match execute(arguments, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.close();
            eprintln!("error: {error:#}");
            if console::is_interruption(&error) { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn execute(arguments: &Arguments, console: &Console) -> anyhow::Result<()> {
    let json = arguments.json;
    match &arguments.command {
        Command::Run(options) => run::run(options, json, console),
        Command::Sample(_) | Command::Feedback(_) | Command::Refine(_) | Command::Pairs(_) | Command::Sft(_) | Command::Dpo(_) | Command::Eval(_) => Ok(()),
        Command::Model { command: ModelCommand::New(options) } => model_command::new(options, json),
        Command::Model { command: ModelCommand::Info(options) } => model_command::info(options, json),
    }
}
