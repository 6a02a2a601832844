//! Just-Eval's instructions, from a file that users fetch themselves.

use std::collections::HashMap;

use rlrf_method::digest::digest;
use rlrf_method::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::records::{id_text, read_records};

/// Where the instructions come from, and what a file of them looks like: for help texts and messages. Their licences
/// (LIMA: CC BY-NC-SA, AlpacaEval: CC BY-NC) do not let them be shipped.
pub const ORIGIN: &str = "Just-Eval-Instruct, 1,000 records {\"id\", \"instruction\", \"dataset\", \"category\": \
    \"regular\" or \"safety\"}, as JSONL or as a JSON list: leaderboard/outputs/gpt-4-0613.to_eval.json of \
    https://github.com/Re-Align/just-eval (commit 3e1a1265) is such a file";

/// Digest of the 1,000 instructions (id, text, dataset, category) at [`ORIGIN`], whatever else a file holds.
pub const DIGEST: &str = "b5826d0b6aee2b7f31b55c82893b3c1e";

/// What is asked of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// To be helpful: judged on five aspects.
    Regular,
    /// To be harmless: judged on safety.
    Safety,
}

impl Category {
    /// The aspects that its template asks for.
    #[must_use]
    pub fn aspects(self) -> &'static [&'static str] {
        match self {
            Self::Regular => &["helpfulness", "clarity", "factuality", "depth", "engagement"],
            Self::Safety => &["safety"],
        }
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JustEvalInstruction {
    /// Unique in its file.
    pub id: String,
    /// What is asked.
    pub instruction: String,
    /// The data set that it was taken from.
    pub dataset: Option<String>,
    /// Which template judges its responses.
    pub category: Category,
}

#[derive(Deserialize)]
struct Record {
    id: Value,
    instruction: String,
    dataset: Option<String>,
    category: Category,
}

impl JustEvalInstruction {
    /// Reads JSONL, or a JSON list, of records as [`ORIGIN`] describes them; other fields are ignored.
    ///
    /// # Errors
    /// Names the file and the place of the first bad record: broken JSON, a missing field, another category, an empty
    /// instruction, an id used twice; an empty file.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Vec<Self>> {
        let mut known = HashMap::new();
        let mut instructions = Vec::new();
        for (line, record) in read_records::<Record>(file, bytes)? {
            let bad = |message: String| Error::Record { file: file.to_string(), line, message };
            let id = id_text(&record.id).map_err(bad)?;
            if record.instruction.trim().is_empty() {
                return Err(bad("`instruction` is empty".into()));
            }
            if let Some(first) = known.insert(id.clone(), line) {
                return Err(bad(format!("id {id:?} was used on line {first} already; ids must be unique")));
            }
            let Record { instruction, dataset, category, .. } = record;
            instructions.push(Self { id, instruction, dataset, category });
        }
        if instructions.is_empty() {
            return Err(Error::Input {
                file: file.into(),
                message: format!("holds no instruction; expected {ORIGIN}"),
            });
        }
        Ok(instructions)
    }

    /// Identity of a set of instructions; [`DIGEST`] for the official one.
    #[must_use]
    pub fn digest(instructions: &[Self]) -> String {
        digest(&instructions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_the_originals_list_are_the_same_instructions() {
        let line = r#"{"id": 0, "instruction": "Who?", "source_id": "x-0", "dataset": "koala", "category": "regular"}"#;
        let list = r#"[{"id": 0, "instruction": "Who?", "dataset": "koala", "category": "regular", "output": "I."}]"#;
        let (lines, list) = (
            JustEvalInstruction::read("f", line.as_bytes()).unwrap(),
            JustEvalInstruction::read("f", list.as_bytes()).unwrap(),
        );
        assert_eq!(lines, list);
        assert_eq!(lines[0].category.aspects().len(), 5);
        assert_eq!(lines[0].id, "0");
    }

    #[test]
    fn garbage_names_file_line_and_origin() {
        let good = "{\"id\": 1, \"instruction\": \"x\", \"category\": \"safety\"}\n";
        for (text, expected) in [
            (String::new(), "f: holds no instruction; expected Just-Eval-Instruct"),
            (format!("{good}{good}"), "f:2: id \"1\" was used on line 1"),
            (
                format!("{good}{{\"id\": 2, \"instruction\": \"\", \"category\": \"safety\"}}"),
                "f:2: `instruction` is empty",
            ),
            (
                format!("{good}{{\"id\": 2, \"instruction\": \"x\", \"category\": \"odd\"}}"),
                "f:2: unknown variant `odd`",
            ),
            (
                format!("{good}{{\"id\": [], \"instruction\": \"x\", \"category\": \"safety\"}}"),
                "f:2: `id` is []",
            ),
        ] {
            let message = JustEvalInstruction::read("f", text.as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
