//! Scores of candidates.

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
    /// Of a refinement: index of its draft among the candidates of its instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<usize>,
    /// Feedback, one per aspect, in the order of the aspects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feedback: Vec<Feedback>,
    /// Weighted mean of the aspect scores, mixed with the reward where the configuration says so; none if all feedback
    /// failed.
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
        Self {
            key,
            kind,
            generated,
            draft: None,
            feedback: Vec::new(),
            score: None,
            reward: None,
            correct: None,
        }
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

    /// Whether it is right: by the checker where there is one, else if it is perfect by the judge; none where neither knows,
    /// also where some feedback failed and the rest finds nothing to fix.
    #[must_use]
    pub fn right(&self) -> Option<bool> {
        let by_judge = if self.is_improvable() { Some(false) } else { self.is_perfect().then_some(true) };
        self.correct.or(by_judge)
    }

    /// Whether it is known to be right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.right() == Some(true)
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

/// The weighted mean of the scores of the aspects that the candidate was judged on, by name; failed feedback is left out,
/// never counted as a level.
#[must_use]
pub fn candidate_score(aspects: &[Aspect], feedback: &[Feedback]) -> Option<f64> {
    let scored: Vec<(f64, f64)> = feedback
        .iter()
        .filter_map(|feedback| {
            let aspect = aspects.iter().find(|aspect| aspect.name == feedback.aspect)?;
            Some((aspect.weight, feedback.aspect_score()?))
        })
        .collect();
    let weight: f64 = scored.iter().map(|(weight, _)| weight).sum();
    (weight > 0.0).then(|| scored.iter().map(|(weight, score)| weight * score).sum::<f64>() / weight)
}

/// A reward on the scale of the levels, 1 to 3: the Bradley-Terry probability of being preferred to a response of
/// `mean_reward`, stretched.
#[must_use]
pub fn reward_level(reward: f64, mean_reward: f64) -> f64 {
    1.0 + 2.0 / (1.0 + (mean_reward - reward).exp())
}

/// The score of a candidate from its aspects' mean and its reward's level, `weight` being the reward's share. Where one of
/// them has a share but is missing, there is no score.
#[must_use]
pub fn mixed_score(aspects: Option<f64>, reward_level: Option<f64>, weight: f64) -> Option<f64> {
    if weight <= 0.0 {
        return aspects;
    }
    if weight >= 1.0 {
        return reward_level;
    }
    Some((1.0 - weight) * aspects? + weight * reward_level?)
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
    fn a_reward_is_mixed_in_as_a_level() {
        assert_eq!(reward_level(0.7, 0.7), 2.0);
        assert!(reward_level(50.0, 0.0) <= 3.0 && reward_level(-50.0, 0.0) >= 1.0);
        // P(preferred) = 3/4 at a difference of ln 3.
        assert!((reward_level(3f64.ln(), 0.0) - 2.5).abs() < 1e-12);
        assert_eq!(mixed_score(Some(1.5), Some(2.5), 0.0), Some(1.5));
        assert_eq!(mixed_score(Some(1.5), Some(2.5), 0.25), Some(1.75));
        assert_eq!(mixed_score(Some(1.5), Some(2.5), 1.0), Some(2.5));
        assert_eq!(mixed_score(None, Some(2.5), 0.5), None);
        assert_eq!(mixed_score(Some(1.5), None, 0.0), Some(1.5));
    }

    #[test]
    fn failed_feedback_is_left_out_of_the_mean() {
        let aspect = |name: &str, weight| Aspect {
            name: name.into(),
            criterion: "c".into(),
            levels: ["1".into(), "2".into(), "3".into()],
            weight,
            checker: None,
        };
        let aspects = [aspect("a", 1.0), aspect("b", 3.0)];
        let good = Feedback::from_distribution("a", String::new(), [0.0, 1.0, 0.0], ParseOutcome::Parsed);
        let better = Feedback::from_distribution("b", String::new(), [0.0, 0.0, 1.0], ParseOutcome::Parsed);
        let failed = Feedback { level: None, parse: ParseOutcome::Failed("?".into()), ..better.clone() };
        assert_eq!(candidate_score(&aspects, &[good.clone(), better.clone()]), Some(2.75));
        assert_eq!(candidate_score(&aspects, &[better.clone(), good.clone()]), Some(2.75));
        assert_eq!(candidate_score(&aspects, &[better]), Some(3.0));
        assert_eq!(candidate_score(&aspects, &[good, failed.clone()]), Some(2.0));
        assert_eq!(candidate_score(&aspects, &[failed.clone(), failed]), None);
    }
}
