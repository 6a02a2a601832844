//! `rlrf`: aligns a language model by reflective feedback.
//!
//! `arguments` parses the command line and nothing else; `config` reads configuration files; the other modules wire
//! the libraries together, one command each.

mod allocator;
mod arguments;
mod aspects;
mod aspects_command;
mod bench;
mod compare;
mod config;
mod console;
mod evaluate;
mod file_lock;
mod index_command;
mod inputs;
mod judges;
mod model_command;
mod model_source;
mod models;
mod overlap;
mod retrieval;
mod run;
mod stages;
mod starting_model;
mod starting_reward;
mod training_set;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{
    Arguments, AspectsCommand, Command, FeedbackCommand, FeedbackOptions, IndexCommand, ModelCommand,
    RefineCommand, RefineOptions, RewardCommand,
};
use crate::console::Console;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
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
    // The others keep nothing that could be lost: they end at once.
    if !matches!(arguments.command, Command::Bench { .. } | Command::Model { .. }) {
        console::take_signals();
    }
    match execute(arguments, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.close();
            if !console::is_interruption(&error) {
                console::tell(&format!("error: {error:#}"));
                return ExitCode::FAILURE;
            }
            match arguments.command {
                Command::Index { .. } => console::tell("interrupted; nothing of the index is kept"),
                _ => console::tell(
                    "interrupted; everything finished so far is kept: repeat the command to go on",
                ),
            }
            ExitCode::from(130)
        }
    }
}

fn feedback(options: &FeedbackOptions, json: bool, console: &Console) -> anyhow::Result<()> {
    match &options.command {
        Some(FeedbackCommand::Train(options)) => stages::train_feedback(options, json, console),
        Some(FeedbackCommand::Eval(options)) => evaluate::eval_feedback(options, json, console),
        Some(FeedbackCommand::Records(options)) => stages::write_records(options, json, console),
        None => stages::feedback(&options.judge, json, console),
    }
}

fn refine(options: &RefineOptions, json: bool, console: &Console) -> anyhow::Result<()> {
    match &options.command {
        Some(RefineCommand::Demonstrations(options)) => stages::refine_demonstrations(options, json, console),
        None => stages::refine(&options.refine, json, console),
    }
}

fn execute(arguments: &Arguments, console: &Console) -> anyhow::Result<()> {
    let json = arguments.json;
    match &arguments.command {
        Command::Run(options) => run::run(options, json, console),
        Command::Compare(options) => compare::compare(options, json, console),
        Command::Sample(options) => stages::sample(options, json, console),
        Command::Feedback(options) => feedback(options, json, console),
        Command::Refine(options) => refine(options, json, console),
        Command::Pairs(options) => stages::pairs(options, json, console),
        Command::Sft(options) => stages::sft(options, json, console),
        Command::Dpo(options) => stages::dpo(options, json, console),
        Command::Grpo(options) => stages::grpo(options, json, console),
        Command::Reward { command: RewardCommand::Train(options) } => {
            stages::reward_train(options, json, console)
        }
        Command::Reward { command: RewardCommand::Eval(options) } => {
            evaluate::eval_reward(options, json, console)
        }
        Command::Reward { command: RewardCommand::Pairs(options) } => {
            stages::reward_pairs(options, json, console)
        }
        Command::Eval(options) => evaluate::eval(options, json, console),
        Command::Aspects { command: AspectsCommand::List(options) } => aspects_command::list(options, json),
        Command::Aspects { command: AspectsCommand::Check(options) } => aspects_command::check(options, json),
        Command::Index { command: IndexCommand::Build(options) } => {
            index_command::build_index(options, json, console)
        }
        Command::Index { command: IndexCommand::Search(options) } => index_command::search(options, json),
        Command::Bench { command } => bench::run(command, json),
        Command::Model { command: ModelCommand::New(options) } => model_command::new(options, json),
        Command::Model { command: ModelCommand::Info(options) } => model_command::info(options, json),
    }
}
