//! Files of records, as this project and as others write them.

use rlrf_method::instruction::records;
use rlrf_method::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The records of a JSONL file or of a JSON list, each with its place for messages: the line, or the place in the list.
///
/// # Errors
/// Not UTF-8, broken JSON, a record of another shape; names file and place.
pub fn read_records<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<Vec<(usize, T)>> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'[') {
        return records(file, bytes)?.collect();
    }
    let input = |message: String| Error::Input { file: file.to_string(), message };
    let list: Vec<Value> =
        serde_json::from_slice(bytes).map_err(|e| input(format!("{e}; expected a list of JSON objects")))?;
    let read = |(index, record): (usize, Value)| match serde_json::from_value(record) {
        Ok(record) => Ok((index + 1, record)),
        Err(error) => Err(input(format!("record {} of the list: {error}", index + 1))),
    };
    list.into_iter().enumerate().map(read).collect()
}

/// An id as files have it: text or a number.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn id_text(id: &Value) -> std::result::Result<String, String> {
    match id {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("`id` is {other}; expected text or a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_lists() {
        let lines = b"{\"id\": 1}\n\n{\"id\": 2}\n";
        let read: Vec<(usize, Value)> = read_records("f", lines).unwrap();
        assert_eq!(read.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 3]);
        let list: Vec<(usize, Value)> = read_records("f", b" [{\"id\": 1},\n {\"id\": 2}]").unwrap();
        assert_eq!(list[1], (2, serde_json::json!({ "id": 2 })));
        let message = read_records::<Vec<u8>>("f", b"[[1], {}]").unwrap_err().to_string();
        assert!(message.starts_with("f: record 2 of the list: "), "{message}");
        let message = read_records::<Value>("f", b"{\"id\": 1}\n{").unwrap_err().to_string();
        assert!(message.starts_with("f:2: "), "{message}");
    }
}
