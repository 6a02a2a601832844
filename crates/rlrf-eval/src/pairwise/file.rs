//! Models' answers and judges' verdicts from files.

use std::collections::HashMap;

use rlrf_method::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Answers, Compared, Missing, PairQuestion};
use crate::records::{id_text, read_records};

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    One(String),
    Turns(Vec<String>),
}

#[derive(Deserialize)]
struct Choice {
    turns: Vec<String>,
}

#[derive(Deserialize)]
struct AnswerRecord {
    #[serde(alias = "question_id")]
    id: Value,
    #[serde(alias = "output", alias = "output_cand")]
    response: Option<Text>,
    choices: Option<Vec<Choice>>,
}

/// Reads one model's answers: JSONL, or a JSON list, of `{"id", "response"}` (or `output`; a list has one text a turn), or
/// FastChat's answer files (`question_id`, `choices`: the first is taken). A question without a record has no answer.
///
/// # Errors
/// Names file and place: broken JSON, a wrong type, no answer in a record, an id used twice or not among the questions.
pub fn read_answers((file, bytes): (&str, &[u8]), questions: &[PairQuestion]) -> Result<Vec<Answers>> {
    let places: HashMap<&str, usize> =
        questions.iter().enumerate().map(|(place, question)| (question.id.as_str(), place)).collect();
    let mut answers: Vec<Option<Answers>> = vec![None; questions.len()];
    for (line, record) in read_records::<AnswerRecord>(file, bytes)? {
        let bad = |message: String| Error::Record { file: file.to_string(), line, message };
        let id = id_text(&record.id).map_err(bad)?;
        let place =
            *places.get(id.as_str()).ok_or_else(|| bad(format!("id {id:?} is not among the questions")))?;
        let texts = match (record.response, record.choices) {
            (Some(Text::One(text)), _) => vec![text],
            (Some(Text::Turns(texts)), _) => texts,
            (None, Some(choices)) => {
                choices.into_iter().next().map(|choice| choice.turns).unwrap_or_default()
            }
            (None, None) => return Err(bad("has no `response`".into())),
        };
        if answers[place].replace(texts).is_some() {
            return Err(bad(format!("a second answer to {id:?}")));
        }
    }
    Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
}

#[derive(Deserialize)]
struct ReplyRecord {
    #[serde(alias = "question_id")]
    id: Value,
    turn: Option<usize>,
    #[serde(alias = "g1_judgment")]
    result: Option<String>,
    #[serde(alias = "g2_judgment")]
    result_swapped: Option<String>,
    response_a: Option<String>,
    response_b: Option<String>,
    category: Option<String>,
    dataset: Option<String>,
}

/// Reads a judge's verdicts: JSONL, or a JSON list, of `{"id", "result", "result_swapped"}`, the judge's raw texts where A
/// was shown first and where B was; optional `turn`, `response_a` and `response_b` (for lengths), `category` or `dataset`.
/// FastChat's files of pair judgements (`question_id`, `turn`, `g1_judgment`, `g2_judgment`) are such files. A record that
/// lacks an order counts as one without a reply.
///
/// # Errors
/// Names file and place: broken JSON, a wrong type, an id (and turn) used twice; an empty file.
pub fn read_replies(file: &str, bytes: &[u8]) -> Result<Vec<Compared>> {
    let mut known = HashMap::new();
    let mut compared = Vec::new();
    for (line, record) in read_records::<ReplyRecord>(file, bytes)? {
        let bad = |message: String| Error::Record { file: file.to_string(), line, message };
        let question = id_text(&record.id).map_err(bad)?;
        let id = record.turn.map_or_else(|| question.clone(), |turn| format!("{question}/{turn}"));
        if let Some(first) = known.insert(id.clone(), line) {
            return Err(bad(format!(
                "id {id:?} was used on line {first} already; give one record a comparison"
            )));
        }
        let whole = record.result.is_some() && record.result_swapped.is_some();
        compared.push(Compared {
            id,
            question,
            turn: record.turn.unwrap_or(1),
            group: record.dataset.or(record.category),
            responses: record.response_a.zip(record.response_b).map(<[String; 2]>::from),
            replies: [record.result, record.result_swapped].map(|reply| reply.into_iter().collect()),
            missing: (!whole).then_some(Missing::NoReply),
        });
    }
    if compared.is_empty() {
        let message =
            "holds no reply; expected one JSON object a line with `id`, `result` and `result_swapped`";
        return Err(Error::Input { file: file.into(), message: message.into() });
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_origin() {
        let questions = PairQuestion::read(
            "q",
            b"{\"question_id\": 1, \"turns\": [\"a\", \"b\"]}\n{\"question_id\": 2, \"turns\": [\"a\"]}\n{\"question_id\": 3, \"turns\": [\"a\"]}",
            2,
        )
        .unwrap();
        let text = "{\"question_id\": 1, \"model_id\": \"m\", \"choices\": [{\"index\": 0, \"turns\": [\"x\", \"y\"]}]}\n\
                    {\"id\": 3, \"output\": \"z\"}";
        let answers = read_answers(("f", text.as_bytes()), &questions).unwrap();
        assert_eq!(answers, [vec!["x".to_string(), "y".into()], vec![], vec!["z".into()]]);
        for (text, expected) in [
            ("{\"id\": 9, \"output\": \"z\"}", "f:1: id \"9\" is not among"),
            ("{\"id\": 1}", "f:1: has no `response`"),
            ("{\"id\": 1, \"output\": \"z\"}\n{\"id\": 1, \"output\": \"z\"}", "f:2: a second answer"),
        ] {
            let message = read_answers(("f", text.as_bytes()), &questions).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn replies_of_every_origin() {
        let text = "{\"question_id\": 1, \"turn\": 2, \"g1_judgment\": \"[[A]]\", \"g2_judgment\": \"[[B]]\"}\n\
                    {\"id\": 1, \"result\": \"[[A]]\", \"response_a\": \"x\", \"response_b\": \"y\"}";
        let compared = read_replies("f", text.as_bytes()).unwrap();
        assert_eq!(
            (compared[0].id.as_str(), compared[0].question.as_str(), compared[0].missing),
            ("1/2", "1", None)
        );
        assert_eq!(compared[1].missing, Some(Missing::NoReply));
        assert!(compared[1].responses.is_some());
        let message = read_replies("f", b"").unwrap_err().to_string();
        assert!(message.starts_with("f: holds no reply"), "{message}");
    }
}
