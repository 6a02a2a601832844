//! Responses and judges' replies from files.

use std::collections::{BTreeMap, HashMap};

use rlrf_method::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Category, Judged, JustEvalInstruction, Missing, Response};
use crate::records::{id_text, read_records};

#[derive(Deserialize)]
struct ReplyRecord {
    id: Value,
    result: Option<String>,
    #[serde(alias = "output", alias = "output_cand")]
    response: Option<String>,
    dataset: Option<String>,
    category: Option<Category>,
}

#[derive(Deserialize)]
struct ResponseRecord {
    id: Option<Value>,
    #[serde(alias = "output", alias = "output_cand")]
    response: String,
    #[serde(alias = "num_tokens")]
    tokens: Option<usize>,
}

fn from_file(text: String, tokens: Option<usize>) -> Response {
    Response { text, tokens, complete: true }
}

/// Reads judges' replies: JSONL, or the JSON list that the original writes, of `{"id", "result"}` where `result` is the
/// judge's raw text; optional `response` (`output`, `output_cand`) for lengths, `dataset`, `category`. A record without
/// `result` counts as one that has no reply.
///
/// With `instructions`, data set and category are theirs, and an instruction without a record has no reply.
///
/// # Errors
/// Names file and place: broken JSON, a wrong type, an id used twice or not among the instructions; an empty file.
pub fn read_replies(
    (file, bytes): (&str, &[u8]),
    instructions: Option<&[JustEvalInstruction]>,
) -> Result<Vec<Judged>> {
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut judged = Vec::new();
    for (line, record) in read_records::<ReplyRecord>(file, bytes)? {
        let bad = |message: String| Error::Record { file: file.to_string(), line, message };
        let id = id_text(&record.id).map_err(bad)?;
        if let Some(first) = known.insert(id.clone(), line) {
            return Err(bad(format!("id {id:?} was used on line {first} already; give one reply an id")));
        }
        judged.push(Judged {
            id,
            dataset: record.dataset,
            category: record.category,
            response: record.response.map(|text| from_file(text, None)),
            missing: record.result.is_none().then_some(Missing::NoReply),
            replies: record.result.into_iter().collect(),
        });
    }
    if judged.is_empty() {
        let message = "holds no reply; expected one JSON object a line with `id` and `result`".into();
        return Err(Error::Input { file: file.into(), message });
    }
    match instructions {
        Some(instructions) => join(file, judged, &known, instructions),
        None => Ok(judged),
    }
}

fn join(
    file: &str,
    judged: Vec<Judged>,
    lines: &HashMap<String, usize>,
    instructions: &[JustEvalInstruction],
) -> Result<Vec<Judged>> {
    let mut by_id: BTreeMap<String, Judged> =
        judged.into_iter().map(|judged| (judged.id.clone(), judged)).collect();
    let joined = instructions
        .iter()
        .map(|instruction| {
            let found = by_id.remove(&instruction.id);
            let (response, replies, missing) = match found {
                Some(found) => (found.response, found.replies, found.missing),
                None => (None, Vec::new(), Some(Missing::NoReply)),
            };
            Judged {
                id: instruction.id.clone(),
                dataset: instruction.dataset.clone(),
                category: Some(instruction.category),
                response,
                replies,
                missing,
            }
        })
        .collect();
    match by_id.keys().next() {
        Some(id) => Err(Error::Record {
            file: file.into(),
            line: lines.get(id).copied().unwrap_or_default(),
            message: format!("id {id:?} is not among the instructions"),
        }),
        None => Ok(joined),
    }
}

/// Reads responses to `instructions`: JSONL, or a JSON list such as the original's `*.to_eval.json`, of `{"id",
/// "response"}` (or `output`), optional `tokens`. Records without any `id` are taken in the order of the instructions.
/// An instruction without a record has no response.
///
/// # Errors
/// Names file and place: broken JSON, a wrong type, an id used twice or not among the instructions, ids in some records
/// only, another number of records where there are no ids.
pub fn read_responses(
    (file, bytes): (&str, &[u8]),
    instructions: &[JustEvalInstruction],
) -> Result<Vec<Option<Response>>> {
    let places: HashMap<&str, usize> = instructions
        .iter()
        .enumerate()
        .map(|(place, instruction)| (instruction.id.as_str(), place))
        .collect();
    let mut responses = vec![None; instructions.len()];
    let records = read_records::<ResponseRecord>(file, bytes)?;
    let with_id = records.iter().filter(|(_, record)| record.id.is_some()).count();
    if with_id == 0 && records.len() != instructions.len() {
        let message = format!(
            "{} responses without `id` to {} instructions: give each its `id`, or one a line in their order",
            records.len(),
            instructions.len()
        );
        return Err(Error::Input { file: file.into(), message });
    }
    for (order, (line, record)) in records.into_iter().enumerate() {
        let bad = |message: String| Error::Record { file: file.to_string(), line, message };
        let place = match &record.id {
            None if with_id == 0 => order,
            None => return Err(bad("has no `id`, but other records do".into())),
            Some(id) => {
                let id = id_text(id).map_err(bad)?;
                *places
                    .get(id.as_str())
                    .ok_or_else(|| bad(format!("id {id:?} is not among the instructions")))?
            }
        };
        if responses[place].replace(from_file(record.response, record.tokens)).is_some() {
            return Err(bad(format!("a second response to {:?}", instructions[place].id)));
        }
    }
    Ok(responses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instructions() -> Vec<JustEvalInstruction> {
        let text = "{\"id\": 1, \"instruction\": \"x\", \"category\": \"regular\", \"dataset\": \"koala\"}\n\
                    {\"id\": 2, \"instruction\": \"y\", \"category\": \"safety\"}\n";
        JustEvalInstruction::read("i", text.as_bytes()).unwrap()
    }

    #[test]
    fn replies_with_and_without_instructions() {
        let text =
            b"[{\"id\": 1, \"result\": \"{}\", \"output_cand\": \"two words\", \"parsed_result\": {}}]";
        let alone = read_replies(("f", text), None).unwrap();
        assert_eq!((alone.len(), alone[0].category, alone[0].dataset.clone()), (1, None, None));
        let joined = read_replies(("f", text), Some(&instructions())).unwrap();
        assert_eq!(joined[0].response.as_ref().unwrap().text, "two words");
        assert_eq!(
            (joined[0].category, joined[0].dataset.as_deref()),
            (Some(Category::Regular), Some("koala"))
        );
        assert_eq!(joined[1].missing, Some(Missing::NoReply));
    }

    #[test]
    fn responses_by_id_or_in_order() {
        let by_id =
            read_responses(("f", b"{\"id\": \"2\", \"output\": \"b\", \"num_tokens\": 3}"), &instructions())
                .unwrap();
        assert_eq!(by_id, [None, Some(from_file("b".into(), Some(3)))]);
        let in_order =
            read_responses(("f", b"{\"response\": \"a\"}\n{\"response\": \"b\"}"), &instructions()).unwrap();
        assert_eq!(in_order[1].as_ref().unwrap().text, "b");
    }

    #[test]
    fn garbage_names_file_and_place() {
        let reply = "{\"id\": 1, \"result\": \"\"}\n";
        for (text, expected) in [
            (String::new(), "f: holds no reply"),
            (format!("{reply}{reply}"), "f:2: id \"1\" was used on line 1"),
            (
                format!("{reply}{{\"id\": 7, \"result\": \"\"}}"),
                "f:2: id \"7\" is not among the instructions",
            ),
            (format!("{reply}{{\"id\": 2, \"result\": 3}}"), "f:2: invalid type"),
        ] {
            let message =
                read_replies(("f", text.as_bytes()), Some(&instructions())).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        for (text, expected) in [
            ("{\"response\": \"a\"}", "f: 1 responses without `id` to 2 instructions"),
            ("{\"id\": 1, \"response\": \"a\"}\n{\"response\": \"a\"}", "f:2: has no `id`"),
            (
                "{\"id\": 1, \"response\": \"a\"}\n{\"id\": 1, \"response\": \"a\"}",
                "f:2: a second response to \"1\"",
            ),
            ("{\"id\": 9, \"response\": \"a\"}", "f:1: id \"9\" is not among the instructions"),
        ] {
            let message = read_responses(("f", text.as_bytes()), &instructions()).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
