//! Settings of the checkers that decide an aspect in place of a model. Plain data; `rlrf-checkers` holds the programs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What decides an aspect exactly, as `checker = { kind = "...", ... }` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckerConfig {
    /// The response is an arithmetic expression; its exact value is compared with the instruction's `answer`.
    Arithmetic {},
    /// The number that the response ends with is compared with the instruction's `answer`.
    Number {
        /// Largest difference that is still right.
        #[serde(default)]
        tolerance: f64,
    },
    /// Regular expressions.
    Regex {
        /// One that must match somewhere in the response.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        must_match: Option<String>,
        /// One that must match nowhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        must_not_match: Option<String>,
    },
    /// The response is JSON of this schema.
    JsonSchema {
        /// The schema: a table, or its JSON as text.
        schema: Value,
    },
    /// The letter that the response chooses is compared with the instruction's `answer`.
    Choice {
        /// The letters that there are.
        #[serde(default = "five_letters")]
        letters: String,
    },
    /// Texts that the response must and must not hold.
    Contains {
        /// Every one of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        all: Vec<String>,
        /// At least one of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        any: Vec<String>,
        /// None of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        none: Vec<String>,
        /// Every part of the instruction's `answer`, too; commas are between the parts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        answer: bool,
        /// Whether a text counts only where no letter or digit is beside it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        whole_words: bool,
        /// Whether upper and lower case are the same.
        #[serde(default = "yes")]
        ignore_case: bool,
    },
    /// The length of the response.
    Length {
        /// What is counted.
        #[serde(default)]
        unit: LengthUnit,
        /// At least so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<usize>,
        /// At most so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<usize>,
        /// How far a near miss is from its bound at most, as a share of the bound.
        #[serde(default = "a_fifth")]
        near: f64,
    },
    /// The response is whole sentences of known words.
    Prose {
        /// The words that are known, with white space between.
        words: String,
    },
}

/// What the length of a response is counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthUnit {
    /// Runs of characters between white space.
    #[default]
    Words,
    /// Characters, without the white space around the response.
    Characters,
    /// Sentences.
    Sentences,
}

impl LengthUnit {
    /// The unit's name, in the plural.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Characters => "characters",
            Self::Sentences => "sentences",
        }
    }
}

fn five_letters() -> String {
    "ABCDE".into()
}

fn yes() -> bool {
    true
}

fn a_fifth() -> f64 {
    0.2
}
