//! `[evaluation]`: what `rlrf run` measures every model on.

use std::path::PathBuf;

use rlrf_eval::factscore::Abstention;
use rlrf_remote::is_url;
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// Benchmarks, each on a file.
    pub(crate) sets: Vec<EvaluationSet>,
    /// The judge of those benchmarks that ask one.
    pub(crate) judge: Option<JudgeSource>,
    /// Longest answer, in tokens, where a set says nothing else.
    pub(crate) max_new_tokens: usize,
    /// Train on instructions that occur in an evaluation file all the same.
    pub(crate) allow_overlap: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { sets: Vec::new(), judge: None, max_new_tokens: 256, allow_overlap: false }
    }
}

/// A model that judges responses: a folder, or an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JudgeSource {
    /// The folder, or the address. An address is no part of a run's identity: servers come and go.
    #[serde(skip_serializing_if = "is_address")]
    pub(crate) model: String,
    /// The model's name at the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Longest reply, in tokens.
    #[serde(default = "judge_tokens")]
    pub(crate) max_new_tokens: usize,
}

fn is_address(model: &str) -> bool {
    is_url(model)
}

fn judge_tokens() -> usize {
    1024
}

/// One benchmark on one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "benchmark", rename_all = "kebab-case")]
pub(crate) enum EvaluationSet {
    Problems(ProblemSet),
    Gsm8k(WordProblemSet),
    Svamp(WordProblemSet),
    Mawps(WordProblemSet),
    JustEval(JustEvalSet),
    Factscore(FactScoreSet),
}

/// Any problems, checked by the configured checker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProblemSet {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_new_tokens: Option<usize>,
}

/// Problems whose answer is one number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WordProblemSet {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_new_tokens: Option<usize>,
    /// The prompt; the benchmark's default where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// Worked examples; all of the template where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shots: Option<usize>,
    /// Responses to each problem.
    #[serde(default = "one")]
    pub(crate) samples: u32,
    /// 0 is greedy; absent, it is 0 for one response and 0.7 for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,
}

fn one() -> u32 {
    1
}

/// Instructions whose responses a judge scores by aspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JustEvalSet {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_new_tokens: Option<usize>,
    /// Score "N/A" as 5, as the original does.
    #[serde(default)]
    pub(crate) compat: bool,
}

/// Topics whose biographies are checked fact by fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FactScoreSet {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// Folder of the index of passages.
    pub(crate) index: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_new_tokens: Option<usize>,
    /// What is asked; `<entity>` stands for the topic.
    #[serde(default = "biography")]
    pub(crate) prompt: String,
    /// Facts below which a response is penalised; 0 is no penalty.
    #[serde(default = "gamma")]
    pub(crate) gamma: f64,
    /// Passages that a fact is judged by.
    #[serde(default = "passages")]
    pub(crate) passages: usize,
    /// Which responses abstain.
    #[serde(default = "abstention")]
    pub(crate) abstention: Abstention,
}

fn biography() -> String {
    "Question: Tell me a bio of <entity>.".into()
}

fn gamma() -> f64 {
    10.0
}

fn passages() -> usize {
    5
}

fn abstention() -> Abstention {
    Abstention::Generic
}

impl EvaluationSet {
    /// The names under which a configuration asks for them.
    const BENCHMARKS: &[&str] = &["problems", "gsm8k", "svamp", "mawps", "just-eval", "factscore"];

    /// The set's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Problems(set) => &set.name,
            Self::Gsm8k(set) | Self::Svamp(set) | Self::Mawps(set) => &set.name,
            Self::JustEval(set) => &set.name,
            Self::Factscore(set) => &set.name,
        }
    }
}

/// By `benchmark`; without it the items are problems for the checker.
impl<'de> Deserialize<'de> for EvaluationSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let benchmark = match table.remove("benchmark") {
            None => "problems".to_string(),
            Some(toml::Value::String(name)) => name,
            Some(other) => {
                return Err(D::Error::invalid_type(
                    Unexpected::Other(other.type_str()),
                    &"a name as `benchmark`",
                ));
            }
        };
        match benchmark.as_str() {
            "problems" => read(table).map(Self::Problems),
            "gsm8k" => read(table).map(Self::Gsm8k),
            "svamp" => read(table).map(Self::Svamp),
            "mawps" => read(table).map(Self::Mawps),
            "just-eval" => read(table).map(Self::JustEval),
            "factscore" => read(table).map(Self::Factscore),
            unknown => Err(D::Error::unknown_variant(unknown, Self::BENCHMARKS)),
        }
    }
}

/// The settings of one benchmark; the message begins as serde's does, so that a near name is suggested.
fn read<T: DeserializeOwned, E: Error>(settings: toml::Table) -> Result<T, E> {
    settings.try_into().map_err(|error: toml::de::Error| E::custom(error.message()))
}
