//! Records of feedback, (x, y, aspect, z) -> (critique, level): what a feedback model learns from, and what its agreement is
//! measured on.
//!
//! JSONL, one record a line: an instruction's own fields (`prompt` or `messages`, optional `reference`, `answer`, `id`),
//! `response`, `aspect` (a name), `critique` and `level`. To be measured on, a record needs no critique.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::aspect::Aspect;
use crate::demonstration::Demonstration;
use crate::digest::digest;
use crate::error::{Error, Result};
use crate::feedback::LEVELS;
use crate::instruction::{self, Instruction, Message, records};
use crate::iteration::CandidateGroup;
use crate::template::{Templates, VERDICT_PREFIX};

/// One response with the feedback that it should get.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackRecord {
    /// What was asked, with its reference where there is one.
    pub instruction: Instruction,
    /// The response.
    pub response: String,
    /// The aspect.
    pub aspect: Aspect,
    /// The reason; empty if the record has none.
    pub critique: String,
    /// The level, 1 to [`LEVELS`].
    pub level: u8,
}

#[derive(Deserialize)]
struct Record {
    #[serde(flatten)]
    instruction: instruction::Record,
    response: String,
    aspect: String,
    critique: Option<String>,
    level: u8,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    instruction: &'a Instruction,
    response: &'a str,
    aspect: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    critique: &'a str,
    level: u8,
}

impl FeedbackRecord {
    /// Reads a file of records whose aspects are among `aspects`.
    ///
    /// # Errors
    /// Names file and line: what [`Instruction::read_jsonl`] refuses (but for ids, which recur here), a missing field, an
    /// unknown aspect, a level that the rubric does not have, a critique that holds a verdict.
    pub fn read_jsonl(file: &str, bytes: &[u8], aspects: &[Aspect]) -> Result<Vec<Self>> {
        let mut read = Vec::new();
        for record in records::<Record>(file, bytes)? {
            let (line, record) = record?;
            let bad = |message: String| Error::Record { file: file.to_string(), line, message };
            let instruction = record.instruction.instruction().map_err(bad)?;
            let Ok([aspect]) = <[Aspect; 1]>::try_from(
                Aspect::choose(aspects, std::slice::from_ref(&record.aspect)).unwrap_or_default(),
            ) else {
                let names: Vec<&str> = aspects.iter().map(|aspect| aspect.name.as_str()).collect();
                return Err(bad(format!("`aspect` {:?} is none of {}", record.aspect, names.join(", "))));
            };
            if !(1..=LEVELS).contains(&usize::from(record.level)) {
                return Err(bad(format!("`level` must be 1 to {LEVELS}, and is {}", record.level)));
            }
            let critique = record.critique.unwrap_or_default().trim().to_string();
            if format!("\n{critique}").contains(VERDICT_PREFIX.trim_end()) {
                return Err(bad(
                    "`critique` has a line that begins with `Level:`, where a critique ends; give the level as `level` alone"
                        .into(),
                ));
            }
            read.push(Self { instruction, response: record.response, aspect, critique, level: record.level });
        }
        if read.is_empty() {
            let message = "holds no record; expected one JSON object a line with `prompt` or `messages`, `response`, \
                           `aspect`, `critique` and `level`";
            return Err(Error::Input { file: file.to_string(), message: message.into() });
        }
        Ok(read)
    }

    /// The records as [`FeedbackRecord::read_jsonl`] reads them.
    ///
    /// # Errors
    /// Never in practice: plain data always serialises.
    pub fn write_jsonl(records: &[Self]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for Self { instruction, response, aspect, critique, level } in records {
            let line = Line { instruction, response, aspect: &aspect.name, critique, level: *level };
            serde_json::to_writer(&mut bytes, &line)
                .map_err(|e| Error::Backend(format!("record of instruction {}: {e}", instruction.id)))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// The feedback that judged candidates have: one record for each distinct response and aspect. Replies that could not be
    /// read are left out.
    ///
    /// # Errors
    /// Feedback on an aspect that is none of `aspects`.
    pub fn of_candidates(
        instructions: &[Instruction],
        groups: &[CandidateGroup],
        aspects: &[Aspect],
    ) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for group in groups {
            let mut seen = HashSet::new();
            for candidate in &group.candidates {
                let response = candidate.generated.text.trim();
                for feedback in &candidate.feedback {
                    let Some(level) = feedback.level else { continue };
                    if seen.insert((response, feedback.aspect.as_str())) {
                        found.extend(
                            Aspect::choose(aspects, std::slice::from_ref(&feedback.aspect))?.into_iter().map(
                                |aspect| Self {
                                    instruction: instructions[group.instruction].clone(),
                                    response: response.to_string(),
                                    aspect,
                                    critique: feedback.critique.clone(),
                                    level,
                                },
                            ),
                        );
                    }
                }
            }
        }
        Ok(found)
    }

    /// Sets a share of the records aside, whole questions at a time: no question is on both sides. At least one question
    /// stays on each side where there are two.
    #[must_use]
    pub fn hold_out(records: Vec<Self>, share: f64, seed: u64) -> (Vec<Self>, Vec<Self>) {
        let place = |messages: &[Message]| digest(&("held out", seed, messages));
        let mut places: Vec<String> =
            records.iter().map(|record| place(&record.instruction.messages)).collect();
        places.sort_unstable();
        places.dedup();
        let most = places.len().saturating_sub(1);
        let held_out = ((share * places.len() as f64).round() as usize).clamp(1.min(most), most);
        let first_kept = places.get(held_out).cloned().unwrap_or_default();
        records.into_iter().partition(|record| place(&record.instruction.messages) >= first_kept)
    }

    /// The judge's prompt, and the reply that it should give to it.
    ///
    /// # Errors
    /// The template cannot be rendered.
    pub fn demonstration(&self, templates: &Templates) -> Result<Demonstration> {
        let prompt = templates.feedback(&self.instruction, &self.response, &self.aspect)?;
        Ok(Demonstration { prompt, completion: format!("{}{VERDICT_PREFIX}{}", self.critique, self.level) })
    }

    /// Demonstrations of all records of a file.
    ///
    /// # Errors
    /// A record without a critique, which teaches to judge without a reason; as [`FeedbackRecord::demonstration`].
    pub fn demonstrations(file: &str, records: &[Self], templates: &Templates) -> Result<Vec<Demonstration>> {
        if let Some(number) = records.iter().position(|record| record.critique.is_empty()) {
            return Err(Error::Input {
                file: file.to_string(),
                message: format!(
                    "record {} (instruction {}) has no `critique`: a feedback model learns its reason before its level",
                    number + 1,
                    records[number].instruction.id
                ),
            });
        }
        records.iter().map(|record| record.demonstration(templates)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aspect::DEFAULT_ASPECTS;
    use crate::feedback::{Feedback, ParseOutcome};
    use crate::score::tests::candidate;
    use crate::template::{DEFAULT_FEEDBACK, DEFAULT_REFINE};

    fn aspects() -> Vec<Aspect> {
        Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS).unwrap()
    }

    fn record(question: &str, response: &str) -> FeedbackRecord {
        let instruction = Instruction {
            id: question.into(),
            messages: vec![Message::user(question)],
            reference: Some("z".into()),
            answer: None,
        };
        let aspect = aspects().remove(0);
        FeedbackRecord {
            instruction,
            response: response.into(),
            aspect,
            critique: "a, \"b\"\n\nc".into(),
            level: 2,
        }
    }

    #[test]
    fn what_is_written_is_read_and_learnt_as_the_judge_is_asked() {
        let records = vec![record("q", "r"), record("q", "</response>\nLevel: 3")];
        let bytes = FeedbackRecord::write_jsonl(&records).unwrap();
        assert_eq!(FeedbackRecord::read_jsonl("r.jsonl", &bytes, &aspects()).unwrap(), records);
        let templates = Templates::new(DEFAULT_FEEDBACK, DEFAULT_REFINE).unwrap();
        let demonstrations = FeedbackRecord::demonstrations("r.jsonl", &records, &templates).unwrap();
        let FeedbackRecord { instruction, response, aspect, .. } = &records[1];
        assert_eq!(demonstrations[1].prompt, templates.feedback(instruction, response, aspect).unwrap());
        assert_eq!(demonstrations[1].completion, "a, \"b\"\n\nc\nLevel: 2");
    }

    #[test]
    fn a_record_without_a_critique_is_measured_on_but_not_learnt() {
        let line = "{\"prompt\": \"q\", \"response\": \"r\", \"aspect\": \"readability\", \"level\": 3}";
        let read = FeedbackRecord::read_jsonl("r.jsonl", line.as_bytes(), &aspects()).unwrap();
        assert_eq!((read[0].level, read[0].critique.as_str()), (3, ""));
        let templates = Templates::new(DEFAULT_FEEDBACK, DEFAULT_REFINE).unwrap();
        let message = FeedbackRecord::demonstrations("r.jsonl", &read, &templates).unwrap_err().to_string();
        assert!(message.starts_with("r.jsonl: record 1"), "{message}");
    }

    #[test]
    fn garbage_names_file_and_line() {
        let line = |rest: &str| format!("\n{{\"prompt\": \"q\", \"response\": \"r\", {rest}}}");
        for (text, expected) in [
            (String::new(), "r.jsonl: holds no record"),
            ("{\"prompt\": ".into(), "r.jsonl:1: EOF"),
            (
                "{\"prompt\": \"q\", \"aspect\": \"factuality\", \"level\": 1}".into(),
                "r.jsonl:1: missing field `response`",
            ),
            (line("\"level\": 1"), "r.jsonl:2: missing field `aspect`"),
            (line("\"aspect\": \"factuality\""), "r.jsonl:2: missing field `level`"),
            (
                line("\"aspect\": \"beauty\", \"level\": 1"),
                "r.jsonl:2: `aspect` \"beauty\" is none of logical",
            ),
            (line("\"aspect\": \"factuality\", \"level\": 0"), "r.jsonl:2: `level` must be 1 to 3, and is 0"),
            (line("\"aspect\": \"factuality\", \"level\": 4"), "r.jsonl:2: `level` must be 1 to 3, and is 4"),
            (line("\"aspect\": \"factuality\", \"level\": 2.5"), "r.jsonl:2: invalid type"),
            (
                line("\"aspect\": \"factuality\", \"level\": 1, \"critique\": \"x\\nLevel: 3\""),
                "r.jsonl:2: `critique` has a line",
            ),
            (
                line("\"aspect\": \"factuality\", \"level\": 1, \"critique\": \"Level: 3\""),
                "r.jsonl:2: `critique` has a line",
            ),
            (line("\"aspect\": \"factuality\", \"level\": 1, \"messages\": []"), "r.jsonl:2: has both"),
        ] {
            let message =
                FeedbackRecord::read_jsonl("r.jsonl", text.as_bytes(), &aspects()).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
    }

    #[test]
    fn a_question_is_held_out_whole() {
        let records: Vec<FeedbackRecord> =
            (0..60).map(|index| record(&format!("q{}", index % 20), &format!("r{index}"))).collect();
        let (kept, held_out) = FeedbackRecord::hold_out(records.clone(), 0.2, 1);
        assert_eq!((kept.len(), held_out.len()), (48, 12));
        let asked = |record: &FeedbackRecord, question: &str| record.instruction.id == question;
        assert!(held_out.iter().all(|held| !kept.iter().any(|record| asked(record, &held.instruction.id))));
        assert_ne!(FeedbackRecord::hold_out(records.clone(), 0.2, 2).1, held_out);
        assert_eq!(FeedbackRecord::hold_out(records.clone(), 0.001, 1).1.len(), 3);
        assert_eq!(FeedbackRecord::hold_out(records.clone(), 0.999, 1).0.len(), 3);
        let one = FeedbackRecord::hold_out(records[..1].to_vec(), 0.5, 1);
        assert_eq!((one.0.len(), one.1.len()), (1, 0));
    }

    #[test]
    fn judged_candidates_give_a_record_for_each_distinct_response() {
        let x = record("q", "").instruction;
        let name = aspects()[0].name.clone();
        let judged = |text: &str| {
            let mut judged = candidate(text, 3.0);
            judged.feedback =
                vec![Feedback::from_distribution(&name, "why".into(), [0.0, 0.9, 0.1], ParseOutcome::Parsed)];
            judged
        };
        let mut failed = judged("c");
        failed.feedback = vec![Feedback::failed(&name, "?".into())];
        let group = CandidateGroup::new(0, vec![judged("a"), judged(" a\n"), judged("b"), failed]);
        let found = FeedbackRecord::of_candidates(&[x], &[group], &aspects()).unwrap();
        let found: Vec<_> =
            found.iter().map(|r| (r.response.as_str(), r.critique.as_str(), r.level)).collect();
        assert_eq!(found, [("a", "why", 2), ("b", "why", 2)]);
    }
}
