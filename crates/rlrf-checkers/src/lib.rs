//! Programs that decide an aspect exactly, in place of a model: they write the same kind of feedback, a critique that names
//! what is wrong and a level.
//!
//! [`checker`] makes one from its settings ([`CheckerConfig`]); one file holds each kind. Level 3 is right, level 1 wrong;
//! level 2 is a near miss where the kind knows one.

mod choice;
mod contains;
mod json_schema;
mod length;
mod number;
mod prose;
mod regular_expression;
mod schema;

use rlrf_arithmetic::ArithmeticChecker;
use rlrf_method::digest::digest;
use rlrf_method::seam::{Check, Checker};
use rlrf_method::{CheckerConfig, Error, Instruction, Result};

use crate::choice::ChoiceChecker;
use crate::contains::{ContainsChecker, Matching};
use crate::json_schema::JsonSchemaChecker;
use crate::length::LengthChecker;
use crate::number::NumberChecker;
use crate::prose::ProseChecker;
use crate::regular_expression::RegexChecker;

/// To be raised with every change of what a check or a critique says: runs keep feedback under this version.
const VERSION: u32 = 1;

/// The checker that `config` describes.
///
/// # Errors
/// Names the field, its value and what is allowed: a pattern or a schema that cannot be read, an empty text, bounds that
/// nothing can keep.
pub fn checker(config: &CheckerConfig) -> Result<Box<dyn Checker>> {
    let digest = digest(&("checker", VERSION, config));
    Ok(match config {
        CheckerConfig::Arithmetic {} => Box::new(ArithmeticChecker),
        CheckerConfig::Number { tolerance } => Box::new(NumberChecker::new(digest, *tolerance)?),
        CheckerConfig::Regex { must_match, must_not_match } => {
            Box::new(RegexChecker::new(digest, must_match.as_deref(), must_not_match.as_deref())?)
        }
        CheckerConfig::JsonSchema { schema } => Box::new(JsonSchemaChecker::new(digest, schema)?),
        CheckerConfig::Choice { letters } => Box::new(ChoiceChecker::new(digest, letters)?),
        CheckerConfig::Contains { all, any, none, answer, whole_words, ignore_case } => {
            let matching = Matching { whole_words: *whole_words, ignore_case: *ignore_case };
            Box::new(ContainsChecker::new(digest, [all, any, none], *answer, matching)?)
        }
        CheckerConfig::Length { unit, min, max, near } => {
            Box::new(LengthChecker::new(digest, *unit, (*min, *max), *near)?)
        }
        CheckerConfig::Prose { words } => Box::new(ProseChecker::new(digest, words)?),
    })
}

/// A finding: level 3 is right.
fn check(level: u8, readable: bool, critique: String) -> Check {
    Check { correct: level == 3, readable, critique, level }
}

/// A setting that cannot be.
fn bad(field: &str, value: impl std::fmt::Display, message: impl Into<String>) -> Error {
    Error::Config { field: format!("checker.{field}"), value: value.to_string(), message: message.into() }
}

/// The instruction's answer as `read` understands it.
fn answer<T>(instruction: &Instruction, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    let message = match &instruction.answer {
        None => format!("has no `answer`: the checker compares the response with {expected}"),
        Some(text) => match read(text) {
            Some(answer) => return Ok(answer),
            None => format!("`answer` is {text:?}: the checker compares the response with {expected}"),
        },
    };
    Err(Error::Backend(format!("instruction {}: {message}", instruction.id)))
}
