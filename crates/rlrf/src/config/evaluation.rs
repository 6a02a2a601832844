//! `[evaluation]`: what `rlrf run` measures every model on.

use std::path::PathBuf;

use anyhow::{Result, bail};
use rlrf_eval::factscore::Abstention;
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use super::judge::is_address;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvaluationConfig {
    /// Benchmarks, each on a file.
    pub(crate) sets: Vec<EvaluationSet>,
    /// The judge of those benchmarks that ask one.
    pub(crate) judge: Option<JudgeSource>,
    /// Longest answer, in tokens, where a set says nothing else.
    pub(crate) max_new_tokens: usize,
    /// Instructions that one response each is drawn for to estimate how far a model has moved from `M_0`; 0 is none.
    pub(crate) divergence_samples: usize,
    /// Train on instructions that occur in an evaluation file all the same.
    pub(crate) allow_overlap: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            sets: Vec::new(),
            judge: None,
            max_new_tokens: 256,
            divergence_samples: 256,
            allow_overlap: false,
        }
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
    Aspects(AspectSet),
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

/// Instructions whose responses have a level on each aspect, by checkers and by the run's feedback model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AspectSet {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_new_tokens: Option<usize>,
    /// 0 is greedy.
    #[serde(default)]
    pub(crate) temperature: f32,
    /// File of aspects with checkers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkers: Option<PathBuf>,
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

impl EvaluationConfig {
    /// Checks every length; what only one benchmark has is checked where its set is read.
    pub(crate) fn validate(&self) -> Result<()> {
        let judge = self.judge.iter().map(|judge| ("evaluation.judge".to_string(), judge.max_new_tokens));
        let sets = self
            .sets
            .iter()
            .filter_map(|set| Some((format!("evaluation set {:?}", set.name()), set.max_new_tokens()?)));
        for (place, length) in judge.chain(sets) {
            if length == 0 {
                bail!("configuration: {place}: max_new_tokens = 0: must be at least 1");
            }
        }
        if self.max_new_tokens == 0 {
            bail!("configuration: evaluation.max_new_tokens = 0: must be at least 1");
        }
        Ok(())
    }
}

impl EvaluationSet {
    /// The names under which a configuration asks for them.
    const BENCHMARKS: &[&str] = &["problems", "gsm8k", "svamp", "mawps", "just-eval", "aspects", "factscore"];

    /// The set's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Problems(set) => &set.name,
            Self::Gsm8k(set) | Self::Svamp(set) | Self::Mawps(set) => &set.name,
            Self::JustEval(set) => &set.name,
            Self::Aspects(set) => &set.name,
            Self::Factscore(set) => &set.name,
        }
    }

    fn max_new_tokens(&self) -> Option<usize> {
        match self {
            Self::Problems(set) => set.max_new_tokens,
            Self::Gsm8k(set) | Self::Svamp(set) | Self::Mawps(set) => set.max_new_tokens,
            Self::JustEval(set) => set.max_new_tokens,
            Self::Aspects(set) => set.max_new_tokens,
            Self::Factscore(set) => set.max_new_tokens,
        }
    }
}

/// By `benchmark`; without it the items are problems for the checker.
impl<'de> Deserialize<'de> for EvaluationSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
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
            "aspects" => read(table).map(Self::Aspects),
            "factscore" => read(table).map(Self::Factscore),
            unknown => Err(D::Error::unknown_variant(unknown, Self::BENCHMARKS)),
        }
    }
}

/// The settings of one benchmark; the message begins as serde's does, so that a near name is suggested.
fn read<T: DeserializeOwned, E: Error>(settings: toml::Table) -> std::result::Result<T, E> {
    settings.try_into().map_err(|error: toml::de::Error| E::custom(error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of each kind and a judge, with every key.
    const EVERY_KEY: &str = r#"
sets = [
  { benchmark = "problems", name = "p", file = "p.jsonl", limit = 3, max_new_tokens = 9 },
  { benchmark = "gsm8k", name = "g", file = "g.jsonl", limit = 3, max_new_tokens = 9, template = "cot", shots = 2, samples = 4, temperature = 0.5 },
  { benchmark = "svamp", name = "s", file = "s.json", samples = 1 },
  { benchmark = "mawps", name = "m", file = "m.csv", samples = 1 },
  { benchmark = "just-eval", name = "j", file = "j.jsonl", limit = 3, max_new_tokens = 9, compat = true },
  { benchmark = "aspects", name = "a", file = "a.jsonl", limit = 3, max_new_tokens = 9, temperature = 0.5, checkers = "c.toml" },
  { benchmark = "factscore", name = "f", file = "f.txt", index = "i", limit = 3, max_new_tokens = 9, prompt = "<entity>?", gamma = 5.0, passages = 2, abstention = "perplexity-ai" },
]
judge = { model = "JUDGE", name = "served", max_new_tokens = 64 }
max_new_tokens = 8
divergence_samples = 64
allow_overlap = true
"#;

    #[test]
    fn every_key_reads_back_and_is_documented() {
        let config: EvaluationConfig = toml::from_str(EVERY_KEY).unwrap();
        let table = toml::Table::try_from(&config).unwrap();
        assert_eq!(table, EVERY_KEY.parse().unwrap());
        let page = include_str!("../../../../docs/configuration.md");
        let sets = table["sets"].as_array().unwrap().iter().filter_map(toml::Value::as_table);
        for key in sets.flat_map(toml::Table::keys).chain(table["judge"].as_table().unwrap().keys()) {
            assert!(page.contains(&format!("`{key}`")), "docs/configuration.md lacks {key}");
        }
        for benchmark in EvaluationSet::BENCHMARKS {
            assert!(page.contains(&format!("`\"{benchmark}\"`")), "docs/configuration.md lacks {benchmark}");
        }
    }

    #[test]
    fn without_a_benchmark_a_set_is_for_the_checker() {
        let config: EvaluationConfig = toml::from_str("sets = [{ name = \"a\", file = \"b\" }]").unwrap();
        assert!(matches!(&config.sets[0], EvaluationSet::Problems(set) if set.name == "a"));
    }

    #[test]
    fn the_address_of_a_judge_is_not_kept() {
        let config: EvaluationConfig =
            toml::from_str("judge = { model = \"http://host/v1\", name = \"served\" }").unwrap();
        let kept = toml::to_string(&config).unwrap();
        assert!(!kept.contains("host") && kept.contains("served"), "{kept}");
    }
}
