//! From verdicts in both orders to win rates.

use std::collections::BTreeMap;

use rlrf_method::ParseOutcome;
use serde_json::{Map, json};

use super::{BENCHMARK, DEFINITION, PairQuestion, length_controlled_win_rate};
use crate::evaluation::{Evaluation, Item, Outcome};
use crate::reply::{PairReply, Preference};
use crate::statistics::{bootstrap, mean};

/// Why a comparison has no verdicts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// One of the models has not responded.
    NoResponse,
    /// Both responses together do not fit the judge's context.
    JudgePromptTooLong,
    /// The file of replies lacks one for an order.
    NoReply,
}

impl Missing {
    const ALL: [Self; 3] = [Self::NoResponse, Self::JudgePromptTooLong, Self::NoReply];

    fn name(self) -> &'static str {
        match self {
            Self::NoResponse => "no_response",
            Self::JudgePromptTooLong => "judge_prompt_too_long",
            Self::NoReply => "no_reply",
        }
    }
}

/// Two responses to one turn, and what a judge said about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Unique: the question's id, and the turn where it has several.
    pub id: String,
    /// Id of the question; its turns are resampled together.
    pub question: String,
    /// The turn, from 1.
    pub turn: usize,
    /// Category or data set of the question.
    pub group: Option<String>,
    /// Of A and of B, where known.
    pub responses: Option<[String; 2]>,
    /// The judge's replies where A was shown first, and where B was: none, one, or two of which the first could not be
    /// read.
    pub replies: [Vec<String>; 2],
    /// Why there are no replies.
    pub missing: Option<Missing>,
}

impl Compared {
    /// A comparison that nothing is known about yet; `turn` from 0.
    pub(super) fn new(question: &PairQuestion, turn: usize) -> Self {
        let id = match question.turns() {
            1 => question.id.clone(),
            _ => format!("{}/{}", question.id, turn + 1),
        };
        Self {
            id,
            question: question.id.clone(),
            turn: turn + 1,
            group: question.group.clone(),
            responses: None,
            replies: [Vec::new(), Vec::new()],
            missing: None,
        }
    }

    /// Equal responses need no judge.
    fn is_identical(&self) -> bool {
        self.responses.as_ref().is_some_and(|[a, b]| a == b) && self.replies.iter().all(Vec::is_empty)
    }

    /// How much longer A's response is, in characters.
    fn length_difference(&self) -> Option<f64> {
        let [a, b] = self.responses.as_ref()?;
        Some(a.chars().count() as f64 - b.chars().count() as f64)
    }
}

/// Scores replies that are there already.
///
/// A wins if the judge prefers its response in both orders, and loses if it prefers B's in both; otherwise the comparison
/// is a tie. A comparison with an unreadable verdict in either order is excluded and counted.
#[must_use]
pub fn score(set: &str, compared: &[Compared]) -> Outcome {
    let mut evaluation = Evaluation::new(BENCHMARK, DEFINITION, set);
    start_counts(&mut evaluation);
    let items: Vec<Item> = compared.iter().map(|compared| item(compared, &mut evaluation)).collect();
    let mut questions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, compared) in compared.iter().enumerate() {
        questions.entry(&compared.question).or_default().push(place);
        groups.extend(
            compared
                .group
                .as_deref()
                .filter(|group| !groups.contains_key(group))
                .map(|group| (group, Vec::new())),
        );
        if let Some(places) = compared.group.as_deref().and_then(|group| groups.get_mut(group)) {
            places.push(place);
        }
    }
    let questions: Vec<Vec<usize>> = questions.into_values().collect();
    let names: std::collections::BTreeSet<&String> =
        items.iter().flat_map(|item| item.scores.keys()).collect();
    let mean_of = |name: &String, places: &mut dyn Iterator<Item = usize>| {
        let scores: Vec<f64> = places.filter_map(|place| items[place].scores.get(name).copied()).collect();
        (!scores.is_empty()).then(|| mean(&scores))
    };
    for name in names {
        let found = mean_of(name, &mut (0..items.len()));
        let interval = bootstrap(questions.len(), |sample| {
            mean_of(name, &mut sample.iter().flat_map(|&question| questions[question].iter().copied()))
        });
        evaluation.metrics.extend(found.map(|found| (name.clone(), found)));
        evaluation.intervals.extend(interval.map(|interval| (name.clone(), interval)));
    }
    add_length_controlled(&mut evaluation, &questions, compared, &items);
    for (group, places) in groups {
        let mut metrics = BTreeMap::from([("items".to_string(), places.len() as f64)]);
        for name in ["win_rate", "tie_rate"].map(String::from) {
            metrics.extend(mean_of(&name, &mut places.iter().copied()).map(|found| (name, found)));
        }
        evaluation.groups.insert(group.into(), metrics);
    }
    Outcome { evaluation, items }
}

fn add_length_controlled(
    evaluation: &mut Evaluation,
    questions: &[Vec<usize>],
    compared: &[Compared],
    items: &[Item],
) {
    let observed: Vec<Option<(f64, f64)>> = compared
        .iter()
        .zip(items)
        .map(|(compared, item)| Some((*item.scores.get("win_rate")?, compared.length_difference()?)))
        .collect();
    let of = |questions: &mut dyn Iterator<Item = &Vec<usize>>| {
        let sample: Vec<(f64, f64)> = questions.flatten().filter_map(|&place| observed[place]).collect();
        length_controlled_win_rate(&sample)
    };
    let name = "length_controlled_win_rate";
    let Some(found) = of(&mut questions.iter()) else { return };
    let interval =
        bootstrap(questions.len(), |sample| of(&mut sample.iter().map(|&question| &questions[question])));
    evaluation.metrics.insert(name.into(), found);
    evaluation.intervals.extend(interval.map(|interval| (name.to_string(), interval)));
}

/// Every count is there, also where it stays 0.
fn start_counts(evaluation: &mut Evaluation) {
    for name in [
        "items",
        "judged",
        "unread",
        "a_wins",
        "b_wins",
        "ties",
        "ties_by_disagreement",
        "identical",
        "prefers_first",
        "prefers_second",
        "replies",
        "reasked",
        "parsed",
        "repaired",
        "failed",
        "failed_no_verdict",
        "failed_broken",
        "failed_conflict",
        "length_unknown",
    ] {
        evaluation.count(name, 0);
    }
    for missing in Missing::ALL {
        evaluation.count(missing.name(), 0);
    }
}

fn item(compared: &Compared, evaluation: &mut Evaluation) -> Item {
    let (mut scores, mut detail) = (BTreeMap::new(), Map::new());
    evaluation.count("items", 1);
    detail.insert("question".into(), compared.question.as_str().into());
    detail.insert("turn".into(), compared.turn.into());
    detail.insert("group".into(), json!(compared.group));
    if let Some([a, b]) = &compared.responses {
        for (name, text) in [("mean_words_a", a), ("mean_words_b", b)] {
            scores.insert(name.to_string(), text.split_whitespace().count() as f64);
        }
        detail.insert("responses".into(), json!([a, b]));
    }
    let preferences = [0, 1].map(|order| read(&compared.replies[order], evaluation));
    detail.insert("replies".into(), json!(compared.replies));
    detail.insert("verdicts".into(), json!(preferences));
    let outcome = match (compared.missing, preferences) {
        (Some(missing), _) => {
            evaluation.count(missing.name(), 1);
            detail.insert("excluded".into(), missing.name().into());
            None
        }
        _ if compared.is_identical() => {
            evaluation.count("identical", 1);
            Some(Preference::Tie)
        }
        (None, [Some(first), Some(second)]) => Some(agreed(first, second, &mut scores, evaluation)),
        _ => {
            evaluation.count("unread", 1);
            detail.insert("excluded".into(), "unread".into());
            None
        }
    };
    if let Some(outcome) = outcome {
        let (count, win) = match outcome {
            Preference::A => ("a_wins", 1.0),
            Preference::B => ("b_wins", 0.0),
            Preference::Tie => ("ties", 0.5),
        };
        evaluation.count("judged", 1);
        evaluation.count(count, 1);
        evaluation.count("length_unknown", u64::from(compared.responses.is_none()));
        scores.insert("win_rate".into(), win);
        if compared.id != compared.question {
            scores.insert(format!("win_rate_turn_{}", compared.turn), win);
        }
        scores.insert("tie_rate".into(), f64::from(u8::from(outcome == Preference::Tie)));
        detail.insert("outcome".into(), json!(outcome));
    }
    Item { id: compared.id.clone(), scores, detail }
}

/// The first verdict that can be read among the replies to one order.
fn read(replies: &[String], evaluation: &mut Evaluation) -> Option<Preference> {
    evaluation.count("replies", u64::from(!replies.is_empty()));
    evaluation.count("reasked", u64::from(replies.len() > 1));
    let read = replies.iter().map(|reply| PairReply::read(reply));
    let chosen = read.reduce(|first, second| if first.preference.is_some() { first } else { second })?;
    let parse = match chosen.parse {
        ParseOutcome::Parsed => "parsed",
        ParseOutcome::Repaired => "repaired",
        ParseOutcome::Failed(_) => "failed",
    };
    evaluation.count(parse, 1);
    if let Some(problem) = chosen.problem {
        evaluation.count(&format!("failed_{}", problem.name()), 1);
    }
    chosen.preference
}

/// What the verdicts in both orders say together; the second saw B first.
fn agreed(
    first: Preference,
    second: Preference,
    scores: &mut BTreeMap<String, f64>,
    evaluation: &mut Evaluation,
) -> Preference {
    let second = match second {
        Preference::A => Preference::B,
        Preference::B => Preference::A,
        Preference::Tie => Preference::Tie,
    };
    let inconsistent = first != second;
    scores.insert("position_inconsistency_rate".into(), f64::from(u8::from(inconsistent)));
    evaluation.count("ties_by_disagreement", u64::from(inconsistent));
    evaluation.count("prefers_first", u64::from((first, second) == (Preference::A, Preference::B)));
    evaluation.count("prefers_second", u64::from((first, second) == (Preference::B, Preference::A)));
    if inconsistent { Preference::Tie } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(id: &str, replies: [&str; 2], responses: Option<[&str; 2]>) -> Compared {
        Compared {
            id: id.into(),
            question: id.into(),
            turn: 1,
            group: Some("g".into()),
            responses: responses.map(|texts| texts.map(String::from)),
            replies: replies.map(|reply| if reply.is_empty() { Vec::new() } else { vec![reply.to_string()] }),
            missing: None,
        }
    }

    #[test]
    fn every_number_by_hand() {
        let texts = Some(["one two three", "one"]);
        let mut set = vec![
            compared("1", ["[[A]]", "[[B]]"], texts),
            compared("2", ["[[A]]", "[[A]]"], texts),
            compared("3", ["[[B]]", "[[A]]"], texts),
            compared("4", ["[[C]]", "[[C]]"], texts),
            compared("5", ["[[B]]", "[[B]]"], texts),
            compared("6", ["[[A]]", "[[C]]"], texts),
            compared("7", ["[[A]]", "garbage"], texts),
            compared("8", ["", ""], Some(["same", "same"])),
            compared("9", ["[[A]]", "[[B]]"], None),
        ];
        set.push(Compared { missing: Some(Missing::NoResponse), ..compared("10", ["", ""], None) });
        let evaluation = score("set", &set).evaluation;
        // Wins 1, 9; loss 3; ties 2, 4, 5, 6, 8.
        let close = |metric: &str, expected: f64| {
            let found = evaluation.metrics[metric];
            assert!((found - expected).abs() < 1e-12, "{metric}: {found} instead of {expected}");
        };
        close("win_rate", (2.0 + 5.0 * 0.5) / 8.0);
        close("tie_rate", 5.0 / 8.0);
        close("position_inconsistency_rate", 3.0 / 7.0);
        close("mean_words_a", (7.0 * 3.0 + 1.0) / 8.0);
        for (count, expected) in [
            ("items", 10),
            ("judged", 8),
            ("a_wins", 2),
            ("b_wins", 1),
            ("ties", 5),
            ("ties_by_disagreement", 3),
            ("prefers_first", 1),
            ("prefers_second", 1),
            ("identical", 1),
            ("unread", 1),
            ("no_response", 1),
            ("failed", 1),
            ("failed_no_verdict", 1),
            ("replies", 16),
            ("parsed", 15),
            ("length_unknown", 1),
        ] {
            assert_eq!(evaluation.counted(count), expected, "{count}: {:?}", evaluation.counts);
        }
        assert_eq!(evaluation.intervals.len(), evaluation.metrics.len());
        assert!(evaluation.metrics.contains_key("length_controlled_win_rate"));
        assert_eq!(evaluation.groups["g"]["items"], 10.0);
    }

    #[test]
    fn turns_of_one_question_are_resampled_together() {
        let turn = |question: &str, turn: usize, win: bool| Compared {
            id: format!("{question}/{turn}"),
            question: question.into(),
            turn,
            ..compared("", if win { ["[[A]]", "[[B]]"] } else { ["[[B]]", "[[A]]"] }, None)
        };
        let set: Vec<Compared> =
            (0..20).flat_map(|q| [1, 2].map(|t| turn(&q.to_string(), t, q % 2 == 0))).collect();
        let together = score("set", &set).evaluation;
        let alone: Vec<Compared> =
            set.iter().map(|c| Compared { question: c.id.clone(), ..c.clone() }).collect();
        let alone = score("set", &alone).evaluation;
        assert_eq!(together.metrics["win_rate"], 0.5);
        assert_eq!(together.metrics["win_rate_turn_2"], 0.5);
        let width = |evaluation: &Evaluation| {
            evaluation.intervals["win_rate"][1] - evaluation.intervals["win_rate"][0]
        };
        assert!(width(&together) > 1.2 * width(&alone), "{} {}", width(&together), width(&alone));
    }

    #[test]
    fn the_second_reply_counts_where_the_first_cannot_be_read() {
        let mut pair = compared("1", ["hm", "[[B]]"], None);
        pair.replies[0].push("[[A]]".into());
        let evaluation = score("set", &[pair]).evaluation;
        assert_eq!((evaluation.counted("a_wins"), evaluation.counted("reasked")), (1, 1));
    }
}
