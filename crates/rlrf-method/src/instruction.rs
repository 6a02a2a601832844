//! Instructions: what the policy is asked, with optional reference knowledge and an optional exact answer.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::error::{Error, Result};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model about the whole conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name in chat templates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A user's message.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }
    /// A model's message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// A prompt or a response as TRL's files have it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Plain(String),
    Messages(Vec<Message>),
}

impl Text {
    pub(crate) fn into_prompt(self) -> Vec<Message> {
        match self {
            Self::Plain(text) => vec![Message::user(text)],
            Self::Messages(messages) => messages,
        }
    }

    /// The text of a response; none if it is not one assistant message.
    pub(crate) fn into_response(self) -> Option<String> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Messages(mut messages) => match (messages.pop(), messages.is_empty()) {
                (Some(Message { role: Role::Assistant, content }), true) => Some(content),
                _ => None,
            },
        }
    }
}

/// One instruction `x`, with its reference `z` and its exact answer where they exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Unique in its file.
    pub id: String,
    /// The conversation to be answered; ends with a user's message.
    pub messages: Vec<Message>,
    /// Reference knowledge `z` for the feedback: a gold solution, retrieved passages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The exact answer, for checkers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// An instruction as files have it.
#[derive(Deserialize)]
pub(crate) struct Record {
    id: Option<serde_json::Value>,
    prompt: Option<serde_json::Value>,
    messages: Option<Vec<Message>>,
    reference: Option<String>,
    answer: Option<serde_json::Value>,
}

impl Record {
    /// Whether the file names it.
    pub(crate) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// The instruction, or what is wrong with the record.
    pub(crate) fn instruction(self) -> std::result::Result<Instruction, String> {
        let messages = match (self.prompt, self.messages) {
            (Some(_), Some(_)) => return Err("has both `prompt` and `messages`; give one".into()),
            (None, None) => {
                return Err("needs a field `prompt` (text) or `messages` (list of {role, content})".into());
            }
            (Some(serde_json::Value::String(text)), None) => vec![Message::user(text)],
            (Some(list @ serde_json::Value::Array(_)), None) => serde_json::from_value(list)
                .map_err(|e| format!("`prompt`: {e}; expected text or a list of {{role, content}}"))?,
            (Some(other), None) => {
                return Err(format!("`prompt` is {}; expected text or a list of messages", kind(&other)));
            }
            (None, Some(messages)) => messages,
        };
        match messages.last() {
            None => return Err("`messages` is empty; give at least one user message".into()),
            Some(last) if last.role != Role::User => {
                return Err("the last message must have role `user`: it is what the policy answers".into());
            }
            Some(last) if last.content.trim().is_empty() => return Err("the prompt is empty".into()),
            Some(_) => {}
        }
        let answer = match self.answer {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(text)) => Some(text),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            Some(other) => return Err(format!("`answer` is {}; expected text or a number", kind(&other))),
        };
        let id = match self.id {
            None | Some(serde_json::Value::Null) => digest(&(&messages, &self.reference, &answer)),
            Some(serde_json::Value::String(text)) if !text.is_empty() => text,
            Some(serde_json::Value::Number(number)) => number.to_string(),
            Some(other) => return Err(format!("`id` is {}; expected text or a number", kind(&other))),
        };
        Ok(Instruction { id, messages, reference: self.reference, answer })
    }
}

/// Refuses an id that an earlier line has.
#[derive(Default)]
pub(crate) struct UniqueIds(HashMap<String, usize>);

impl UniqueIds {
    /// `is_given` says whether the file has it, in place of a digest of the record.
    pub(crate) fn add(&mut self, id: &str, is_given: bool, line: usize) -> std::result::Result<(), String> {
        match self.0.insert(id.to_string(), line) {
            Some(first) if is_given => {
                Err(format!("id {id:?} was used on line {first} already; ids must be unique"))
            }
            Some(first) => {
                Err(format!("is the same as line {first}: take one of them out, or give each an `id`"))
            }
            None => Ok(()),
        }
    }
}

impl Instruction {
    /// The text of the conversation as one string, for prompts to a judge.
    #[must_use]
    pub fn text(&self) -> String {
        match self.messages.as_slice() {
            [only] => only.content.clone(),
            many => many
                .iter()
                .map(|m| format!("{}: {}", m.role.name(), m.content))
                .collect::<Vec<_>>()
                .join("\n\n"),
        }
    }

    /// Reads JSONL: one object a line with `prompt` (text or messages) or `messages`, optional `reference`,
    /// `answer` and `id`. Other fields are ignored, blank lines skipped; a record without `id` gets the digest
    /// of its content as one.
    ///
    /// # Errors
    /// Names `file` and line of the first bad record: broken JSON, missing or empty prompt, wrong type, duplicated id.
    pub fn read_jsonl(file: &str, bytes: &[u8]) -> Result<Vec<Self>> {
        let mut instructions = Vec::new();
        let mut ids = UniqueIds::default();
        for record in records::<Record>(file, bytes)? {
            let (line, record) = record?;
            let bad = |message: String| Error::Record { file: file.to_string(), line, message };
            let has_id = record.has_id();
            let instruction = record.instruction().map_err(bad)?;
            ids.add(&instruction.id, has_id, line).map_err(bad)?;
            instructions.push(instruction);
        }
        if instructions.is_empty() {
            return Err(Error::Input {
                file: file.to_string(),
                message: "holds no instruction; expected one JSON object a line with `prompt` or `messages`"
                    .into(),
            });
        }
        Ok(instructions)
    }
}

/// The records of a JSONL file with their line numbers; the one way in which this project reads JSONL.
///
/// # Errors
/// The file as a whole is not UTF-8; each item's error names file and line.
pub fn records<'a, T: serde::de::DeserializeOwned + 'a>(
    file: &'a str,
    bytes: &'a [u8],
) -> Result<impl Iterator<Item = Result<(usize, T)>> + 'a> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        Error::Record {
            file: file.to_string(),
            line,
            message: format!("not UTF-8 at byte {} of the file; convert the file to UTF-8", e.valid_up_to()),
        }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(move |(index, line)| {
        // A list of values would pass for a record with its fields in order.
        let record = match line.trim_start().starts_with('{') {
            true => serde_json::from_str(line).map_err(|error| strip_position(&error.to_string())),
            false => Err("is no JSON object".to_string()),
        };
        record.map(|record| (index + 1, record)).map_err(|message| Error::Record {
            file: file.to_string(),
            line: index + 1,
            message: format!("{message}; expected one JSON object a line"),
        })
    }))
}

/// serde_json counts lines inside the one line it sees; only the column is of use.
fn strip_position(message: &str) -> String {
    message.replace(" at line 1 column ", " at column ")
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(text) if text.is_empty() => "empty",
        serde_json::Value::String(_) => "text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        Instruction::read_jsonl("in.jsonl", bytes).unwrap_err().to_string()
    }

    #[test]
    fn reads_prompts_and_messages() {
        let text = concat!(
            "{\"id\": 7, \"prompt\": \"Add 1 and 2\", \"answer\": 3, \"source\": \"mine\"}\n\n",
            "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief\"}, {\"role\": \"user\", \"content\": \"Hi\"}], \"reference\": \"z\"}\n"
        );
        let read = Instruction::read_jsonl("in.jsonl", text.as_bytes()).unwrap();
        assert_eq!(read[0].id, "7");
        assert_eq!(read[0].answer.as_deref(), Some("3"));
        assert_eq!(read[1].messages.len(), 2);
        assert_eq!(read[1].reference.as_deref(), Some("z"));
        assert_eq!(read[1].id.len(), 32);
    }

    #[test]
    fn garbage_names_file_and_line() {
        let good = "{\"id\": \"a\", \"prompt\": \"x\"}\n";
        for (bytes, expected) in [
            (b"".to_vec(), "in.jsonl: holds no instruction"),
            (format!("{good}{{\"prompt\": ").into_bytes(), "in.jsonl:2: EOF"),
            (format!("{good}{{\"question\": \"x\"}}").into_bytes(), "in.jsonl:2: needs a field `prompt`"),
            (format!("{good}{{\"prompt\": 3}}").into_bytes(), "in.jsonl:2: `prompt` is a number"),
            (format!("{good}{{\"prompt\": \"  \"}}").into_bytes(), "in.jsonl:2: the prompt is empty"),
            (format!("{good}{good}").into_bytes(), "in.jsonl:2: id \"a\" was used on line 1"),
            (
                format!("{good}{{\"prompt\": \"x\", \"answer\": []}}").into_bytes(),
                "in.jsonl:2: `answer` is a list",
            ),
            (format!("{good}{{\"messages\": []}}").into_bytes(), "in.jsonl:2: `messages` is empty"),
            (format!("{good}[1]").into_bytes(), "in.jsonl:2: "),
            ([good.as_bytes(), b"{\"prompt\": \"\xff\"}"].concat(), "in.jsonl:2: not UTF-8"),
        ] {
            let message = error(&bytes);
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
    }
}
