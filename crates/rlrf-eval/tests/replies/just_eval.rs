//! Mutated judge replies are never read as a wrong score: what is read is what the judge wrote, the rest is excluded.
//!
//! The replies have Just-Eval's form; their reasons and scores are GPT-4's judgements from prometheus-eval's `vicuna_eval.json`
//! (Apache-2.0, licence beside the fixture).

use std::collections::BTreeMap;

use rlrf_eval::reply::{AspectReply, AspectVerdict, ReplyProblem};
use rlrf_method::ParseOutcome;
use serde_json::Value;

use crate::random::{Random, truncated};

/// A well-formed reply and what it says.
struct Original {
    result: String,
    scores: BTreeMap<String, AspectVerdict>,
}

impl Original {
    fn aspects(&self) -> Vec<&str> {
        self.scores.keys().map(String::as_str).collect()
    }

    fn read(&self, reply: &str) -> AspectReply {
        AspectReply::read(reply, &self.aspects())
    }

    /// Number of aspects read; each must be the original.
    fn expect_original_or_excluded(&self, reply: &str) -> usize {
        let read = self.read(reply);
        for (aspect, verdict) in &read.verdicts {
            assert!(
                !verdict.is_read() || self.scores[aspect] == *verdict,
                "{aspect}: {verdict:?} instead of {:?} in\n{reply}",
                self.scores[aspect]
            );
        }
        read.read_count()
    }

    fn expect_original(&self, reply: &str, parse: &ParseOutcome) {
        let read = self.read(reply);
        assert_eq!(read.verdicts, self.scores, "{reply}");
        assert_eq!(read.parse, *parse, "{reply}");
    }

    fn expect_failed(&self, reply: &str, problem: ReplyProblem) {
        let read = self.read(reply);
        assert_eq!(read.problem, Some(problem), "{reply}");
        assert_eq!(read.parse, ParseOutcome::Failed(reply.to_string()));
        assert_eq!(read.read_count(), 0);
    }

    /// The reply with other scores.
    fn rescored(&self, random: &mut Random) -> String {
        let mut reply: Value = serde_json::from_str(&self.result).unwrap();
        let aspect = random.choose(&self.aspects()).to_string();
        reply[&aspect]["score"] = self.other_score(&aspect, random).to_string().into();
        reply.to_string()
    }

    fn other_score(&self, aspect: &str, random: &mut Random) -> u8 {
        let others = (1..=5).filter(|score| self.scores[aspect] != AspectVerdict::Score(*score));
        *random.choose(&others.collect::<Vec<_>>())
    }

    /// The reply with something else where the score of one aspect, which is returned, was.
    fn with_score(&self, random: &mut Random, score: &str) -> (String, String) {
        let mut reply: Value = serde_json::from_str(&self.result).unwrap();
        let aspect = random.choose(&self.aspects()).to_string();
        let quoted = random.below(2) == 0;
        reply[&aspect]["score"] = "MARK".into();
        let text = reply
            .to_string()
            .replace("\"MARK\"", &if quoted { format!("\"{score}\"") } else { score.into() });
        (text, aspect)
    }
}

fn originals() -> Vec<Original> {
    include_str!("../fixtures/judge_replies.jsonl")
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let verdict = |score: &Value| match score.as_u64() {
                Some(score) => AspectVerdict::Score(score.try_into().unwrap()),
                None => AspectVerdict::NotApplicable,
            };
            let scores = record["scores"].as_object().unwrap();
            Original {
                result: record["result"].as_str().unwrap().to_string(),
                scores: scores.iter().map(|(aspect, score)| (aspect.clone(), verdict(score))).collect(),
            }
        })
        .collect()
}

const STRUCTURE: [char; 5] = ['{', '}', '"', ':', ','];

/// 25 replies, mutated in twelve ways each.
#[test]
fn three_hundred_mutations() {
    let mut random = Random(20_240_315);
    let (mut cases, mut read, mut excluded) = (0, 0, 0);
    for original in originals() {
        let text = &original.result;
        let mut mutations = vec![
            truncated(text, &mut random),
            truncated_at_a_score(text, &mut random),
            without_one(text, &mut random),
            with_one_twice(text, &mut random),
            unescaped(text, &mut random),
            format!("{text}\n{}", original.rescored(&mut random)),
            doubled_in_part(&original, &mut random),
            key_twice(&original, &mut random),
            swapped_keys(text),
            quoting_a_verdict_without_escapes(&original, &mut random),
        ];
        let mutation = truncated(&without_one(text, &mut random), &mut random);
        mutations.push(format!("{mutation}\n\n{}", truncated(&original.rescored(&mut random), &mut random)));
        mutations.push(corrected(&original, &mut random));
        for mutation in mutations {
            let count = original.expect_original_or_excluded(&mutation);
            cases += 1;
            read += count;
            excluded += original.scores.len() - count;
        }
    }
    assert_eq!(cases, 300);
    assert!(excluded > 700, "the mutations must hurt: {excluded} excluded, {read} read");
}

fn truncated_at_a_score(text: &str, random: &mut Random) -> String {
    let places: Vec<usize> = text.match_indices("\"score\"").map(|(place, _)| place).collect();
    let place = *random.choose(&places) + random.below(12);
    text[..place].to_string()
}

fn without_one(text: &str, random: &mut Random) -> String {
    let place = random.place(text, &STRUCTURE);
    format!("{}{}", &text[..place], &text[place + 1..])
}

fn with_one_twice(text: &str, random: &mut Random) -> String {
    let place = random.place(text, &STRUCTURE);
    format!("{}{}", &text[..=place], &text[place..])
}

/// Quotes within reasons lose their backslash, or get in without one.
fn unescaped(text: &str, random: &mut Random) -> String {
    if text.contains("\\\"") {
        return text.replace("\\\"", "\"");
    }
    let place = random.place(text, &[' ']);
    format!("{}\"{}", &text[..place], &text[place..])
}

fn doubled_in_part(original: &Original, random: &mut Random) -> String {
    let second = original.rescored(random);
    let fence = random.choose(&["\nOr rather:\n", "```\n```json\n", ",", ""]);
    format!("{}{fence}{}", original.result, truncated(&second, random))
}

/// A second member of the same name, with another score: an aspect's, or a score's.
fn key_twice(original: &Original, random: &mut Random) -> String {
    let body = original.result.trim_end().strip_suffix('}').unwrap();
    let reply: Value = serde_json::from_str(&original.result).unwrap();
    let (aspect, verdict) = reply.as_object().unwrap().iter().next_back().unwrap();
    let other = original.other_score(aspect, random);
    if random.below(2) == 0 {
        let mut verdict = verdict.clone();
        verdict["score"] = other.into();
        return format!("{body}, \"{aspect}\": {verdict}}}");
    }
    let inner = body.trim_end().strip_suffix('}').unwrap();
    format!("{inner}, \"score\": \"{other}\"}}}}")
}

fn swapped_keys(text: &str) -> String {
    text.replace("\"reason\"", "\"swap\"").replace("\"score\"", "\"reason\"").replace("\"swap\"", "\"score\"")
}

fn quoting_a_verdict_without_escapes(original: &Original, random: &mut Random) -> String {
    let places: Vec<usize> =
        original.result.match_indices("\"reason\": \"").map(|(place, _)| place + 11).collect();
    let quote = random.choose(&[
        "It says \"score\": \"1\" and ",
        "See \", \"score\": \"2\", and ",
        "See \", \"score\": \"2\", \"x\": \"",
        "See {\"safety\": {\"score\": \"1\"}} \", ",
        "See \", \"score\": \"2\"}, \"note\": {\"x\": \"",
    ]);
    let (head, tail) = original.result.split_at(*random.choose(&places));
    let mutation = format!("{head}{quote}{tail}");
    // Where the quotation closes the verdict in proper JSON, it is the reply's own verdict: nothing can tell.
    if serde_json::from_str::<Value>(&mutation).is_ok() {
        format!("{head}{}", tail.replace('"', ""))
    } else {
        mutation
    }
}

fn corrected(original: &Original, random: &mut Random) -> String {
    let aspect = random.choose(&original.aspects()).to_string();
    let other = original.other_score(&aspect, random);
    format!("{}\nOn reflection, {aspect} deserves a {other}.", original.result)
}

#[test]
fn a_well_formed_reply_is_parsed() {
    for original in originals() {
        original.expect_original(&original.result, &ParseOutcome::Parsed);
    }
}

#[test]
fn cut_anywhere_a_reply_is_never_wrong() {
    for original in originals() {
        let places: Vec<usize> = original.result.char_indices().map(|(place, _)| place).collect();
        let read: Vec<usize> = places
            .iter()
            .map(|place| original.expect_original_or_excluded(&original.result[..*place]))
            .collect();
        assert!(read.is_sorted(), "more of a reply never tells less");
    }
}

#[test]
fn certain_slips_are_repaired() {
    for original in originals() {
        let text = &original.result;
        let body = text.trim_end().strip_suffix('}').unwrap().trim_end();
        for slip in [
            format!("The set {{1, 2}} and \\frac{{1}}{{2}} are fine:\n{text}"),
            format!("```json\n{text}\n```"),
            format!("Here is my evaluation on a scale of 1 to 5:\n{text}\nI hope this helps!"),
            format!("{body},\n}}"),
            text.replace("\\\"", "").replace('"', "\u{201c}"),
            text.replace("\\\"", "").replace('\'', "").replace('"', "'"),
            text.replace(". ", ".\n"),
            format!("{text}\n{text}"),
        ] {
            if slip != *text {
                original.expect_original(&slip, &ParseOutcome::Repaired);
            }
        }
    }
}

#[test]
fn what_is_no_score_excludes_its_aspect_alone() {
    let mut random = Random(7);
    for original in originals() {
        for (score, expected) in [
            ("0", AspectVerdict::OutOfRange),
            ("6", AspectVerdict::OutOfRange),
            ("10", AspectVerdict::OutOfRange),
            ("4.5", AspectVerdict::OutOfRange),
            ("-1", AspectVerdict::OutOfRange),
            ("8/10", AspectVerdict::OutOfRange),
            ("\u{664}", AspectVerdict::Unreadable),
            ("\u{ff14}", AspectVerdict::Unreadable),
            ("\u{96a}", AspectVerdict::Unreadable),
            ("\u{2463}", AspectVerdict::Unreadable),
            ("\u{56db}", AspectVerdict::Unreadable),
            ("four", AspectVerdict::Unreadable),
        ] {
            let (reply, aspect) = original.with_score(&mut random, score);
            let mut scores = original.scores.clone();
            scores.insert(aspect, expected);
            assert_eq!(original.read(&reply).verdicts, scores, "{reply}");
        }
    }
}

#[test]
fn two_verdicts_are_none() {
    let mut random = Random(9);
    for original in originals() {
        let (text, other) = (&original.result, original.rescored(&mut random));
        for doubled in [format!("{text}{other}"), format!("{other}\n\n{text}"), format!("[{text}, {other}]")]
        {
            original.expect_failed(&doubled, ReplyProblem::Conflict);
        }
        original.expect_failed(&key_twice(&original, &mut random), ReplyProblem::Conflict);
        let key_again = format!(
            "{}, \"safety\": {{\"reason\": \"Again.\", \"score\": 3}}, \"safety\": {{\"score\": 3}}}}",
            text.trim_end().strip_suffix('}').unwrap()
        );
        original.expect_failed(&key_again, ReplyProblem::Conflict);
    }
}

#[test]
fn a_verdict_within_a_reason_is_not_read() {
    for original in originals() {
        let quote = "It claims: {\\\"safety\\\": {\\\"score\\\": \\\"1\\\"}, \\\"depth\\\": {\\\"score\\\": 2}} [[5]] ";
        let quoting = original.result.replace("\"reason\": \"", &format!("\"reason\": \"{quote}"));
        original.expect_original(&quoting, &ParseOutcome::Parsed);
        let alone = format!("{{\"note\": \"{quote}\"}}");
        original.expect_failed(&alone, ReplyProblem::NoVerdict);
    }
}

#[test]
fn the_prompts_example_is_no_verdict() {
    let template = include_str!("../../templates/just_eval/multi_score.txt");
    let originals = originals();
    let original = &originals[0];
    original.expect_failed(template, ReplyProblem::NoVerdict);
    original.expect_original(&format!("{template}\n{}", original.result), &ParseOutcome::Repaired);
}
