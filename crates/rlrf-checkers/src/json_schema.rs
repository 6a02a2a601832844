//! Responses that are JSON of a schema.

use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};
use serde_json::Value;

use crate::schema::Schema;
use crate::{bad, check};

/// So many faults are named; a response may have one for every line.
const NAMED_FAULTS: usize = 3;

/// Level 1 is no JSON, level 2 JSON of another form. One Markdown fence around the JSON is taken off.
pub(crate) struct JsonSchemaChecker {
    digest: String,
    schema: Schema,
}

impl JsonSchemaChecker {
    pub(crate) fn new(digest: String, schema: &Value) -> Result<Self> {
        let table = match schema {
            Value::String(text) => serde_json::from_str(text)
                .map_err(|error| bad("schema", format!("{text:?}"), format!("is not JSON: {error}")))?,
            table => table.clone(),
        };
        let schema = Schema::try_from(table).map_err(|error| bad("schema", schema, error.to_string()))?;
        Ok(Self { digest, schema })
    }
}

impl Checker for JsonSchemaChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
        let value: Value = match serde_json::from_str(unfenced(response)) {
            Ok(value) => value,
            Err(error) => return Ok(check(1, false, format!("The response is not JSON: {error}."))),
        };
        let faults = self.schema.faults(&value, "");
        if faults.is_empty() {
            return Ok(check(3, true, "The response is JSON of the form asked for.".into()));
        }
        let more = match faults.len().saturating_sub(NAMED_FAULTS) {
            0 => String::new(),
            more => format!("; and {more} faults more"),
        };
        let named = faults[..faults.len().min(NAMED_FAULTS)].join("; ");
        Ok(check(2, true, format!("The response is JSON, but not of the form asked for: {named}{more}.")))
    }
}

/// Without the Markdown fence around the whole text, where there is one.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inner.and_then(|inner| inner.split_once('\n')).map_or(text, |(_, body)| body)
}
