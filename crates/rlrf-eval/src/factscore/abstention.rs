//! Whether a response declines to answer: the two rules of the original's `abstain_detection.py`.

use serde::{Deserialize, Serialize};

/// Which responses are abstentions. An empty response is one under every rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Abstention {
    /// None but the empty ones: the original's default.
    Never,
    /// One that begins with "I'm sorry", or asks to "provide more".
    Generic,
    /// One whose first paragraph says, in one of the phrases of Perplexity AI, that nothing was found.
    PerplexityAi,
}

/// What Perplexity AI says when it found nothing, in small letters.
const NOTHING_FOUND: [&str; 11] = [
    "i could not find any information",
    "the search results do not provide",
    "there is no information",
    "there are no search results",
    "there are no provided search results",
    "not provided in the search results",
    "is not mentioned in the provided search results",
    "there seems to be a mistake in the question",
    "not sources found",
    "no sources found",
    "try a more general question",
];

impl Abstention {
    /// Whether `response` abstains.
    #[must_use]
    pub fn detects(self, response: &str) -> bool {
        if response.trim().is_empty() {
            return true;
        }
        match self {
            Self::Never => false,
            Self::Generic => response.starts_with("I'm sorry") || response.contains("provide more"),
            Self::PerplexityAi => {
                let plain = without_citations(response).to_lowercase();
                let first = plain.split("\n\n").next().unwrap_or_default();
                first.trim().is_empty() || NOTHING_FOUND.iter().any(|phrase| first.contains(phrase))
            }
        }
    }
}

/// The text without citations such as `[3]` and the space around them.
fn without_citations(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let after = &rest[start + 1..];
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 && after[digits..].starts_with(']') {
            plain.push_str(rest[..start].trim_end());
            rest = after[digits + 1..].trim_start();
        } else {
            plain.push_str(&rest[..=start]);
            rest = after;
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_knows_its_phrases() {
        use Abstention::{Generic, Never, PerplexityAi};
        let cases = [
            ("He is an actor.", [false, false, false]),
            ("I'm sorry, I do not know him.", [false, true, false]),
            ("Well, I'm sorry.", [false, false, false]),
            ("Could you provide more context?", [false, true, false]),
            ("There is no information about him [1].", [false, false, true]),
            ("The question: there IS no [2] information.", [false, false, false]),
            ("He is an actor.\n\nThere is no information about his youth.", [false, false, false]),
            (" \n", [true, true, true]),
            ("", [true, true, true]),
        ];
        for (response, expected) in cases {
            let found = [Never, Generic, PerplexityAi].map(|rule| rule.detects(response));
            assert_eq!(found, expected, "{response:?}");
        }
    }

    #[test]
    fn citations_go_with_their_spaces() {
        assert_eq!(without_citations("He [1] acts [23]. [x] [] a[4"), "Heacts. [x] [] a[4");
    }
}
