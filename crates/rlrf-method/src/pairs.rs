//! Preference pairs from all candidates of an instruction, and their exchange format (TRL's).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::config::PairsConfig;
use crate::error::{Error, Result};
use crate::instruction::{Message, Role, Text, records};
use crate::score::Candidate;
use crate::seam::Generated;

/// The distinct candidates of one instruction that occur in its pairs: a tree for the trainer, in which the prompt
/// and every candidate are computed once, however many pairs they are in.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceGroup {
    /// Id of the instruction.
    pub instruction: String,
    /// The conversation: `x` alone, never the feedback.
    pub messages: Vec<Message>,
    /// Distinct candidates.
    pub candidates: Vec<TrainedCandidate>,
    /// Indices (chosen, rejected) into `candidates`.
    pub pairs: Vec<(usize, usize)>,
    /// How far apart a reward model should score the two of each pair, where its record says so; as many as `pairs`.
    pub margins: Vec<Option<f64>>,
}

/// A candidate as training needs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrainedCandidate {
    /// The text.
    pub text: String,
    /// Tokens as drawn, without the end token; empty: tokenise the text.
    pub tokens: Vec<u32>,
    /// Whether the end-of-turn token follows.
    pub complete: bool,
}

impl TrainedCandidate {
    /// Of a response as it was drawn.
    #[must_use]
    pub fn of(generated: &Generated) -> Self {
        let Generated { text, tokens, complete, .. } = generated;
        Self { text: text.clone(), tokens: tokens.clone(), complete: *complete }
    }
}

/// Indices (chosen, rejected) into `candidates`, best gaps first.
///
/// Candidates with the same trimmed text count once. The best-ranked are paired with the worst-ranked, walking inward
/// from both ends, so that no single candidate is in all pairs; each pair has at least `margin` between its scores.
/// A response cut at the length limit is never chosen.
#[must_use]
pub fn build_pairs(candidates: &[Candidate], config: &PairsConfig) -> Vec<(usize, usize)> {
    let mut seen = HashSet::new();
    let mut distinct: Vec<usize> = (0..candidates.len())
        .filter(|&index| candidates[index].score.is_some())
        .filter(|&index| seen.insert(candidates[index].generated.text.trim()))
        .collect();
    distinct.sort_by(|&a, &b| candidates[b].rank(&candidates[a]).then(a.cmp(&b)));
    let score = |index: usize| candidates[index].score.unwrap_or(f64::NEG_INFINITY);
    let chosen: Vec<usize> = distinct
        .iter()
        .copied()
        .filter(|&index| candidates[index].generated.complete && score(index) >= config.min_chosen_score)
        .collect();
    let rejected: Vec<usize> = distinct.iter().rev().copied().collect();
    let mut pairs = Vec::new();
    // Walk the anti-diagonals of (rank from the top, rank from the bottom): widest gaps first.
    for depth in 0..chosen.len() + rejected.len() {
        for up in 0..=depth.min(chosen.len().saturating_sub(1)) {
            if pairs.len() == config.pairs_per_instruction {
                return pairs;
            }
            let (Some(&best), Some(&worst)) = (chosen.get(up), rejected.get(depth - up)) else { continue };
            if score(best) - score(worst) >= config.margin {
                pairs.push((best, worst));
            }
        }
    }
    pairs
}

/// The group of an instruction's pairs; none if there is no pair.
#[must_use]
pub fn preference_group(
    instruction: &str,
    messages: &[Message],
    candidates: &[Candidate],
    pairs: &[(usize, usize)],
) -> Option<PreferenceGroup> {
    let mut used: Vec<usize> = pairs.iter().flat_map(|&(chosen, rejected)| [chosen, rejected]).collect();
    used.sort_unstable();
    used.dedup();
    let place = |index: usize| used.binary_search(&index).unwrap_or_default();
    (!pairs.is_empty()).then(|| PreferenceGroup {
        instruction: instruction.to_string(),
        messages: messages.to_vec(),
        candidates: used.iter().map(|&index| TrainedCandidate::of(&candidates[index].generated)).collect(),
        pairs: pairs.iter().map(|&(chosen, rejected)| (place(chosen), place(rejected))).collect(),
        margins: vec![None; pairs.len()],
    })
}

/// One line of a preference file in TRL's conversational format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferenceRecord {
    /// The conversation.
    pub prompt: Vec<Message>,
    /// The preferred response: one assistant message.
    pub chosen: Vec<Message>,
    /// The other response.
    pub rejected: Vec<Message>,
}

#[derive(Deserialize)]
struct RawRecord {
    prompt: Text,
    chosen: Text,
    rejected: Text,
    margin: Option<f64>,
}

/// Reads preference pairs in TRL's plain or conversational format (with an explicit prompt, and, for a reward model, an
/// optional `margin`) and gathers the pairs of the same prompt in one group.
///
/// # Errors
/// Names file and line: broken JSON, a missing field, a response that is not one assistant message.
pub fn read_preferences(file: &str, bytes: &[u8]) -> Result<Vec<PreferenceGroup>> {
    let mut groups: Vec<PreferenceGroup> = Vec::new();
    let mut index_of: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for record in records::<RawRecord>(file, bytes)? {
        let (line, record) = record?;
        let bad =
            |message: &str| Error::Record { file: file.to_string(), line, message: message.to_string() };
        let messages = record.prompt.into_prompt();
        if messages.last().is_none_or(|last| last.role != Role::User || last.content.trim().is_empty()) {
            return Err(bad("`prompt` must end with a user message that is not empty"));
        }
        let id = crate::digest::digest(&messages);
        let group = *index_of.entry(id.clone()).or_insert_with(|| {
            groups.push(PreferenceGroup {
                instruction: id,
                messages,
                candidates: Vec::new(),
                pairs: Vec::new(),
                margins: Vec::new(),
            });
            groups.len() - 1
        });
        let mut place = |text: Text, field: &str| -> Result<usize> {
            let text = text
                .into_response()
                .ok_or_else(|| bad(&format!("`{field}` must be text or a list of one assistant message")))?;
            let candidates = &mut groups[group].candidates;
            Ok(candidates.iter().position(|c| c.text == text).unwrap_or_else(|| {
                candidates.push(TrainedCandidate { text, tokens: Vec::new(), complete: true });
                candidates.len() - 1
            }))
        };
        let pair = (place(record.chosen, "chosen")?, place(record.rejected, "rejected")?);
        if pair.0 == pair.1 {
            return Err(bad("`chosen` and `rejected` are the same text"));
        }
        groups[group].pairs.push(pair);
        groups[group].margins.push(record.margin);
    }
    if groups.is_empty() {
        return Err(Error::Input {
            file: file.to_string(),
            message: "holds no pair; expected one JSON object a line with `prompt`, `chosen` and `rejected`"
                .into(),
        });
    }
    Ok(groups)
}

/// The pairs of a group as records in TRL's conversational format.
#[must_use]
pub fn preference_records(group: &PreferenceGroup) -> Vec<PreferenceRecord> {
    let response = |index: usize| vec![Message::assistant(group.candidates[index].text.clone())];
    group
        .pairs
        .iter()
        .map(|&(chosen, rejected)| PreferenceRecord {
            prompt: group.messages.clone(),
            chosen: response(chosen),
            rejected: response(rejected),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::candidate;

    #[test]
    fn pairs_walk_inward_and_keep_the_margin() {
        let candidates = [
            candidate("a", 3.0),
            candidate("b", 1.0),
            candidate("c", 2.9),
            candidate("d", 1.2),
            candidate("e", 2.0),
        ];
        let config = PairsConfig { pairs_per_instruction: 4, ..PairsConfig::default() };
        assert_eq!(build_pairs(&candidates, &config), [(0, 1), (0, 3), (2, 1), (0, 4)]);
        let strict = PairsConfig { margin: 1.9, ..config.clone() };
        assert_eq!(build_pairs(&candidates, &strict), [(0, 1), (2, 1)]);
        let high = PairsConfig { min_chosen_score: 2.95, ..config };
        assert_eq!(build_pairs(&candidates, &high), [(0, 1), (0, 3), (0, 4)]);
    }

    #[test]
    fn duplicates_count_once_and_equal_scores_give_no_pair() {
        let config = PairsConfig { pairs_per_instruction: 9, ..PairsConfig::default() };
        let candidates = [candidate("a", 3.0), candidate(" a\n", 3.0), candidate("b", 1.0)];
        assert_eq!(build_pairs(&candidates, &config), [(0, 2)]);
        assert!(build_pairs(&[candidate("a", 2.0), candidate("b", 2.0)], &config).is_empty());
        assert!(build_pairs(&[], &config).is_empty());
    }

    #[test]
    fn a_truncated_response_is_never_chosen() {
        let mut candidates = [candidate("a", 3.0), candidate("b", 1.0)];
        candidates[0].generated.complete = false;
        assert!(build_pairs(&candidates, &PairsConfig::default()).is_empty());
    }

    #[test]
    fn groups_hold_each_candidate_once_and_survive_the_file() {
        let candidates = [candidate("a", 3.0), candidate("x", 2.6), candidate("b", 1.0), candidate("c", 1.1)];
        let group = preference_group("i", &[Message::user("q")], &candidates, &[(0, 2), (0, 3)]).unwrap();
        assert_eq!(group.candidates.len(), 3);
        assert_eq!(group.pairs, [(0, 1), (0, 2)]);
        let lines: String =
            preference_records(&group).iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
        let read = read_preferences("p.jsonl", lines.as_bytes()).unwrap();
        assert_eq!(read[0].pairs, group.pairs);
        assert_eq!(read[0].candidates, group.candidates);
        let margins = b"{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\", \"margin\": 1.5}";
        assert_eq!(read_preferences("p.jsonl", margins).unwrap()[0].margins, [Some(1.5)]);
        let plain = b"{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"a\"}";
        assert!(
            read_preferences("p.jsonl", plain).unwrap_err().to_string().starts_with("p.jsonl:1: `chosen`")
        );
    }
}
