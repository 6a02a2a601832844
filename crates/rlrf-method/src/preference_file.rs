//! Files of preference pairs in TRL's formats, JSONL, one pair a line:
//!
//! - conversational: `prompt` (messages), `chosen` and `rejected` (one assistant message each);
//! - plain: the three as text;
//! - conversational with an implicit prompt: `chosen` and `rejected` are whole conversations, and the prompt is what they
//!   begin with alike. It is read only.
//!
//! For a reward model a line may have a `margin`; it is read only, too.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::error::{Error, Result};
use crate::instruction::{Message, Role, Text, records};
use crate::pairs::{PreferenceGroup, TrainedCandidate};

/// How pairs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PreferenceFormat {
    /// Messages.
    #[default]
    Conversational,
    /// Text: of prompts that are one user message.
    Plain,
}

/// A line as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Conversational { prompt: &'a [Message], chosen: [Message; 1], rejected: [Message; 1] },
    Plain { prompt: &'a str, chosen: &'a str, rejected: &'a str },
}

/// A line as it is read.
#[derive(Deserialize)]
struct Record {
    prompt: Option<Text>,
    chosen: Text,
    rejected: Text,
    margin: Option<f64>,
}

impl Record {
    /// The prompt and the two responses, or what is wrong.
    fn explicit(self) -> std::result::Result<(Vec<Message>, String, String), String> {
        let (prompt, chosen, rejected) = match self {
            // As TRL does: whole conversations say better than a text what the prompt is.
            Self {
                prompt: None | Some(Text::Plain(_)),
                chosen: Text::Messages(chosen),
                rejected: Text::Messages(rejected),
                ..
            } if chosen.len() > 1 || rejected.len() > 1 => {
                let (prompt, chosen, rejected) = split(chosen, rejected);
                (prompt, Text::Messages(chosen), Text::Messages(rejected))
            }
            Self { prompt: Some(prompt), chosen, rejected, .. } => (prompt.into_prompt(), chosen, rejected),
            Self { prompt: None, .. } => {
                let message = "needs a `prompt`, or `chosen` and `rejected` as whole conversations (lists of messages) that \
                               begin with the same prompt";
                return Err(message.into());
            }
        };
        if prompt.last().is_none_or(|last| last.role != Role::User || last.content.trim().is_empty()) {
            return Err("the prompt must end with a user message that is not empty".into());
        }
        let response = |text: Text, field: &str| {
            let message = || {
                format!(
                    "`{field}` must be text or one assistant message (after the prompt that `chosen` and `rejected` share)"
                )
            };
            text.into_response().ok_or_else(message)
        };
        let (chosen, rejected) = (response(chosen, "chosen")?, response(rejected, "rejected")?);
        if chosen == rejected {
            return Err("`chosen` and `rejected` are the same text".into());
        }
        Ok((prompt, chosen, rejected))
    }
}

/// What two conversations begin with alike, and the rest of each.
fn split(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> (Vec<Message>, Vec<Message>, Vec<Message>) {
    let alike = chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
    // Equal responses are not part of the prompt.
    let prompt = alike.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
    let (chosen_rest, rejected_rest) = (chosen.split_off(prompt), rejected.split_off(prompt));
    (chosen, chosen_rest, rejected_rest)
}

/// Reads preference pairs in any of TRL's formats and gathers the pairs of the same prompt in one group.
///
/// # Errors
/// Names file and line: broken JSON, a missing field, a response that is not one assistant message, two that are equal.
pub fn read_preferences(file: &str, bytes: &[u8]) -> Result<Vec<PreferenceGroup>> {
    let mut groups: Vec<PreferenceGroup> = Vec::new();
    let mut index_of: HashMap<String, usize> = HashMap::new();
    for record in records::<Record>(file, bytes)? {
        let (line, record) = record?;
        let bad = |message: String| Error::Record { file: file.to_string(), line, message };
        let margin = record.margin;
        let (messages, chosen, rejected) = record.explicit().map_err(bad)?;
        let id = digest(&messages);
        let group = *index_of.entry(id.clone()).or_insert_with(|| {
            groups.push(PreferenceGroup {
                instruction: id,
                messages,
                candidates: Vec::new(),
                pairs: Vec::new(),
                margins: Vec::new(),
            });
            groups.len() - 1
        });
        let PreferenceGroup { candidates, pairs, margins, .. } = &mut groups[group];
        let mut place = |text: String| {
            candidates.iter().position(|candidate| candidate.text == text).unwrap_or_else(|| {
                candidates.push(TrainedCandidate { text, tokens: Vec::new(), complete: true });
                candidates.len() - 1
            })
        };
        pairs.push((place(chosen), place(rejected)));
        margins.push(margin);
    }
    if groups.is_empty() {
        return Err(Error::Input {
            file: file.to_string(),
            message: "holds no pair; expected one JSON object a line with `prompt`, `chosen` and `rejected`"
                .into(),
        });
    }
    Ok(groups)
}

/// The groups' pairs as [`read_preferences`] reads them.
///
/// # Errors
/// A prompt of several messages, or of one that is not the user's, has no plain form.
pub fn write_preferences(groups: &[PreferenceGroup], format: PreferenceFormat) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for PreferenceGroup { instruction, messages, candidates, pairs, .. } in groups {
        for &(chosen, rejected) in pairs {
            let (chosen, rejected) = (candidates[chosen].text.as_str(), candidates[rejected].text.as_str());
            let line = match (format, messages.as_slice()) {
                (PreferenceFormat::Conversational, prompt) => Line::Conversational {
                    prompt,
                    chosen: [Message::assistant(chosen)],
                    rejected: [Message::assistant(rejected)],
                },
                (PreferenceFormat::Plain, [Message { role: Role::User, content }]) => {
                    Line::Plain { prompt: content, chosen, rejected }
                }
                (PreferenceFormat::Plain, _) => {
                    return Err(Error::Backend(format!(
                        "instruction {instruction}: a prompt that is not one user message has no plain form; write the \
                         conversational format"
                    )));
                }
            };
            serde_json::to_writer(&mut bytes, &line)
                .map_err(|e| Error::Backend(format!("pair of instruction {instruction}: {e}")))?;
            bytes.push(b'\n');
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn group(messages: Vec<Message>) -> PreferenceGroup {
        let candidate =
            |text: &str| TrainedCandidate { text: text.into(), tokens: Vec::new(), complete: true };
        PreferenceGroup {
            instruction: digest(&messages),
            messages,
            candidates: ["a", "b\n", "Level: 3 \"c\""].map(candidate).to_vec(),
            pairs: vec![(0, 1), (0, 2), (2, 1)],
            margins: vec![None; 3],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let groups = [group(vec![Message::user("q")]), group(vec![Message::user(" other\n")])];
        for format in [PreferenceFormat::Conversational, PreferenceFormat::Plain] {
            let bytes = write_preferences(&groups, format).unwrap();
            assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 6);
            assert_eq!(read_preferences("p.jsonl", &bytes).unwrap(), groups);
        }
        let system = Message { role: Role::System, content: "s".into() };
        let long = [group(vec![system, Message::user("q"), Message::assistant("r"), Message::user("q2")])];
        let bytes = write_preferences(&long, PreferenceFormat::Conversational).unwrap();
        assert_eq!(read_preferences("p.jsonl", &bytes).unwrap(), long);
        let message = write_preferences(&long, PreferenceFormat::Plain).unwrap_err().to_string();
        assert!(message.contains("has no plain form"), "{message}");
    }

    #[test]
    fn the_formats_are_trls() {
        let groups = [group(vec![Message::user("q")])];
        let first = |format| -> Value {
            let bytes = write_preferences(&groups, format).unwrap();
            serde_json::from_slice(bytes.split(|&byte| byte == b'\n').next().unwrap()).unwrap()
        };
        assert_eq!(
            first(PreferenceFormat::Plain),
            json!({ "prompt": "q", "chosen": "a", "rejected": "b\n" })
        );
        assert_eq!(
            first(PreferenceFormat::Conversational),
            json!({
                "prompt": [{ "role": "user", "content": "q" }],
                "chosen": [{ "role": "assistant", "content": "a" }],
                "rejected": [{ "role": "assistant", "content": "b\n" }],
            })
        );
    }

    /// TRL's `maybe_extract_prompt` and `extract_prompt` (trl/data_utils.py), as its documentation shows them.
    #[test]
    fn an_implicit_prompt_is_what_both_conversations_begin_with() {
        let user = |text: &str| json!({ "role": "user", "content": text });
        let assistant = |text: &str| json!({ "role": "assistant", "content": text });
        let read = |record: Value| read_preferences("p.jsonl", record.to_string().as_bytes());
        let sky = json!({
            "chosen": [user("What color is the sky?"), assistant("It is blue.")],
            "rejected": [user("What color is the sky?"), assistant("It is green.")],
        });
        let expected = json!({
            "prompt": [user("What color is the sky?")],
            "chosen": [assistant("It is blue.")], "rejected": [assistant("It is green.")],
        });
        assert_eq!(read(sky.clone()).unwrap(), read(expected).unwrap());
        let mut with_text = sky;
        with_text["prompt"] = json!("What color is the sky?");
        assert_eq!(read(with_text).unwrap()[0].messages, [Message::user("What color is the sky?")]);
        let turns = json!({
            "chosen": [user("a"), assistant("b"), user("c"), assistant("d")],
            "rejected": [user("a"), assistant("b"), user("c"), assistant("e")],
        });
        assert_eq!(read(turns).unwrap()[0].messages.len(), 3);
    }

    #[test]
    fn a_pair_may_have_a_margin() {
        let line = b"{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\", \"margin\": 1.5}";
        assert_eq!(read_preferences("p.jsonl", line).unwrap()[0].margins, [Some(1.5)]);
    }

    #[test]
    fn garbage_names_file_and_line() {
        let user = "{\"role\": \"user\", \"content\": \"q\"}";
        let assistant = "{\"role\": \"assistant\", \"content\": \"a\"}";
        let good = "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}\n";
        let must = "p.jsonl:2: `chosen` must be text or one assistant message";
        for (line, expected) in [
            ("{\"prompt\": ".to_string(), "p.jsonl:2: EOF"),
            ("[1]".into(), "p.jsonl:2: "),
            ("{\"prompt\": \"q\", \"chosen\": \"a\"}".into(), "p.jsonl:2: missing field `rejected`"),
            ("{\"chosen\": \"a\", \"rejected\": \"b\"}".into(), "p.jsonl:2: needs a `prompt`"),
            (
                "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"a\"}".into(),
                "p.jsonl:2: `chosen` and `rejected` are",
            ),
            (
                "{\"prompt\": \" \", \"chosen\": \"a\", \"rejected\": \"b\"}".into(),
                "p.jsonl:2: the prompt must end",
            ),
            (
                "{\"prompt\": [], \"chosen\": \"a\", \"rejected\": \"b\"}".into(),
                "p.jsonl:2: the prompt must end",
            ),
            (
                format!("{{\"prompt\": [{assistant}], \"chosen\": \"a\", \"rejected\": \"b\"}}"),
                "p.jsonl:2: the prompt must end",
            ),
            (format!("{{\"prompt\": \"q\", \"chosen\": [{user}], \"rejected\": \"b\"}}"), must),
            (
                format!("{{\"prompt\": [{user}], \"chosen\": [{user}, {assistant}], \"rejected\": \"b\"}}"),
                must,
            ),
            (
                format!("{{\"chosen\": [{assistant}], \"rejected\": [{assistant}]}}"),
                "p.jsonl:2: needs a `prompt`",
            ),
            (
                format!("{{\"chosen\": [{user}, {assistant}], \"rejected\": [{user}, {assistant}]}}"),
                "p.jsonl:2: `chosen` and `rejected` are",
            ),
            (
                format!("{{\"chosen\": [{user}, {assistant}], \"rejected\": [{assistant}]}}"),
                "p.jsonl:2: the prompt must end",
            ),
            (format!("{{\"chosen\": [{user}, {user}], \"rejected\": [{user}, {assistant}]}}"), must),
            ("{\"prompt\": 1, \"chosen\": \"a\", \"rejected\": \"b\"}".into(), "p.jsonl:2: "),
        ] {
            let message =
                read_preferences("p.jsonl", format!("{good}{line}").as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
        assert!(read_preferences("p.jsonl", b"\n").unwrap_err().to_string().starts_with("p.jsonl: holds no"));
    }
}
