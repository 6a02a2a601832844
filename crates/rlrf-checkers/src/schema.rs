//! JSON schemas: the keywords that describe the form of an object, and no others.
//!
//! Of the drafts up to 2020-12: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `items`, `minItems`,
//! `maxItems`, `minLength`, `maxLength`, `pattern`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `anyOf`, and the
//! schemas `true` and `false`. Annotations (`title`, `description`, ...) are passed over. Any other keyword is an error: a schema is
//! kept as a whole or not at all. Patterns have the syntax of the `regex` crate.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, from_value};

/// Keywords that demand nothing.
const ANNOTATIONS: [&str; 7] = ["$schema", "$id", "$comment", "title", "description", "default", "examples"];

/// A schema.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) enum Schema {
    Anything,
    Nothing,
    Of(Box<Keywords>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Keywords {
    r#type: Types,
    r#enum: Option<Vec<Value>>,
    #[serde(deserialize_with = "even_null")]
    r#const: Option<Value>,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    additional_properties: Option<Schema>,
    items: Option<Schema>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    pattern: Option<Pattern>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: Option<f64>,
    exclusive_maximum: Option<f64>,
    any_of: Option<Vec<Schema>>,
}

/// The types that a value may have; any, if there are none.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Value")]
struct Types(Vec<Type>);

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

impl TryFrom<Value> for Schema {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        match value {
            Value::Bool(true) => Ok(Self::Anything),
            Value::Bool(false) => Ok(Self::Nothing),
            Value::Object(mut keywords) => {
                keywords.retain(|keyword, _| !ANNOTATIONS.contains(&keyword.as_str()));
                from_value(Value::Object(keywords)).map(Self::Of)
            }
            other => {
                Err(serde::de::Error::custom(format!("{other} is no schema: expected a table or a boolean")))
            }
        }
    }
}

impl TryFrom<Value> for Types {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        let several = if value.is_array() { value } else { Value::Array(vec![value]) };
        from_value(several).map(Self)
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(pattern: String) -> Result<Self, regex::Error> {
        Regex::new(&pattern).map(Self)
    }
}

/// `null` is a value like any other here, not the lack of one.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_boolean(),
            // 1.0 is an integer.
            Self::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

impl Schema {
    /// What is wrong with `value`, which stands at `path` (a JSON pointer).
    pub(crate) fn faults(&self, value: &Value, path: &str) -> Vec<String> {
        match self {
            Self::Anything => Vec::new(),
            Self::Nothing => vec![at(path, "is not allowed")],
            Self::Of(keywords) => keywords.faults(value, path),
        }
    }
}

impl Keywords {
    fn faults(&self, value: &Value, path: &str) -> Vec<String> {
        let types = &self.r#type.0;
        if !types.is_empty() && !types.iter().any(|kind| kind.holds(value)) {
            let names: Vec<&str> = types.iter().map(|kind| kind.name()).collect();
            return vec![at(path, &format!("must be {}", names.join(" or ")))];
        }
        let mut faults = Vec::new();
        if self.r#enum.as_ref().is_some_and(|values| !values.iter().any(|one| equal(one, value))) {
            let values: Vec<String> = self.r#enum.iter().flatten().map(Value::to_string).collect();
            faults.push(at(path, &format!("must be one of {}", values.join(", "))));
        }
        if let Some(one) = self.r#const.as_ref().filter(|one| !equal(one, value)) {
            faults.push(at(path, &format!("must be {one}")));
        }
        if let Some(forms) = &self.any_of
            && forms.iter().all(|form| !form.faults(value, path).is_empty())
        {
            faults.push(at(path, &format!("has none of the {} forms allowed", forms.len())));
        }
        match value {
            Value::Object(members) => faults.extend(self.faults_of_members(members, path)),
            Value::Array(items) => {
                faults.extend(within(items.len(), self.min_items, self.max_items, path, "items"));
                for (place, item) in items.iter().enumerate() {
                    let schema = self.items.iter();
                    faults.extend(schema.flat_map(|schema| schema.faults(item, &format!("{path}/{place}"))));
                }
            }
            Value::String(text) => {
                let length = text.chars().count();
                faults.extend(within(length, self.min_length, self.max_length, path, "characters"));
                if let Some(Pattern(pattern)) = self.pattern.as_ref().filter(|p| !p.0.is_match(text)) {
                    faults.push(at(path, &format!("must match `{pattern}`")));
                }
            }
            Value::Number(number) => {
                faults.extend(self.faults_of_number(number.as_f64().unwrap_or(f64::NAN), path))
            }
            Value::Null | Value::Bool(_) => {}
        }
        faults
    }

    fn faults_of_members(&self, members: &serde_json::Map<String, Value>, path: &str) -> Vec<String> {
        let missing = self.required.iter().filter(|name| !members.contains_key(*name));
        let mut faults: Vec<String> = missing.map(|name| at(path, &format!("lacks {name:?}"))).collect();
        for (name, member) in members {
            if let Some(schema) = self.properties.get(name).or(self.additional_properties.as_ref()) {
                faults.extend(schema.faults(member, &format!("{path}/{name}")));
            }
        }
        faults
    }

    fn faults_of_number(&self, number: f64, path: &str) -> Vec<String> {
        let within = |bound: Option<f64>, keeps: bool, word: &str| {
            bound.filter(|_| !keeps).map(|bound| at(path, &format!("must be {word} {bound}")))
        };
        [
            within(self.minimum, self.minimum.is_none_or(|bound| number >= bound), "at least"),
            within(self.maximum, self.maximum.is_none_or(|bound| number <= bound), "at most"),
            within(
                self.exclusive_minimum,
                self.exclusive_minimum.is_none_or(|bound| number > bound),
                "above",
            ),
            within(
                self.exclusive_maximum,
                self.exclusive_maximum.is_none_or(|bound| number < bound),
                "below",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A number of parts between two bounds.
fn within(
    found: usize,
    least: Option<usize>,
    most: Option<usize>,
    path: &str,
    parts: &str,
) -> Option<String> {
    if let Some(least) = least.filter(|&least| found < least) {
        return Some(at(path, &format!("has {found} {parts}, fewer than {least}")));
    }
    let most = most.filter(|&most| found > most)?;
    Some(at(path, &format!("has {found} {parts}, more than {most}")))
}

/// A fault and its place.
fn at(path: &str, fault: &str) -> String {
    if path.is_empty() { format!("it {fault}") } else { format!("{path} {fault}") }
}

/// 1 and 1.0 are the same number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}
