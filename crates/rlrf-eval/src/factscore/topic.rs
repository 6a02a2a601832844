//! Who is asked about, and what was answered, as files have it.

use std::collections::HashSet;

use rlrf_method::{Error, Result};
use serde::Deserialize;

/// A response about a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Biography {
    /// Title of the person's page.
    pub topic: String,
    /// What was answered; none if nobody was asked.
    pub response: Option<String>,
    /// Whether the model ended the answer itself, and not the length limit.
    pub complete: bool,
}

/// The topics of a text file with one title a line, as `prompt_entities.txt` of the release.
///
/// # Errors
/// Text that is not UTF-8, a title twice, or no title at all.
pub fn read_topics(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let mut topics = Vec::new();
    let mut seen = HashSet::new();
    for (line, text) in lines(name, bytes)? {
        if !seen.insert(text) {
            return Err(refused(name, line, format!("the topic {text:?} was there already: remove one")));
        }
        topics.push(text.to_string());
    }
    if topics.is_empty() {
        return Err(empty(name, "holds no topic: one title a line is expected"));
    }
    Ok(topics)
}

/// Responses: one JSON object a line with `topic` and `output`, as the release has its models' outputs; `response` is
/// understood, too. A topic has one.
///
/// # Errors
/// A line that is something else (with its number), a topic twice, or no line at all.
pub fn read_responses(name: &str, bytes: &[u8]) -> Result<Vec<Biography>> {
    #[derive(Deserialize)]
    struct Record {
        topic: String,
        #[serde(alias = "response")]
        output: String,
    }
    let mut biographies: Vec<Biography> = Vec::new();
    let mut seen = HashSet::new();
    for (line, text) in lines(name, bytes)? {
        let record: Record = serde_json::from_str(text).map_err(|error| {
            refused(
                name,
                line,
                format!("{error}; expected one JSON object a line: {{\"topic\": ..., \"output\": ...}}"),
            )
        })?;
        if record.topic.trim().is_empty() {
            return Err(refused(name, line, "`topic` is empty".into()));
        }
        if !seen.insert(record.topic.clone()) {
            let topic = record.topic;
            return Err(refused(name, line, format!("the topic {topic:?} was there already: remove one")));
        }
        biographies.push(Biography { topic: record.topic, response: Some(record.output), complete: true });
    }
    if biographies.is_empty() {
        return Err(empty(name, "holds no response"));
    }
    Ok(biographies)
}

/// The lines that are not empty, with their numbers from 1.
pub(crate) fn lines<'t>(name: &str, bytes: &'t [u8]) -> Result<Vec<(usize, &'t str)>> {
    let line = |(index, line): (usize, &'t [u8])| match std::str::from_utf8(line) {
        Ok(text) => Ok((index + 1, text.trim())),
        Err(_) => Err(refused(name, index + 1, "not UTF-8".into())),
    };
    let lines: Result<Vec<_>> = bytes.split(|&byte| byte == b'\n').enumerate().map(line).collect();
    Ok(lines?.into_iter().filter(|(_, text)| !text.is_empty()).collect())
}

pub(crate) fn refused(name: &str, line: usize, message: String) -> Error {
    Error::Record { file: name.into(), line, message }
}

pub(crate) fn empty(name: &str, message: &str) -> Error {
    Error::Input { file: name.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_topic_or_response_is_named_by_its_line() {
        let bad = |read: Result<()>| read.unwrap_err().to_string();
        let topics = |text: &[u8]| bad(read_topics("t.txt", text).map(drop));
        assert!(topics(b"A\n\nB\nA\n").starts_with("t.txt:4: the topic \"A\""));
        assert!(topics(b" \n").contains("no topic"));
        assert!(topics(b"A\n\xff\n").starts_with("t.txt:2: not UTF-8"));
        let responses = |text: &str| bad(read_responses("r.jsonl", text.as_bytes()).map(drop));
        assert!(responses("{\"topic\": \"A\"}").starts_with("r.jsonl:1: missing field `output`"));
        assert!(responses("{\"topic\": \"A\", \"output\": \"\"}\n{").starts_with("r.jsonl:2: EOF"));
        assert!(responses("{\"topic\": \" \", \"output\": \"\"}").contains("`topic` is empty"));
        assert!(responses("").contains("no response"));
    }
}
