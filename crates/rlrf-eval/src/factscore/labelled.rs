//! Facts with labels by humans, as `data/labeled/*.jsonl` of the FActScore release has them: scored without any model.

use std::collections::BTreeMap;

use rlrf_method::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::score::{Standing, Tally, scores, summarise};
use super::topic::{empty, lines, refused};
use super::{BENCHMARK, DEFINITION};
use crate::evaluation::{Evaluation, Item, Outcome};
use crate::statistics::mean;

/// A human's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Label {
    /// Supported.
    S,
    /// Not supported.
    NS,
    /// Irrelevant to the question.
    IR,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fact {
    text: String,
    label: Label,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    text: String,
    /// None where the whole sentence is irrelevant.
    #[serde(rename = "human-atomic-facts")]
    facts: Option<Vec<Fact>>,
}

#[derive(Debug, Deserialize)]
struct Record {
    topic: String,
    output: Option<String>,
    #[serde(default)]
    cat: Vec<String>,
    /// None where the model abstained; the field must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    annotations: Option<Vec<Annotation>>,
}

/// Scores the labelled facts of a file of the release. Irrelevant facts are left out and counted, or, on demand, count
/// as unsupported.
///
/// The groups are those of the field `cat`: how rare the person is, and where it is from.
///
/// # Errors
/// A line that is something else (with its number), a topic twice, an unknown label.
pub fn score_labelled(
    (name, bytes): (&str, &[u8]),
    set: &str,
    limit: Option<usize>,
    gamma: f64,
    irrelevant_as_unsupported: bool,
) -> Result<Outcome> {
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    let (mut standings, mut items) = (Vec::new(), Vec::new());
    let mut groups: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    evaluation.count("facts_irrelevant", 0);
    for (line, text) in lines(name, bytes)?.into_iter().take(limit.unwrap_or(usize::MAX)) {
        let record: Record = serde_json::from_str(text).map_err(|error| {
            let expected = "{\"topic\": ..., \"annotations\": [{\"text\": ..., \"human-atomic-facts\": [{\"text\": ..., \"label\": \"S\"}]}]}";
            refused(name, line, format!("{error}; expected one JSON object a line as FActScore has them: {expected}"))
        })?;
        if !seen.insert(record.topic.clone()) {
            let topic = record.topic;
            return Err(refused(name, line, format!("the topic {topic:?} was there already: remove one")));
        }
        let facts =
            record.annotations.iter().flatten().flat_map(|annotation| annotation.facts.iter().flatten());
        let count = |label| facts.clone().filter(|fact| fact.label == label).count() as u64;
        let [supported, unsupported, irrelevant] = [Label::S, Label::NS, Label::IR].map(count);
        evaluation.count("facts_irrelevant", irrelevant);
        let counted = supported + unsupported + if irrelevant_as_unsupported { irrelevant } else { 0 };
        let standing = match &record.annotations {
            None => Standing::Abstained,
            Some(_) if counted == 0 => Standing::WithoutFacts,
            Some(_) => Standing::Answered(Tally { facts: counted, judged: counted, supported }),
        };
        let scores = scores(standing, gamma);
        for group in &record.cat {
            for (name, &score) in &scores {
                groups.entry(group.clone()).or_default().entry(name.clone()).or_default().push(score);
            }
        }
        items.push(Item { id: record.topic.clone(), scores, detail: detail(&record, standing) });
        standings.push(standing);
    }
    if items.is_empty() {
        return Err(empty(name, "holds no response"));
    }
    summarise(&mut evaluation, &standings, &items);
    let means = |scores: BTreeMap<String, Vec<f64>>| {
        scores.into_iter().map(|(name, scores)| (name, mean(&scores))).collect()
    };
    evaluation.groups = groups.into_iter().map(|(group, scores)| (group, means(scores))).collect();
    evaluation.settings =
        json!({ "labels": "human", "gamma": gamma, "irrelevant_as_unsupported": irrelevant_as_unsupported });
    Ok(Outcome { evaluation, items })
}

fn detail(record: &Record, standing: Standing) -> Map<String, serde_json::Value> {
    let sentences = record.annotations.as_ref().map(|annotations| {
        let sentence =
            |annotation: &Annotation| json!({ "text": annotation.text, "facts": annotation.facts });
        annotations.iter().map(sentence).collect::<Vec<_>>()
    });
    let mut detail = Map::new();
    detail.insert("response".into(), json!(record.output));
    detail.insert("sentences".into(), json!(sentences));
    detail.insert("standing".into(), json!(standing.name()));
    detail
}
