//! Questions of pairwise judging: MT-bench's, Just-Eval's, or anybody's instructions.

use std::collections::HashMap;

use rlrf_method::digest::digest;
use rlrf_method::{Error, Message, Result, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::records::{id_text, read_records};

/// What two models answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairQuestion {
    /// Unique in its file.
    pub id: String,
    /// Its category or data set, for results by group.
    pub group: Option<String>,
    /// The conversation of the first turn; ends with a user's message.
    pub messages: Vec<Message>,
    /// What the user says in the later turns.
    pub further: Vec<String>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(alias = "question_id")]
    id: Option<Value>,
    category: Option<String>,
    dataset: Option<String>,
    turns: Option<Vec<String>>,
    instruction: Option<String>,
    prompt: Option<Value>,
    messages: Option<Vec<Message>>,
}

impl PairQuestion {
    /// Reads JSONL, or a JSON list, of questions: MT-bench's (`question_id`, `turns`, `category`), Just-Eval's (`id`,
    /// `instruction`, `dataset`), or instructions with `prompt` (text or messages) or `messages`. A record without an id gets
    /// the digest of its content as one. Of a question with several turns, the first `turns` are taken.
    ///
    /// # Errors
    /// Names file and place of the first bad record: broken JSON, no or an empty question, an id used twice; an empty file.
    pub fn read(file: &str, bytes: &[u8], turns: usize) -> Result<Vec<Self>> {
        let mut known = HashMap::new();
        let mut questions = Vec::new();
        for (line, record) in read_records::<Record>(file, bytes)? {
            let bad = |message: String| Error::Record { file: file.to_string(), line, message };
            let question = record.question(turns).map_err(bad)?;
            if let Some(first) = known.insert(question.id.clone(), line) {
                return Err(bad(format!(
                    "id {:?} was used on line {first} already; ids must be unique",
                    question.id
                )));
            }
            questions.push(question);
        }
        if questions.is_empty() {
            let message = "holds no question; expected one JSON object a line with `turns`, `instruction`, `prompt` or \
                `messages`";
            return Err(Error::Input { file: file.into(), message: message.into() });
        }
        Ok(questions)
    }

    /// Number of its turns.
    #[must_use]
    pub fn turns(&self) -> usize {
        1 + self.further.len()
    }

    /// The conversation that the next answer ends, after `answers` to the turns before.
    #[must_use]
    pub fn conversation(&self, answers: &[String]) -> Vec<Message> {
        let mut messages = self.messages.clone();
        for (answer, next) in answers.iter().zip(&self.further) {
            messages.push(Message::assistant(answer.as_str()));
            messages.push(Message::user(next.as_str()));
        }
        messages
    }
}

impl Record {
    fn question(self, turns: usize) -> std::result::Result<PairQuestion, String> {
        let mut further = Vec::new();
        let messages = match (self.turns, self.instruction, self.prompt, self.messages) {
            (Some(texts), None, None, None) => {
                let mut texts = texts.into_iter();
                let first = texts.next().ok_or("`turns` is empty")?;
                further = texts.take(turns.saturating_sub(1)).collect();
                vec![Message::user(first)]
            }
            (None, Some(text), None, None) | (None, None, Some(Value::String(text)), None) => {
                vec![Message::user(text)]
            }
            (None, None, Some(list), None) => serde_json::from_value(list)
                .map_err(|e| format!("`prompt`: {e}; expected text or a list of {{role, content}}"))?,
            (None, None, None, Some(messages)) => messages,
            _ => return Err("needs one of `turns`, `instruction`, `prompt` and `messages`".into()),
        };
        if messages.last().is_none_or(|last| last.role != Role::User) {
            return Err("the last message must have role `user`: it is what the models answer".into());
        }
        if messages
            .last()
            .map(|last| &last.content)
            .into_iter()
            .chain(&further)
            .any(|text| text.trim().is_empty())
        {
            return Err("a question is empty".into());
        }
        let id = match self.id {
            None => digest(&(&messages, &further)),
            Some(id) => id_text(&id)?,
        };
        // Just-Eval's records have both; its categories are of two only.
        Ok(PairQuestion { id, group: self.dataset.or(self.category), messages, further })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_every_origin() {
        let text = concat!(
            "{\"question_id\": 81, \"category\": \"writing\", \"turns\": [\"Write.\", \"Rewrite.\"]}\n",
            "{\"id\": 1, \"instruction\": \"Who?\", \"dataset\": \"koala\", \"category\": \"regular\"}\n",
            "{\"prompt\": \"Mine\"}\n",
            "{\"id\": \"m\", \"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"u\"}]}\n",
        );
        let read = PairQuestion::read("f", text.as_bytes(), 2).unwrap();
        assert_eq!(
            (read[0].id.as_str(), read[0].turns(), read[0].group.as_deref()),
            ("81", 2, Some("writing"))
        );
        let conversation = read[0].conversation(&["Text.".into()]);
        assert_eq!(
            conversation,
            [Message::user("Write."), Message::assistant("Text."), Message::user("Rewrite.")]
        );
        assert_eq!(read[1].group.as_deref(), Some("koala"));
        assert_eq!(read[2].id.len(), 32);
        assert_eq!(read[3].messages.len(), 2);
        assert_eq!(PairQuestion::read("f", text.as_bytes(), 1).unwrap()[0].turns(), 1);
    }

    #[test]
    fn garbage_names_file_and_line() {
        for (text, expected) in [
            ("", "f: holds no question"),
            ("{\"id\": 1}", "f:1: needs one of"),
            ("{\"id\": 1, \"turns\": []}", "f:1: `turns` is empty"),
            ("{\"id\": 1, \"turns\": [\"a\", \" \"]}", "f:1: a question is empty"),
            (
                "{\"id\": 1, \"prompt\": \"a\"}\n{\"id\": 1, \"prompt\": \"b\"}",
                "f:2: id \"1\" was used on line 1",
            ),
        ] {
            let message = PairQuestion::read("f", text.as_bytes(), 2).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
