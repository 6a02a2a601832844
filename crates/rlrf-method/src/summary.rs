//! What an iteration found, in figures.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::aspect::Aspect;
use crate::choose::AspectChoice;
use crate::distribution::Distribution;
use crate::feedback::{Feedback, ParseOutcome};
use crate::iteration::CandidateGroup;
use crate::reflection::Reflection;
use crate::score::{Candidate, CandidateKind};

/// What an iteration found, for the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationSummary {
    /// The iteration, from 0: it samples from `M_t`.
    pub iteration: u32,
    /// Instructions.
    pub instructions: u64,
    /// Instructions of which every candidate is perfect: nothing to refine.
    pub perfect: u64,
    /// Instructions left unrefined because draft and feedback do not fit the policy's context.
    #[serde(default)]
    pub refinements_too_long: u64,
    /// Tokens of all candidates, where the policy tells.
    #[serde(default)]
    pub candidate_tokens: u64,
    /// Sampled candidates, and the distinct ones among them.
    pub sampled: u64,
    /// Distinct texts among the sampled.
    pub sampled_distinct: u64,
    /// Refined candidates.
    pub refined: u64,
    /// Candidates cut at the length limit: never chosen, nor imitated.
    #[serde(default)]
    pub cut: u64,
    /// Right samples (by the checker, else perfect by the judge); none where nobody knows.
    pub sampled_right: Option<u64>,
    /// Whether right means perfect by the judge here: no checker says more.
    #[serde(default)]
    pub right_by_judge: bool,
    /// Feedback: one for each judged candidate and aspect.
    #[serde(default)]
    pub feedback: u64,
    /// Feedback replies that could not be read, or not asked for because the prompt does not fit: excluded, counted.
    pub feedback_failed: u64,
    /// Feedback replies that were mended: the judge did not come to its verdict by itself.
    #[serde(default)]
    pub feedback_repaired: u64,
    /// Instructions whose aspects the feedback model was asked to choose, in vain: the first ones configured stand for them.
    #[serde(default)]
    pub aspect_choices_failed: u64,
    /// Feedback for which the judge was asked once more.
    #[serde(default)]
    pub feedback_reasked: u64,
    /// Judgements of single members of panels that could not be read, and were left out of the mean.
    #[serde(default)]
    pub members_failed: u64,
    /// Pairs.
    pub pairs: u64,
    /// Instructions with at least one pair.
    pub paired_instructions: u64,
    /// Pairs whose chosen response is a refinement.
    pub pairs_chosen_refined: u64,
    /// Gaps of the pairs, in levels: between scores, or on the aspect that a pair is made by.
    #[serde(default)]
    pub pair_gaps: Option<Distribution>,
    /// Lengths of the chosen responses, in characters.
    #[serde(default)]
    pub chosen_lengths: Option<Distribution>,
    /// Lengths of the rejected responses, in characters.
    #[serde(default)]
    pub rejected_lengths: Option<Distribution>,
    /// Instructions that the policy was trained on.
    #[serde(default)]
    pub trained_instructions: u64,
    /// Reflection gain's counts.
    pub reflection: Reflection,
    /// Mean expected level per aspect, sampled against refined candidates.
    pub aspects: Vec<AspectMovement>,
}

/// Mean expected level of one aspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AspectMovement {
    /// Name of the aspect.
    pub aspect: String,
    /// Instructions that it was chosen for, where the feedback model chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<u64>,
    /// Over the sampled candidates.
    pub sampled: Option<f64>,
    /// Over the drafts that were refined.
    pub drafts: Option<f64>,
    /// Over the refined candidates.
    pub refined: Option<f64>,
}

impl IterationSummary {
    /// What is known of the candidates so far; it counts no pairs, nor what is trained on.
    #[must_use]
    pub fn of(iteration: u32, groups: &[CandidateGroup], aspects: &[Aspect]) -> Self {
        let all = |kind: CandidateKind| {
            groups.iter().flat_map(|g| &g.candidates).filter(move |candidate| candidate.kind == kind)
        };
        // By name: candidates from a file may have been judged on other aspects, in another order.
        let mean = |aspect: &Aspect, candidates: &mut dyn Iterator<Item = &Candidate>| {
            let on_aspect = |c: &Candidate| {
                c.feedback.iter().find(|f| f.aspect == aspect.name).and_then(Feedback::aspect_score)
            };
            let scores: Vec<f64> = candidates.filter_map(on_aspect).collect();
            (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
        };
        let mut reflection = Reflection::default();
        let mut sampled_distinct = 0;
        for group in groups {
            reflection.add(&group.candidates);
            let texts: HashSet<&str> = group
                .candidates
                .iter()
                .filter(|c| c.kind == CandidateKind::Sampled)
                .map(|c| c.generated.text.trim())
                .collect();
            sampled_distinct += texts.len() as u64;
        }
        let drafts = || {
            let refinable = groups.iter().filter(|g| !g.refinement_too_long);
            refinable.flat_map(|g| g.promising.iter().map(|&draft| &g.candidates[draft]))
        };
        let choices = || groups.iter().filter_map(|group| group.choice.as_ref());
        let chosen = |aspect: &Aspect| {
            let of_model = choices().next().is_some() && aspect.checker.is_none();
            let has = |choice: &&AspectChoice| choice.aspects.iter().any(|c| c.aspect == aspect.name);
            of_model.then(|| choices().filter(has).count() as u64)
        };
        let candidates = || groups.iter().flat_map(|g| &g.candidates);
        let feedback = || candidates().flat_map(|c| &c.feedback);
        Self {
            iteration,
            instructions: groups.len() as u64,
            perfect: groups.iter().filter(|g| g.candidates.iter().all(Candidate::is_perfect)).count() as u64,
            refinements_too_long: groups.iter().filter(|g| g.refinement_too_long).count() as u64,
            candidate_tokens: candidates().map(|c| c.generated.tokens.len() as u64).sum(),
            sampled: all(CandidateKind::Sampled).count() as u64,
            sampled_distinct,
            refined: all(CandidateKind::Refined).count() as u64,
            cut: candidates().filter(|c| !c.generated.complete).count() as u64,
            sampled_right: all(CandidateKind::Sampled)
                .filter_map(Candidate::right)
                .map(u64::from)
                .reduce(|sum, right| sum + right),
            right_by_judge: candidates().all(|c| c.correct.is_none())
                && candidates().any(|c| c.right().is_some()),
            feedback: feedback().count() as u64,
            feedback_failed: feedback().filter(|f| f.level.is_none()).count() as u64,
            feedback_repaired: feedback().filter(|f| f.parse == ParseOutcome::Repaired).count() as u64,
            aspect_choices_failed: choices()
                .filter(|choice| matches!(choice.parse, ParseOutcome::Failed(_)))
                .count() as u64,
            feedback_reasked: feedback().filter(|f| f.reasked).count() as u64,
            members_failed: feedback().flat_map(|f| &f.members).filter(|f| f.level.is_none()).count() as u64,
            pairs: 0,
            paired_instructions: 0,
            pairs_chosen_refined: 0,
            pair_gaps: None,
            chosen_lengths: None,
            rejected_lengths: None,
            trained_instructions: 0,
            reflection,
            aspects: aspects
                .iter()
                .map(|aspect| AspectMovement {
                    aspect: aspect.name.clone(),
                    chosen: chosen(aspect),
                    sampled: mean(aspect, &mut all(CandidateKind::Sampled)),
                    drafts: mean(aspect, &mut drafts()),
                    refined: mean(aspect, &mut all(CandidateKind::Refined)),
                })
                .collect(),
        }
    }
}
