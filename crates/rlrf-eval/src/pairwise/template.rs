//! MT-bench's prompts for judging pairs (`pair-v2` and `pair-v2-multi-turn`, Apache-2.0, licence beside them).

use rlrf_method::digest::digest;
use rlrf_method::{Message, Role};

use super::{PairQuestion, conversation_text};
use crate::just_eval::fill;

/// Names the templates in settings.
pub const TEMPLATE: &str = "mt-bench pair-v2";

const SYSTEM: &str = include_str!("../../templates/mt_bench/pair_v2.system.txt");
const PROMPT: &str = include_str!("../../templates/mt_bench/pair_v2.txt");
const MULTI_TURN_SYSTEM: &str = include_str!("../../templates/mt_bench/pair_v2_multi_turn.system.txt");
const MULTI_TURN_PROMPT: &str = include_str!("../../templates/mt_bench/pair_v2_multi_turn.txt");

/// The request that follows an unreadable reply.
pub(super) const AGAIN: &str =
    "Your reply could not be read. Output your final verdict alone: \"[[A]]\", \"[[B]]\" or \"[[C]]\".";

/// Identity of the templates and of the request for another reply.
pub(super) fn templates_digest() -> String {
    digest(&(SYSTEM, PROMPT, MULTI_TURN_SYSTEM, MULTI_TURN_PROMPT, AGAIN))
}

/// The conversation that asks which of two models' `answers` up to `turn` (from 0) is better at it.
pub(super) fn judge_prompt(question: &PairQuestion, turn: usize, answers: [&[String]; 2]) -> Vec<Message> {
    let first = conversation_text(&question.messages);
    let [a, b] = answers;
    let (system, prompt) = match turn.checked_sub(1).and_then(|before| question.further.get(before)) {
        None => {
            let texts = [("{question}", first.as_str()), ("{answer_a}", &a[0]), ("{answer_b}", &b[0])];
            (SYSTEM, fill(PROMPT, &texts))
        }
        Some(second) => {
            let texts = [
                ("{question_1}", first.as_str()),
                ("{question_2}", second.as_str()),
                ("{answer_a_1}", &a[0]),
                ("{answer_a_2}", &a[1]),
                ("{answer_b_1}", &b[0]),
                ("{answer_b_2}", &b[1]),
            ];
            (MULTI_TURN_SYSTEM, fill(MULTI_TURN_PROMPT, &texts))
        }
    };
    vec![Message { role: Role::System, content: system.into() }, Message::user(prompt)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_show_what_they_should() {
        let record = br#"{"question_id": 1, "category": "c", "turns": ["{answer_a}?", "second?"]}"#;
        let question = &PairQuestion::read("f", record, 2).unwrap()[0];
        let (a, b) = (vec!["a one".to_string(), "a two".into()], vec!["b one".to_string(), "b two".into()]);
        let first = judge_prompt(question, 0, [&a, &b]);
        assert!(first[0].content.contains("\"[[A]]\" if assistant A is better"));
        assert_eq!(
            first[1].content,
            "[User Question]\n{answer_a}?\n\n[The Start of Assistant A's Answer]\na one\n[The End of Assistant A's Answer]\n\n\
             [The Start of Assistant B's Answer]\nb one\n[The End of Assistant B's Answer]"
        );
        let second = &judge_prompt(question, 1, [&b, &a])[1].content;
        let order: Vec<usize> =
            ["b one", "second?", "b two", "a one", "a two"].map(|text| second.find(text).unwrap()).into();
        assert!(order.is_sorted(), "{second}");
        assert_eq!(second.matches("{answer_a}?").count(), 2);
    }
}
