//! The secret that a server may want.

use std::fmt;

/// An API key. It is sent to the server, and never shown: not in errors, logs or rows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key as the server gave it out; none where it is empty.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        (!key.is_empty()).then(|| Self(key.to_string()))
    }

    /// The value of `RLRF_API_KEY`, else of `OPENAI_API_KEY`.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        ["RLRF_API_KEY", "OPENAI_API_KEY"]
            .iter()
            .find_map(|name| std::env::var(name).ok().and_then(|value| Self::new(&value)))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// `text` without the key: some servers repeat it in their errors.
    pub(crate) fn hide_in(key: Option<&Self>, text: &str) -> String {
        key.map_or_else(|| text.to_string(), |key| text.replace(&key.0, "[key]"))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([hidden])")
    }
}
