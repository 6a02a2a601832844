//! Demonstrations: prompts with the completion to be learnt by supervised fine-tuning.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::instruction::{Message, Role, Text, records};

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
