//! Which candidates are refined, and under which of their feedback.

use crate::config::{RefineFeedback, SelectConfig, SelectionPolicy};
use crate::digest::digest;
use crate::feedback::Feedback;
use crate::score::Candidate;

/// Indices of the promising candidates, the most promising first: at most `config.drafts`, each with another text, each
/// with something left to fix. Among equals those come first whose text was no draft in an `earlier` round. `stream` decides
/// where the policy is random.
#[must_use]
pub fn promising(
    candidates: &[Candidate],
    config: &SelectConfig,
    earlier: &[usize],
    stream: u64,
) -> Vec<usize> {
    let text = |index: usize| candidates[index].generated.text.trim();
    let mut improvable: Vec<usize> =
        (0..candidates.len()).filter(|&index| candidates[index].is_improvable()).collect();
    let ordered = match config.policy {
        SelectionPolicy::Best => {
            // Stable: the first of equals comes first.
            improvable.sort_by(|&a, &b| {
                let was_draft = |index: usize| earlier.iter().any(|&draft| text(draft) == text(index));
                candidates[b].rank(&candidates[a]).then_with(|| was_draft(a).cmp(&was_draft(b)))
            });
            improvable
        }
        SelectionPolicy::PerAspect => best_by_aspect(candidates, &improvable),
        SelectionPolicy::Random => {
            improvable.sort_by_key(|index| digest(&(stream, index)));
            improvable
        }
    };
    let mut drafts: Vec<usize> = Vec::new();
    for index in ordered {
        let known = drafts.iter().any(|&draft| text(draft) == text(index));
        if drafts.len() < config.drafts && !known {
            drafts.push(index);
        }
    }
    drafts
}

/// For each aspect the candidate with the highest aspect score (the higher ranked of equals), then for each aspect the
/// second, and so on.
fn best_by_aspect(candidates: &[Candidate], improvable: &[usize]) -> Vec<usize> {
    let mut aspects: Vec<&str> = Vec::new();
    for feedback in improvable.iter().flat_map(|&index| &candidates[index].feedback) {
        if !aspects.contains(&feedback.aspect.as_str()) {
            aspects.push(&feedback.aspect);
        }
    }
    let orders: Vec<Vec<usize>> = aspects
        .iter()
        .map(|aspect| {
            let score = |index: usize| {
                let on_aspect = candidates[index].feedback.iter().find(|f| &f.aspect == aspect);
                on_aspect.and_then(Feedback::aspect_score).unwrap_or(f64::NEG_INFINITY)
            };
            let mut order = improvable.to_vec();
            order.sort_by(|&a, &b| {
                score(b).total_cmp(&score(a)).then_with(|| candidates[b].rank(&candidates[a]))
            });
            order
        })
        .collect();
    (0..improvable.len()).flat_map(|place| orders.iter().map(move |order| order[place])).collect()
}

/// The feedback of a draft that its refinement is asked to follow.
#[must_use]
pub fn refining_feedback(feedback: &[Feedback], which: RefineFeedback) -> Vec<Feedback> {
    match which {
        RefineFeedback::All => feedback.to_vec(),
        RefineFeedback::Lowest => {
            let score = |f: &Feedback| f.aspect_score().unwrap_or(f64::INFINITY);
            let lowest = feedback.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
            lowest.into_iter().cloned().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::ParseOutcome;
    use crate::score::tests::candidate;

    fn config(policy: SelectionPolicy, drafts: usize) -> SelectConfig {
        SelectConfig { policy, drafts }
    }

    #[test]
    fn the_best_that_can_be_improved_comes_first() {
        let mut candidates =
            vec![candidate("a", 1.2), candidate("b", 1.9), candidate("c", 2.8), candidate("d", 1.9)];
        let best = config(SelectionPolicy::Best, 1);
        assert_eq!(promising(&candidates, &best, &[], 0), [1]);
        assert_eq!(promising(&candidates, &best, &[1], 0), [3]);
        candidates[3].reward = Some(0.5);
        candidates[1].reward = Some(0.1);
        assert_eq!(promising(&candidates, &best, &[], 0), [3]);
        assert!(promising(&candidates[2..3], &best, &[], 0).is_empty());
        assert_eq!(promising(&candidates, &config(SelectionPolicy::Best, 9), &[], 0), [3, 1, 0]);
    }

    #[test]
    fn equal_texts_are_one_draft() {
        let candidates = [candidate("a", 1.9), candidate(" a\n", 1.9), candidate("b", 1.2)];
        assert_eq!(promising(&candidates, &config(SelectionPolicy::Best, 2), &[], 0), [0, 2]);
    }

    #[test]
    fn a_random_draft_depends_on_its_stream_alone() {
        let candidates: Vec<Candidate> =
            (0..6).map(|i| candidate(&i.to_string(), 1.0 + f64::from(i) / 10.0)).collect();
        let random = config(SelectionPolicy::Random, 1);
        let drawn: Vec<Vec<usize>> =
            (0..40).map(|stream| promising(&candidates, &random, &[], stream)).collect();
        assert_eq!(drawn[7], promising(&candidates, &random, &[], 7));
        for index in 0..6 {
            assert!(drawn.contains(&vec![index]), "{index} is never drawn");
        }
    }

    #[test]
    fn each_aspect_has_its_best_candidate() {
        let on = |aspect: &str, distribution| {
            Feedback::from_distribution(aspect, String::new(), distribution, ParseOutcome::Parsed)
        };
        let mut candidates = vec![candidate("a", 2.0), candidate("b", 1.5), candidate("c", 1.0)];
        candidates[0].feedback = vec![on("clear", [0.0, 1.0, 0.0]), on("short", [0.0, 1.0, 0.0])];
        candidates[1].feedback = vec![on("clear", [1.0, 0.0, 0.0]), on("short", [0.0, 0.0, 1.0])];
        candidates[2].feedback = vec![on("clear", [1.0, 0.0, 0.0]), on("short", [1.0, 0.0, 0.0])];
        assert_eq!(promising(&candidates, &config(SelectionPolicy::PerAspect, 2), &[], 0), [0, 1]);
        assert_eq!(promising(&candidates, &config(SelectionPolicy::PerAspect, 3), &[], 0), [0, 1, 2]);
    }

    #[test]
    fn the_lowest_aspect_can_be_mended_alone() {
        let on = |aspect: &str, distribution| {
            Feedback::from_distribution(aspect, String::new(), distribution, ParseOutcome::Parsed)
        };
        let feedback = [
            Feedback::failed("broken", "?".into()),
            on("clear", [0.0, 0.0, 1.0]),
            on("short", [0.9, 0.1, 0.0]),
        ];
        let lowest = refining_feedback(&feedback, RefineFeedback::Lowest);
        assert_eq!(lowest.iter().map(|f| f.aspect.as_str()).collect::<Vec<_>>(), ["short"]);
        assert_eq!(refining_feedback(&feedback, RefineFeedback::All).len(), 3);
    }
}
