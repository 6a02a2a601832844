//! Errors of TOML files: file, line, and the name that may have been meant.

use crate::error::Error;

/// What is wrong with `text`, the content of `file`, at its line.
#[must_use]
pub fn toml_error(file: &str, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    Error::Record { file: file.to_string(), line, message: with_suggestion(error.message()) }
}

/// The line, from 1, of a byte of `text`.
#[must_use]
pub fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|&b| b == b'\n').count() + 1
}

/// serde says ``unknown field `x`, expected one of `a`, `b` ``: adds the nearest name.
#[must_use]
pub fn with_suggestion(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown")) else {
        return message.to_string();
    };
    match nearest(unknown, known.iter().copied()) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.to_string(),
    }
}

/// The name among `known` that `unknown` is likely a misspelling of.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |name: &str| strsim::jaro_winkler(name, unknown);
    let nearest = known.into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    nearest.filter(|name| similarity(name) > 0.7)
}
