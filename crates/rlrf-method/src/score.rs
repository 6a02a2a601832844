//! Scores of candidates, and the choice of the promising one.

use serde::{Deserialize, Serialize};

use crate::aspect::Aspect;
use crate::feedback::Feedback;
use crate::seam::Generated;

/// How a candidate came to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CandidateKind {
    /// Drawn from `M_t(.|x)`.
    #[default]
    Sampled,
    /// Drawn from `M_t(.|x, draft, feedback)`.
    Refined,
}

/// One response with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Key of its generation row.
    #[serde(default)]
    pub key: String,
    /// How it came to be.
    #[serde(default)]
    pub kind: CandidateKind,
    /// The response.
    #[serde(flatten)]
    pub generated: Generated,
    /// Feedback, one per aspect, in the order of the aspects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feedback: Vec<Feedback>,
    /// Weighted mean of the aspect scores; none if all feedback failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Reward model's score, where there is one; breaks ties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// The checker's verdict, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
}

impl Candidate {
    /// A candidate not judged yet.
    #[must_use]
    pub fn new(key: String, kind: CandidateKind, generated: Generated) -> Self {
        Self { key, kind, generated, feedback: Vec::new(), score: None, reward: None, correct: None }
    }

    /// Whether every aspect has the highest level.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        !self.feedback.is_empty() && self.feedback.iter().all(Feedback::is_perfect)
    }

    /// Whether some feedback says that something is left to fix.
    #[must_use]
    pub fn is_improvable(&self) -> bool {
        self.feedback.iter().any(|feedback| feedback.level.is_some() && !feedback.is_perfect())
    }

    /// Right by the checker where there is one, else perfect by the judge.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.correct.unwrap_or_else(|| self.is_perfect())
    }

    /// Orders by score, then by reward.
    #[must_use]
    pub fn rank(&self, other: &Self) -> std::cmp::Ordering {
        let by = |a: Option<f64>, b: Option<f64>| {
            a.unwrap_or(f64::NEG_INFINITY).total_cmp(&b.unwrap_or(f64::NEG_INFINITY))
        };
        by(self.score, other.score).then_with(|| by(self.reward, other.reward))
    }
}

/// The weighted mean of the aspects' scores; failed feedback is left out, never counted as a level.
#[must_use]
pub fn candidate_score(aspects: &[Aspect], feedback: &[Feedback]) -> Option<f64> {
    let scored: Vec<(f64, f64)> = aspects
        .iter()
        .zip(feedback)
        .filter_map(|(aspect, feedback)| Some((aspect.weight, feedback.aspect_score()?)))
        .collect();
    let weight: f64 = scored.iter().map(|(weight, _)| weight).sum();
    (weight > 0.0).then(|| scored.iter().map(|(weight, score)| weight * score).sum::<f64>() / weight)
}

/// Index of the promising candidate: the highest ranked one that still has something to fix; the first on a tie.
#[must_use]
pub fn promising(candidates: &[Candidate]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.is_improvable() && best.is_none_or(|b| candidate.rank(&candidates[b]).is_gt()) {
            best = Some(index);
        }
    }
    best
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::feedback::ParseOutcome;

    pub(crate) fn candidate(text: &str, score: f64) -> Candidate {
        let generated = Generated { text: text.into(), tokens: Vec::new(), logprob: None, complete: true };
        let mut candidate = Candidate::new(text.into(), CandidateKind::Sampled, generated);
        let share = (score - 1.0) / 2.0;
        candidate.feedback = vec![Feedback::from_distribution(
            "a",
            String::new(),
            [1.0 - share, 0.0, share],
            ParseOutcome::Parsed,
        )];
        candidate.score = Some(score);
        candidate
    }

    #[test]
    fn promising_is_the_best_that_can_be_improved() {
        let mut candidates =
            vec![candidate("a", 1.2), candidate("b", 1.9), candidate("c", 2.8), candidate("d", 1.9)];
        assert_eq!(promising(&candidates), Some(1));
        candidates[3].reward = Some(0.5);
        candidates[1].reward = Some(0.1);
        assert_eq!(promising(&candidates), Some(3));
        assert_eq!(promising(&candidates[2..3]), None);
    }

    #[test]
    fn failed_feedback_is_left_out_of_the_mean() {
        let aspect = |name: &str, weight| Aspect {
            name: name.into(),
            criterion: "c".into(),
            levels: ["1".into(), "2".into(), "3".into()],
            weight,
        };
        let aspects = [aspect("a", 1.0), aspect("b", 3.0)];
        let good = Feedback::from_distribution("a", String::new(), [0.0, 1.0, 0.0], ParseOutcome::Parsed);
        let better = Feedback::from_distribution("b", String::new(), [0.0, 0.0, 1.0], ParseOutcome::Parsed);
        let failed = Feedback { level: None, parse: ParseOutcome::Failed("?".into()), ..better.clone() };
        assert_eq!(candidate_score(&aspects, &[good.clone(), better]), Some(2.75));
        assert_eq!(candidate_score(&aspects, &[good, failed.clone()]), Some(2.0));
        assert_eq!(candidate_score(&aspects, &[failed.clone(), failed]), None);
    }
}
