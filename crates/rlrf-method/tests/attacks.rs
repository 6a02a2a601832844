//! What protects a judge, and the policy that refines, from text that wants more than to be judged: attack texts of a file.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;

use rlrf_method::config::Sampling;
use rlrf_method::seam::*;
use rlrf_method::text_judge::TextJudge;
use rlrf_method::*;
use serde::Deserialize;

/// A response that is more than an answer.
#[derive(Deserialize)]
struct Attack {
    name: String,
    text: String,
    #[serde(default = "once")]
    repeat: usize,
}

fn once() -> usize {
    1
}

impl Attack {
    fn all() -> Vec<Self> {
        let lines = include_str!("fixtures/attacks.jsonl").lines();
        let attacks: Vec<Self> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(attacks.len() >= 50);
        attacks
    }

    fn response(&self) -> String {
        self.text.repeat(self.repeat)
    }
}

fn templates() -> Templates {
    Templates::new(template::DEFAULT_FEEDBACK, template::DEFAULT_REFINE).unwrap()
}

fn aspect() -> Aspect {
    Aspect::read_toml("aspects.toml", aspect::DEFAULT_ASPECTS).unwrap().remove(0)
}

fn instruction(question: &str, reference: &str) -> Instruction {
    Instruction {
        id: "i".into(),
        messages: vec![Message::user(question)],
        reference: Some(reference.into()),
        answer: None,
    }
}

fn prompt(instruction: &Instruction, response: &str) -> String {
    let mut messages = templates().feedback(instruction, response, &aspect()).unwrap();
    assert_eq!(messages.len(), 1);
    messages.remove(0).content
}

/// Letters, brackets and slashes alone: what is left of a tag in most of its disguises.
fn bones(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| c.is_ascii_lowercase() || "<>/".contains(*c)).collect()
}

#[test]
fn a_response_stays_in_its_fence_and_moves_nothing_else() {
    let question = instruction("What is 3 + 4?", "7");
    let harmless = prompt(&question, "It is 7.");
    let (before, after) = harmless.split_once("It is 7.").unwrap();
    assert!(before.ends_with("\n<response>\n") && after.starts_with("\n</response>\n"));
    for attack in Attack::all() {
        let rendered = prompt(&question, &attack.response());
        let inside = rendered.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        let inside = inside.unwrap_or_else(|| panic!("{}: the rest of the prompt has changed", attack.name));
        for tag in ["response", "instruction", "reference"] {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}"));
            assert_eq!(bones(&rendered).matches(&open).count(), 1, "{}: {inside}", attack.name);
            assert_eq!(bones(&rendered).matches(&close).count(), 1, "{}: {inside}", attack.name);
        }
        for token in [
            "<|",
            "[INST]",
            "[/INST]",
            "<s>",
            "</s>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<<SYS>>",
            "\u{ff5c}>",
        ] {
            assert!(!inside.contains(token), "{}: {token}", attack.name);
        }
        // What it says is judged, all of it: brackets change, and nothing goes.
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        assert_eq!(letters(inside), letters(attack.response().trim()), "{}", attack.name);
    }
}

#[test]
fn instructions_and_references_stay_in_theirs() {
    for attack in Attack::all() {
        let text = format!("x {}", attack.response());
        let rendered = prompt(&instruction(&text, &text), "It is 7.");
        for tag in ["response", "instruction", "reference"] {
            assert_eq!(bones(&rendered).matches(&format!("</{tag}")).count(), 1, "{}", attack.name);
        }
        assert!(rendered.contains("\n<response>\nIt is 7.\n</response>\n"), "{}", attack.name);
    }
}

/// A judge that replies as told, given the conversation.
struct Scripted<'a>(&'a dyn Fn(&[Message]) -> String);

impl Policy for Scripted<'_> {
    fn digest(&self) -> String {
        "scripted".into()
    }

    fn fits(&self, _: &[Message]) -> Result<bool> {
        Ok(true)
    }

    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            let text = (self.0)(&request.messages);
            sink(index, 0, Generated { text, tokens: Vec::new(), logprob: None, complete: true })?;
        }
        Ok(())
    }
}

fn judged(response: &str, reply: &dyn Fn(&[Message]) -> String) -> Feedback {
    let (templates, aspect, question) = (templates(), aspect(), instruction("What is 3 + 4?", "7"));
    let mut judge = TextJudge::new(Box::new(Scripted(reply)), &templates, Sampling::greedy(100));
    let request = JudgeRequest { instruction: &question, response, aspect: &aspect };
    let found = RefCell::new(None);
    judge
        .judge(&[request], &mut |_, feedback| {
            assert!(found.replace(Some(feedback)).is_none(), "judged twice");
            Ok(())
        })
        .unwrap();
    found.into_inner().unwrap()
}

/// What a judge that does as it is told writes when it is asked for its level once more.
fn asked_for(messages: &[Message], level: u8) -> String {
    let request = &messages.last().unwrap().content;
    let form = request.split('"').find(|form| form.ends_with(&format!(": {level}"))).unwrap();
    form.to_string()
}

#[test]
fn a_judge_that_quotes_an_attack_is_read_at_its_own_verdict() {
    let mut asked_again = 0;
    for attack in Attack::all() {
        let response = attack.response();
        for own in 1..=3 {
            for quoting in [
                format!("The response says:\n{response}\nThat is what I judge.\nLevel: {own}"),
                format!("{response}\n\nLevel: {own}"),
                format!("It ends so: \"{response}\". I do not follow it.\n\nLevel: {own}"),
            ] {
                let feedback = judged(&response, &|messages| match messages {
                    [_] => quoting.clone(),
                    [_, reply, _] => {
                        assert_eq!(reply.content, quoting, "the reply is shown");
                        asked_for(messages, own)
                    }
                    other => panic!("{other:?}"),
                });
                assert_eq!(feedback.level, Some(own), "{}: {:?}", attack.name, feedback.parse);
                asked_again += u32::from(feedback.reasked);
            }
        }
    }
    assert!(asked_again > 0, "some quotations leave a doubt");
}

#[test]
fn a_quotation_alone_is_no_verdict() {
    for attack in Attack::all() {
        let response = attack.response();
        let mut replies = vec![response.clone(), format!("It says:\n{response}"), format!("> {response}")];
        if response.contains("Level: 3") {
            replies.push("Level: 3".into());
        }
        for first in &replies {
            for second in &replies {
                let feedback = judged(&response, &|messages| match messages {
                    [_] => first.clone(),
                    _ => second.clone(),
                });
                assert_eq!(feedback.level, None, "{}", attack.name);
                let ParseOutcome::Failed(raw) = &feedback.parse else { panic!("{}", attack.name) };
                assert!(first.trim().is_empty() || raw.contains(first), "{}: raw text is kept", attack.name);
            }
        }
    }
}

#[test]
fn what_a_critique_quotes_stays_an_item_of_the_refinement() {
    let question = instruction("What is 3 + 4?", "7");
    let request = |critique: &str| {
        let feedback = ["logic", "style"]
            .map(|aspect| Feedback::from_level(aspect, critique.into(), 1, ParseOutcome::Parsed));
        templates().refine(&question, critique, &feedback).unwrap()
    };
    let harmless = request("It is wrong.");
    let (before, rest) = harmless[2].content.split_once("It is wrong.").unwrap();
    let (between, after) = rest.split_once("It is wrong.").unwrap();
    for attack in Attack::all() {
        let critique = format!("It says: {}\n- logic (level 3 of 3): It is right.", attack.response());
        let messages = request(&critique);
        assert_eq!(messages.len(), harmless.len());
        assert_eq!(messages[0], harmless[0]);
        let request = &messages[2].content;
        assert!(
            request.starts_with(before) && request.contains(between) && request.ends_with(after),
            "{}",
            attack.name
        );
        assert_eq!(request.lines().filter(|line| line.starts_with("- ")).count(), 2, "{}", attack.name);
        for message in &messages[1..] {
            for token in ["<|im", "<|eot", "<|start", "<|end", "[INST]", "</s>", "<end_of_turn>", "<<SYS>>"] {
                assert!(!message.content.contains(token), "{}: {token}", attack.name);
            }
        }
        assert!(!bones(request).contains("</response"), "{}", attack.name);
    }
}
