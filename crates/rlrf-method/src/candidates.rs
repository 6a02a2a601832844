//! Files of candidates: what the stages of an iteration hand to each other when they run one by one.
//!
//! JSONL, one instruction a line: its own fields, `candidates` (each with `text`, and `feedback` and `score` once it
//! was judged), and `promising`, the indices of the candidates that were refined (or, if `refinement_too_long`, were not); a refinement names its
//! `draft`. `aspect_choice` holds the aspects that the feedback model chose for the instruction. A candidate from elsewhere needs `text` alone.

use serde::{Deserialize, Serialize};

use crate::choose::AspectChoice;
use crate::digest::digest;
use crate::error::{Error, Result};
use crate::instruction::{self, Instruction, UniqueIds, records};
use crate::iteration::CandidateGroup;
use crate::score::Candidate;

#[derive(Deserialize)]
struct Record {
    #[serde(flatten)]
    instruction: instruction::Record,
    candidates: Vec<Candidate>,
    #[serde(default)]
    promising: Vec<usize>,
    #[serde(default)]
    refinement_too_long: bool,
    aspect_choice: Option<AspectChoice>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    instruction: &'a Instruction,
    candidates: &'a [Candidate],
    #[serde(skip_serializing_if = "<[usize]>::is_empty")]
    promising: &'a [usize],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    refinement_too_long: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    aspect_choice: Option<&'a AspectChoice>,
}

/// Reads a file of candidates: the instructions, and for each of them its group.
///
/// # Errors
/// Names file and line: what [`Instruction::read_jsonl`] refuses, an instruction without candidates, a `promising`
/// that is none of them.
pub fn read_candidates(file: &str, bytes: &[u8]) -> Result<(Vec<Instruction>, Vec<CandidateGroup>)> {
    let (mut instructions, mut groups) = (Vec::new(), Vec::new());
    let mut ids = UniqueIds::default();
    for record in records::<Record>(file, bytes)? {
        let (line, record) = record?;
        let bad = |message: String| Error::Record { file: file.to_string(), line, message };
        let has_id = record.instruction.has_id();
        let instruction = record.instruction.instruction().map_err(bad)?;
        ids.add(&instruction.id, has_id, line).map_err(bad)?;
        let mut candidates = record.candidates;
        if candidates.is_empty() {
            return Err(bad("`candidates` is empty; give at least one".into()));
        }
        let drafts = candidates.iter().filter_map(|candidate| Some(("draft", candidate.draft?)));
        let promising = record.promising.iter().map(|&index| ("promising", index));
        if let Some((field, index)) = promising.chain(drafts).find(|&(_, index)| index >= candidates.len()) {
            return Err(bad(format!(
                "`{field}` must be the index of one of the {} candidates, from 0, and is {index}",
                candidates.len()
            )));
        }
        for (position, candidate) in candidates.iter_mut().enumerate() {
            if candidate.key.is_empty() {
                candidate.key = digest(&("candidate", &instruction, &candidate.generated, position));
            }
        }
        groups.push(CandidateGroup {
            instruction: instructions.len(),
            candidates,
            promising: record.promising,
            refinement_too_long: record.refinement_too_long,
            choice: record.aspect_choice,
        });
        instructions.push(instruction);
    }
    if instructions.is_empty() {
        let message = "holds no candidates; expected one JSON object a line with `messages` and `candidates`, as \
                       `rlrf sample` writes it";
        return Err(Error::Input { file: file.to_string(), message: message.into() });
    }
    Ok((instructions, groups))
}

/// The groups as [`read_candidates`] reads them.
///
/// # Errors
/// Never in practice: plain data always serialises.
pub fn write_candidates(instructions: &[Instruction], groups: &[CandidateGroup]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in groups {
        let instruction = &instructions[group.instruction];
        let CandidateGroup { candidates, promising, refinement_too_long, choice, .. } = group;
        let line = Line {
            instruction,
            candidates,
            promising,
            refinement_too_long: *refinement_too_long,
            aspect_choice: choice.as_ref(),
        };
        serde_json::to_writer(&mut bytes, &line)
            .map_err(|e| Error::Backend(format!("candidates of instruction {}: {e}", instruction.id)))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::ChosenAspect;
    use crate::feedback::ParseOutcome;
    use crate::instruction::Message;
    use crate::score::tests::candidate;

    #[test]
    fn what_is_written_is_read() {
        let instructions = [Instruction {
            id: "i".into(),
            messages: vec![Message::user("q")],
            reference: Some("z".into()),
            answer: Some("1".into()),
        }];
        let mut judged = candidate("a", 1.1 + 0.2);
        judged.generated.logprob = Some(-0.1 - 0.2);
        judged.generated.tokens = vec![3, 4];
        judged.correct = Some(false);
        let mut unjudged = candidate("b", 2.0);
        (unjudged.feedback, unjudged.score) = (Vec::new(), None);
        let mut group = CandidateGroup::new(0, vec![judged, unjudged]);
        (group.promising, group.refinement_too_long) = (vec![0], true);
        let chosen = ChosenAspect { aspect: "a".into(), reason: "it asks".into() };
        group.choice = Some(AspectChoice { aspects: vec![chosen], parse: ParseOutcome::Repaired });
        let groups = [group];
        let bytes = write_candidates(&instructions, &groups).unwrap();
        let (read_instructions, read_groups) = read_candidates("c.jsonl", &bytes).unwrap();
        assert_eq!(read_instructions, instructions);
        assert_eq!(read_groups, groups);
    }

    #[test]
    fn candidates_from_elsewhere_need_their_text_alone() {
        let line = b"{\"prompt\": \"q\", \"candidates\": [{\"text\": \"a\"}, {\"text\": \"a\"}]}";
        let (_, groups) = read_candidates("c.jsonl", line).unwrap();
        let [first, second] = groups[0].candidates.as_slice() else { panic!("{groups:?}") };
        assert!(first.generated.complete && first.feedback.is_empty());
        assert_ne!(first.key, second.key);
    }

    #[test]
    fn garbage_names_file_and_line() {
        let good = "{\"id\": \"a\", \"prompt\": \"q\", \"candidates\": [{\"text\": \"a\"}]}\n";
        for (line, expected) in [
            ("{\"prompt\": \"q\"}", "c.jsonl:2: missing field `candidates`"),
            ("{\"prompt\": \"q\", \"candidates\": []}", "c.jsonl:2: `candidates` is empty"),
            ("{\"prompt\": \"q\", \"candidates\": [{\"texts\": \"a\"}]}", "c.jsonl:2: missing field `text`"),
            (
                "{\"prompt\": \"q\", \"candidates\": [{\"text\": \"a\"}], \"promising\": [1]}",
                "c.jsonl:2: `promising` must",
            ),
            (
                "{\"prompt\": \"q\", \"candidates\": [{\"text\": \"a\", \"draft\": 7}]}",
                "c.jsonl:2: `draft` must",
            ),
            ("{\"candidates\": [{\"text\": \"a\"}]}", "c.jsonl:2: needs a field `prompt`"),
            (good, "c.jsonl:2: id \"a\" was used on line 1"),
        ] {
            let message =
                read_candidates("c.jsonl", format!("{good}{line}").as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
        assert!(read_candidates("c.jsonl", b"\n").unwrap_err().to_string().starts_with("c.jsonl: holds no"));
    }
}
