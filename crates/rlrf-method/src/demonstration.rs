//! Demonstrations: prompts with the completion to be learnt by supervised fine-tuning.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::config::{PairsConfig, RefineFeedback};
use crate::error::{Error, Result};
use crate::instruction::{Instruction, Message, Role, Text, records};
use crate::iteration::CandidateGroup;
use crate::select::refining_feedback;
use crate::template::Templates;

/// One prompt with its completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// The conversation; ends with a user's message.
    pub prompt: Vec<Message>,
    /// What the model should answer.
    pub completion: String,
}

#[derive(Deserialize)]
struct Record {
    prompt: Option<Text>,
    completion: Option<Text>,
    messages: Option<Vec<Message>>,
}

impl Demonstration {
    /// Reads TRL's formats: `prompt` and `completion` (each text or messages), or `messages` whose last one is the
    /// assistant's.
    ///
    /// # Errors
    /// Names file and line of the first bad record.
    pub fn read_jsonl(file: &str, bytes: &[u8]) -> Result<Vec<Self>> {
        let mut demonstrations = Vec::new();
        for record in records::<Record>(file, bytes)? {
            let (line, record) = record?;
            let bad =
                |message: &str| Error::Record { file: file.to_string(), line, message: message.to_string() };
            let (prompt, completion) = match (record.prompt, record.completion, record.messages) {
                (Some(prompt), Some(completion), None) => (prompt.into_prompt(), completion),
                (None, None, Some(mut messages)) => {
                    let last = messages.pop();
                    (messages, Text::Messages(last.into_iter().collect()))
                }
                _ => return Err(bad("needs `prompt` and `completion`, or `messages` alone")),
            };
            let Some(completion) = completion.into_response().filter(|text| !text.trim().is_empty()) else {
                return Err(bad("the completion must be one assistant message that is not empty"));
            };
            if prompt.last().is_none_or(|last| last.role != Role::User || last.content.trim().is_empty()) {
                return Err(bad("the prompt must end with a user message that is not empty"));
            }
            demonstrations.push(Self { prompt, completion });
        }
        if demonstrations.is_empty() {
            return Err(Error::Input {
                file: file.to_string(),
                message:
                    "holds no demonstration; expected one JSON object a line with `prompt` and `completion`"
                        .into(),
            });
        }
        Ok(demonstrations)
    }

    /// Refinements that show how to refine: draft and feedback as the policy was shown them, to the better response. One that
    /// came to its end counts, with at least the score of a chosen response, that is better than its draft by the margin of
    /// a pair; equal ones once.
    ///
    /// # Errors
    /// A template that cannot be rendered.
    pub fn of_refinements(
        instructions: &[Instruction],
        groups: &[CandidateGroup],
        templates: &Templates,
        shown: RefineFeedback,
        pairs: &PairsConfig,
    ) -> Result<Vec<Self>> {
        let mut demonstrations = Vec::new();
        for group in groups {
            let mut seen = HashSet::new();
            for refinement in &group.candidates {
                let Some(draft) = refinement.draft.map(|draft| &group.candidates[draft]) else { continue };
                let (Some(before), Some(after)) = (draft.score, refinement.score) else { continue };
                let is_better = after >= pairs.min_chosen_score && after - before >= pairs.margin;
                let texts = (draft.generated.text.trim(), refinement.generated.text.trim());
                if !is_better || !refinement.generated.complete || !seen.insert(texts) {
                    continue;
                }
                let feedback = refining_feedback(&draft.feedback, shown);
                let instruction = &instructions[group.instruction];
                let prompt = templates.refine(instruction, &draft.generated.text, &feedback)?;
                demonstrations.push(Self { prompt, completion: texts.1.to_string() });
            }
        }
        Ok(demonstrations)
    }

    /// As [`Demonstration::read_jsonl`] reads them.
    ///
    /// # Errors
    /// None for text.
    pub fn write_jsonl(demonstrations: &[Self]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for demonstration in demonstrations {
            serde_json::to_writer(&mut bytes, demonstration)
                .map_err(|error| Error::Backend(format!("a demonstration: {error}")))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::{Feedback, ParseOutcome};
    use crate::score::tests::candidate;
    use crate::score::{Candidate, CandidateKind};
    use crate::template::{DEFAULT_FEEDBACK, DEFAULT_REFINE};

    #[test]
    fn better_refinements_show_how_to_refine() {
        let judged = |text: &str, score: f64| Candidate {
            feedback: vec![Feedback::from_level("a", "too small".into(), 2, ParseOutcome::Parsed)],
            ..candidate(text, score)
        };
        let refined = |text: &str, score: f64| Candidate {
            kind: CandidateKind::Refined,
            draft: Some(1),
            ..judged(text, score)
        };
        let mut cut = refined("cut", 3.0);
        cut.generated.complete = false;
        let candidates = vec![
            judged("other", 3.0),
            judged("draft", 2.0),
            refined(" better ", 3.0),
            refined("better", 3.0),
            refined("worse", 1.0),
            refined("hardly", 2.2),
            cut,
        ];
        let instruction = Instruction {
            id: "i".into(),
            messages: vec![Message::user("question")],
            reference: None,
            answer: None,
        };
        let templates = Templates::new(DEFAULT_FEEDBACK, DEFAULT_REFINE).unwrap();
        let group = CandidateGroup::new(0, candidates);
        let pairs = PairsConfig::default();
        let found =
            Demonstration::of_refinements(&[instruction], &[group], &templates, RefineFeedback::All, &pairs)
                .unwrap();
        let [Demonstration { prompt, completion }] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((prompt[1].content.as_str(), completion.as_str()), ("draft", "better"));
        assert!(prompt[2].content.contains("too small"), "{prompt:?}");
        let bytes = Demonstration::write_jsonl(&found).unwrap();
        assert_eq!(Demonstration::read_jsonl("d.jsonl", &bytes).unwrap(), found);
    }

    #[test]
    fn reads_the_three_shapes() {
        let text = concat!(
            "{\"prompt\": \"q\", \"completion\": \"a\"}\n",
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n"
        );
        let read = Demonstration::read_jsonl("d.jsonl", text.as_bytes()).unwrap();
        assert!(
            read.iter()
                .all(|d| d == &Demonstration { prompt: vec![Message::user("q")], completion: "a".into() })
        );
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn an_empty_completion_is_an_error() {
        let message = Demonstration::read_jsonl("d.jsonl", b"{\"prompt\": \"q\", \"completion\": \" \"}")
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("d.jsonl:1: the completion"), "{message}");
    }
}
