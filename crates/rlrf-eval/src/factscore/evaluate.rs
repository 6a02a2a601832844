//! From topics to responses, and from responses to scores.

use std::collections::HashMap;

use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::seam::Policy;
use rlrf_method::{Error, Message, Result};
use rlrf_retrieval::{Index, Options, Passage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::decomposition::{Decomposition, Sentence, decompose};
use super::score::{Standing, Tally, scores, summarise};
use super::verdict::{Question, Verdict, judge};
use super::{Abstention, BENCHMARK, Biography, DEFINITION};
use crate::evaluation::{Evaluation, Item, Outcome};
use crate::respond::{Context, Prompt, respond};

/// What stands for the topic in the prompt.
const ENTITY: &str = "<entity>";

/// The settings that decide the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// What is asked; `<entity>` stands for the topic.
    pub prompt: String,
    /// Longest response, in tokens.
    pub max_new_tokens: usize,
    /// Facts below which the penalty begins; 0 switches it off.
    pub gamma: f64,
    /// Passages that a fact is judged by.
    pub passages: usize,
    /// Which responses abstain.
    pub abstention: Abstention,
}

impl Definition {
    /// # Errors
    /// The first field out of its range.
    pub fn validate(&self) -> Result<()> {
        let refused = |field: &str, value: String, message: &str| {
            Err(Error::Config { field: field.into(), value, message: message.into() })
        };
        if !self.prompt.contains(ENTITY) {
            return refused(
                "prompt",
                format!("{:?}", self.prompt),
                "must contain <entity>, in place of the topic",
            );
        }
        if !(self.gamma.is_finite() && self.gamma >= 0.0) {
            return refused(
                "gamma",
                self.gamma.to_string(),
                "must be a number of at least 0; 0 is no penalty",
            );
        }
        if self.passages == 0 {
            return refused("passages", "0".into(), "must be at least 1: facts are judged by passages");
        }
        Ok(())
    }
}

/// What is known: pages in passages.
pub trait Knowledge {
    /// Identity of everything that is known.
    fn digest(&self) -> String;
    /// Whether the topic has a page.
    ///
    /// # Errors
    /// The knowledge cannot be read.
    fn has_page(&self, topic: &str) -> Result<bool>;
    /// The `top` passages of the topic's page that match the topic and the fact best, the best first.
    ///
    /// # Errors
    /// The knowledge cannot be read.
    fn passages(&self, topic: &str, fact: &str, top: usize) -> Result<Vec<Passage>>;
}

impl Knowledge for Index {
    fn digest(&self) -> String {
        self.manifest().digest.clone()
    }

    fn has_page(&self, topic: &str) -> Result<bool> {
        Index::has_page(self, topic).map_err(|error| Error::Backend(error.to_string()))
    }

    fn passages(&self, topic: &str, fact: &str, top: usize) -> Result<Vec<Passage>> {
        let options = Options { top, title: Some(topic.into()) };
        // The original's query.
        self.search(&format!("{topic} {fact}"), &options).map_err(|error| Error::Backend(error.to_string()))
    }
}

/// The policy's greedy answers about the topics. A topic without a page is not asked about: nothing could be checked.
///
/// # Errors
/// As [`respond`]; the knowledge cannot be read.
pub fn ask(
    context: &mut Context<'_>,
    policy: &mut dyn Policy,
    knowledge: &dyn Knowledge,
    (set, iteration): (&str, u32),
    topics: &[String],
    definition: &Definition,
) -> Result<Vec<Biography>> {
    definition.validate()?;
    let known = topics.iter().map(|topic| knowledge.has_page(topic)).collect::<Result<Vec<_>>>()?;
    let prompts: Vec<Prompt> = topics
        .iter()
        .zip(&known)
        .filter(|(_, known)| **known)
        .map(|(topic, _)| Prompt {
            id: topic.clone(),
            messages: vec![Message::user(definition.prompt.replace(ENTITY, topic))],
            streams: vec![stream(0, "evaluation", topic, 0)],
            sampling: Sampling::greedy(definition.max_new_tokens),
        })
        .collect();
    let mut answers =
        respond(context, &format!("evaluate {set}"), iteration, policy, &prompts)?.into_iter().flatten();
    let biography = |(topic, known): (&String, bool)| {
        let answer = if known { answers.next() } else { None };
        let complete = answer.as_ref().is_none_or(|answer| answer.complete);
        Biography { topic: topic.clone(), response: answer.map(|answer| answer.text), complete }
    };
    Ok(topics.iter().zip(known).map(biography).collect())
}

/// Scores responses. `judge_model` both breaks them into facts and judges the facts.
///
/// # Errors
/// As [`respond`]; the knowledge cannot be read, or has a page of no topic.
pub fn evaluate(
    context: &mut Context<'_>,
    judge_model: &mut dyn Policy,
    knowledge: &dyn Knowledge,
    (set, iteration): (&str, u32),
    biographies: &[Biography],
    definition: &Definition,
) -> Result<Outcome> {
    definition.validate()?;
    let mut standings = Vec::with_capacity(biographies.len());
    let mut answered: Vec<(&str, &str)> = Vec::new();
    for Biography { topic, response, .. } in biographies {
        let response = response.as_deref().unwrap_or_default();
        standings.push(match (knowledge.has_page(topic)?, definition.abstention.detects(response)) {
            (false, _) => Standing::NoPage,
            (true, true) => Standing::Abstained,
            (true, false) => {
                answered.push((topic, response));
                // Until its facts are known.
                Standing::Answered(Tally::default())
            }
        });
    }
    if standings.iter().all(|standing| *standing == Standing::NoPage) {
        return Err(Error::Backend(format!(
            "the index has a page of none of the {} topics: their titles must be those of the corpus",
            biographies.len()
        )));
    }
    let stage = format!("decompose {set}");
    let decomposition = decompose(context, &stage, iteration, judge_model, &answered)?;
    let questions = questions(&answered, &decomposition);
    let stage = format!("judge {set}");
    let verdicts =
        judge(context, &stage, iteration, judge_model, knowledge, &questions, definition.passages)?;
    let mut verdicts = verdicts.into_iter();
    let mut sentences = decomposition.responses.iter();
    let mut items = Vec::with_capacity(biographies.len());
    for (biography, standing) in biographies.iter().zip(&mut standings) {
        let mut detail = Map::new();
        detail.insert("response".into(), json!(biography.response));
        detail.insert("complete".into(), json!(biography.complete));
        if let Standing::Answered(_) = standing {
            let sentences = sentences.next().map(Vec::as_slice).unwrap_or_default();
            let facts = sentences.iter().map(|sentence| sentence.facts.len()).sum();
            let verdicts: Vec<Verdict> = verdicts.by_ref().take(facts).collect();
            tell(sentences, &verdicts, &mut detail);
            *standing = counted(&verdicts);
        }
        detail.insert("standing".into(), json!(standing.name()));
        items.push(Item { id: biography.topic.clone(), scores: scores(*standing, definition.gamma), detail });
    }
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    evaluation.iteration = iteration;
    summarise(&mut evaluation, &standings, &items);
    evaluation.count("incomplete", biographies.iter().filter(|biography| !biography.complete).count() as u64);
    evaluation.count("sentences", decomposition.sentences);
    evaluation.count("sentences_unreadable", decomposition.unreadable);
    evaluation.count("sentences_too_long", decomposition.too_long);
    evaluation.count("sentences_with_fewer_demonstrations", decomposition.fewer_demonstrations);
    evaluation.settings = serde_json::to_value(definition).unwrap_or_default();
    evaluation.digests.insert("judge".into(), judge_model.digest());
    evaluation.digests.insert("index".into(), knowledge.digest());
    Ok(Outcome { evaluation, items })
}

/// Every fact of every response, in their order.
fn questions<'a>(answered: &[(&'a str, &str)], decomposition: &'a Decomposition) -> Vec<Question<'a>> {
    let mut questions = Vec::new();
    for ((topic, _), sentences) in answered.iter().zip(&decomposition.responses) {
        for (number, fact) in sentences.iter().flat_map(|sentence| &sentence.facts).enumerate() {
            questions.push(Question { id: format!("{topic}/{number}"), topic, fact });
        }
    }
    questions
}

fn counted(verdicts: &[Verdict]) -> Standing {
    if verdicts.is_empty() {
        return Standing::WithoutFacts;
    }
    let count = |wanted: fn(Option<bool>) -> bool| {
        verdicts.iter().filter(|verdict| wanted(verdict.supported)).count() as u64
    };
    Standing::Answered(Tally {
        facts: verdicts.len() as u64,
        judged: count(|supported| supported.is_some()),
        supported: count(|supported| supported == Some(true)),
    })
}

/// Puts the facts with their verdicts into an item's detail. The passages of the page stand there once; a fact names
/// those that it was judged by as places in that list, the best first.
fn tell(sentences: &[Sentence], verdicts: &[Verdict], detail: &mut Map<String, Value>) {
    let mut passages: Vec<Value> = Vec::new();
    let mut places: HashMap<(&str, u64), usize> = HashMap::new();
    let mut verdicts = verdicts.iter();
    let mut told = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        let mut facts = Vec::with_capacity(sentence.facts.len());
        for (fact, verdict) in sentence.facts.iter().zip(verdicts.by_ref()) {
            let mut shown = Vec::with_capacity(verdict.passages.len());
            for Passage { title, text, number, score } in &verdict.passages {
                let place = *places.entry((text, *number)).or_insert_with(|| {
                    passages.push(json!({ "title": title, "number": number, "text": text }));
                    passages.len() - 1
                });
                shown.push(json!({ "passage": place, "score": score }));
            }
            let mut entry = json!({ "fact": fact, "supported": verdict.supported, "shown": shown });
            if let Some(probability) = verdict.probability {
                entry["probability"] = json!(probability);
            }
            if let Some(reply) = &verdict.reply {
                entry["reply"] = json!(reply);
            }
            facts.push(entry);
        }
        told.push(json!({ "text": sentence.text, "facts": facts }));
    }
    detail.insert("sentences".into(), json!(told));
    detail.insert("passages".into(), json!(passages));
}
