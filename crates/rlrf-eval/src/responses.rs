//! Responses from a file, to be scored without a model.

use std::collections::HashMap;

use rlrf_method::instruction::records;
use rlrf_method::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Record {
    id: Option<Value>,
    response: Texts,
}

/// Reads JSONL with `response`, a text or a list of texts (samples), and `id`; for each of `ids`, in their order, its
/// responses. Lines without any `id` are taken in order. An id that has no line has no responses: it is for the
/// benchmark to count it.
///
/// # Errors
/// Names `file` and line: broken JSON, an id that is not among `ids` or was there already, more lines than ids, ids on
/// some lines only, lists of different lengths.
pub fn read_responses(file: &str, bytes: &[u8], ids: &[&str]) -> Result<Vec<Vec<String>>> {
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, &id)| (id, place)).collect();
    let mut responses: Vec<Option<(usize, Vec<String>)>> = vec![None; ids.len()];
    let mut first: Option<(bool, usize)> = None;
    for (number, record) in records::<Record>(file, bytes)?.enumerate() {
        let (line, Record { id, response }) = record?;
        let bad = |message: String| Error::Record { file: file.into(), line, message };
        let id =
            id.filter(|id| !id.is_null()).map(|id| id.as_str().map_or_else(|| id.to_string(), String::from));
        let texts = match response {
            Texts::One(text) => vec![text],
            Texts::Several(texts) if texts.is_empty() => {
                return Err(bad("`response` is an empty list".into()));
            }
            Texts::Several(texts) => texts,
        };
        let &mut (named, samples) = first.get_or_insert((id.is_some(), texts.len()));
        if named != id.is_some() {
            return Err(bad(
                "some lines have an `id` and some do not; give it on every line or on none".into()
            ));
        }
        if samples != texts.len() {
            let here = texts.len();
            return Err(bad(format!(
                "{here} responses; the first line has {samples}: give every item as many"
            )));
        }
        let place = match &id {
            Some(id) => *places
                .get(id.as_str())
                .ok_or_else(|| bad(format!("id {id:?} is not one of the {} items", ids.len())))?,
            None if number < ids.len() => number,
            None => return Err(bad(format!("more lines than the {} items", ids.len()))),
        };
        if let Some((earlier, _)) = &responses[place] {
            return Err(bad(format!("id {:?} was used on line {earlier} already", ids[place])));
        }
        responses[place] = Some((line, texts));
    }
    if first.is_none() {
        let message =
            "holds no response; expected one JSON object a line with `response`, and `id` if you like";
        return Err(Error::Input { file: file.into(), message: message.into() });
    }
    Ok(responses.into_iter().map(|found| found.map(|(_, texts)| texts).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Vec<String>>> {
        read_responses("r.jsonl", text.as_bytes(), &["a", "b", "3"])
    }

    #[test]
    fn by_id_or_by_order_and_what_is_missing_is_empty() {
        let by_id = read("{\"id\": 3, \"response\": \"z\"}\n{\"id\": \"a\", \"response\": \"x\"}").unwrap();
        assert_eq!(by_id, [vec!["x".to_string()], vec![], vec!["z".into()]]);
        let by_order =
            read("{\"response\": [\"x\", \"y\"]}\n\n{\"id\": null, \"response\": [\"\", \"z\"]}").unwrap();
        assert_eq!(by_order, [vec!["x".to_string(), "y".into()], vec![String::new(), "z".into()], vec![]]);
    }

    #[test]
    fn garbage_names_file_and_line() {
        let (a, plain) = ("{\"id\": \"a\", \"response\": \"x\"}\n", "{\"response\": \"x\"}\n");
        for (text, expected) in [
            (format!("{a}{a}"), "r.jsonl:2: id \"a\" was used on line 1"),
            (
                format!("{a}{{\"id\": \"c\", \"response\": \"x\"}}"),
                "r.jsonl:2: id \"c\" is not one of the 3 items",
            ),
            (format!("{plain}{plain}{plain}{plain}"), "r.jsonl:4: more lines than the 3 items"),
            (format!("{a}{plain}"), "r.jsonl:2: some lines have an `id`"),
            (
                format!("{plain}{{\"response\": [\"x\", \"y\"]}}"),
                "r.jsonl:2: 2 responses; the first line has 1",
            ),
            ("{\"response\": []}".into(), "r.jsonl:1: `response` is an empty list"),
            ("{\"response\": 3}".into(), "r.jsonl:1: "),
            ("{\"responses\": \"x\"}".into(), "r.jsonl:1: missing field `response`"),
            ("\n".into(), "r.jsonl: holds no response"),
        ] {
            let message = read(&text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
    }
}
