//! JSON objects read field by field, with errors that name file and field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Reads a JSON object.
pub(crate) fn read_json_object(file: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read(file).map_err(|source| Error::io(file, "read", source))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::file(file, "is JSON, but not an object")),
        Err(error) => Err(Error::file(file, format!("is not valid JSON: {error}"))),
    }
}

/// Typed access to an object's fields; null counts as absent.
pub(crate) struct Fields<'a> {
    pub(crate) object: &'a Map<String, Value>,
    pub(crate) file: &'a Path,
    /// Path of the object inside the file, with its trailing dot.
    pub(crate) prefix: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn error(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::field(self.file, format!("{}{field}", self.prefix), problem)
    }

    pub(crate) fn wrong_type(&self, field: &str, expected: &str) -> Error {
        let found = self.object.get(field).unwrap_or(&Value::Null);
        self.error(field, format!("expected {expected}, found {found}"))
    }

    pub(crate) fn missing(&self, field: &str) -> Error {
        self.error(field, "missing")
    }

    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, field: &str) -> Result<Option<&'a str>> {
        self.get(field)
            .map(|value| value.as_str().ok_or_else(|| self.wrong_type(field, "a string")))
            .transpose()
    }

    pub(crate) fn boolean(&self, field: &str) -> Result<Option<bool>> {
        self.get(field)
            .map(|value| value.as_bool().ok_or_else(|| self.wrong_type(field, "true or false")))
            .transpose()
    }

    pub(crate) fn count(&self, field: &str) -> Result<Option<usize>> {
        let expected = "a non-negative whole number";
        let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        self.get(field).map(|value| count(value).ok_or_else(|| self.wrong_type(field, expected))).transpose()
    }

    /// A size is positive and below 2^31, so that products of a few of them are far from overflow.
    pub(crate) fn size(&self, field: &str) -> Result<Option<usize>> {
        let expected = "a positive whole number below 2^31";
        let size = |value: &Value| {
            value.as_u64().filter(|size| (1..1 << 31).contains(size)).map(|size| size as usize)
        };
        self.get(field).map(|value| size(value).ok_or_else(|| self.wrong_type(field, expected))).transpose()
    }

    pub(crate) fn required_size(&self, field: &str) -> Result<usize> {
        self.size(field)?.ok_or_else(|| self.missing(field))
    }

    pub(crate) fn positive(&self, field: &str) -> Result<Option<f64>> {
        let positive = |value: &Value| value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        self.get(field)
            .map(|value| positive(value).ok_or_else(|| self.wrong_type(field, "a positive number")))
            .transpose()
    }

    pub(crate) fn required_positive(&self, field: &str) -> Result<f64> {
        self.positive(field)?.ok_or_else(|| self.missing(field))
    }

    pub(crate) fn object_field(&self, field: &'a str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| self.wrong_type(field, "an object"))?;
        let prefix = if field == "rope_scaling" { "rope_scaling." } else { "rope_parameters." };
        Ok(Some(Fields { object, file: self.file, prefix }))
    }
}
