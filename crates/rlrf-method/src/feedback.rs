//! Feedback `f(x, y, c_a, z)`: a written critique and a level for one aspect.

use serde::{Deserialize, Serialize};

/// Number of levels of a rubric: 1 = fails, 2 = partly, 3 = fully.
pub const LEVELS: usize = 3;

/// Who gave a feedback. A checker's verdict is never mixed up with a model's judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedbackSource {
    /// A feedback model (the policy itself, another local model, an endpoint).
    Model,
    /// A program that decides exactly.
    Checker,
}

/// What became of a judge's reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParseOutcome {
    /// Read as asked for.
    Parsed,
    /// Read after a mend (a critique cut at its length limit, for instance).
    Repaired,
    /// Not readable; excluded from scores and counted. Holds the raw reply, or why there is none.
    Failed(String),
}

/// One judgement of one response on one aspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Name of the aspect.
    pub aspect: String,
    /// The reason, written before the level.
    pub critique: String,
    /// The level, 1 to [`LEVELS`]; none if the reply could not be read.
    pub level: Option<u8>,
    /// The judge's own probabilities of the levels, where logits are available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<[f64; LEVELS]>,
    /// Who judged.
    pub source: FeedbackSource,
    /// What became of the reply.
    pub parse: ParseOutcome,
    /// Whether the judge was asked once more, because its first reply could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reasked: bool,
    /// Of a panel: what each of its members said, in their order, failures included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Feedback>,
}

impl Feedback {
    /// From a judge's probabilities over the levels; the level is the most probable one (the lower on a tie).
    #[must_use]
    pub fn from_distribution(
        aspect: &str,
        critique: String,
        distribution: [f64; LEVELS],
        parse: ParseOutcome,
    ) -> Self {
        let mut best = 0;
        for (index, probability) in distribution.iter().enumerate() {
            if *probability > distribution[best] {
                best = index;
            }
        }
        Self {
            aspect: aspect.to_string(),
            critique,
            level: u8::try_from(best + 1).ok(),
            distribution: Some(distribution),
            source: FeedbackSource::Model,
            parse,
            reasked: false,
            members: Vec::new(),
        }
    }

    /// From a judge that tells a level alone.
    #[must_use]
    pub fn from_level(aspect: &str, critique: String, level: u8, parse: ParseOutcome) -> Self {
        Self { critique, level: Some(level), parse, ..Self::failed(aspect, String::new()) }
    }

    /// From a model that could not judge, and why.
    #[must_use]
    pub fn failed(aspect: &str, reason: String) -> Self {
        Self {
            aspect: aspect.to_string(),
            critique: String::new(),
            level: None,
            distribution: None,
            source: FeedbackSource::Model,
            parse: ParseOutcome::Failed(reason),
            reasked: false,
            members: Vec::new(),
        }
    }

    /// Aspect score: the expected level under the judge's distribution, else the level; none after a failed parse.
    #[must_use]
    pub fn aspect_score(&self) -> Option<f64> {
        let level = f64::from(self.level?);
        Some(self.distribution.map_or(level, |probabilities| {
            probabilities.iter().zip(1u8..).map(|(probability, level)| probability * f64::from(level)).sum()
        }))
    }

    /// Whether nothing is left to fix on this aspect.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        self.level.map(usize::from) == Some(LEVELS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_level_is_the_score() {
        let feedback = Feedback::from_distribution("a", String::new(), [0.2, 0.3, 0.5], ParseOutcome::Parsed);
        assert_eq!(feedback.level, Some(3));
        assert!((feedback.aspect_score().unwrap() - 2.3).abs() < 1e-12);
        assert!(feedback.is_perfect());
    }

    #[test]
    fn a_failed_reply_has_no_score() {
        let feedback = Feedback::failed("a", "???".into());
        assert_eq!(feedback.aspect_score(), None);
        assert!(!feedback.is_perfect());
    }
}
