//! A judge in free text: what it is asked, what of it is asked once more, and what is never paid for twice.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use rlrf_method::config::Sampling;
use rlrf_method::kept::KeptPolicy;
use rlrf_method::panel::Panel;
use rlrf_method::row::SharedStore;
use rlrf_method::seam::*;
use rlrf_method::text_judge::TextJudge;
use rlrf_method::*;
use serde_json::Value;

#[derive(Default)]
struct MemoryStore(BTreeMap<(Table, String), Row>);

impl RowStore for MemoryStore {
    fn get(&self, table: Table, key: &str) -> std::result::Result<Option<Value>, StoreError> {
        Ok(self.0.get(&(table, key.to_string())).map(|row| row.body.clone()))
    }

    fn commit(&mut self, rows: &[(Table, Row)]) -> std::result::Result<(), StoreError> {
        for (table, row) in rows {
            assert!(self.0.insert((*table, row.key.clone()), row.clone()).is_none(), "committed twice");
        }
        Ok(())
    }

    fn rows(&self, _: Table, _: u32) -> std::result::Result<Vec<Row>, StoreError> {
        Ok(self.0.values().cloned().collect())
    }
}

/// Judges responses "1", "2" and "3" by their value, "unclear" clearly only when asked again, "noise" never.
struct Talker<'a> {
    calls: &'a Cell<usize>,
    /// The connection breaks before this call.
    breaks_at: usize,
    /// A word of prompts that are too long for it.
    too_long: &'static str,
}

impl Policy for Talker<'_> {
    fn digest(&self) -> String {
        "talker".into()
    }

    fn fits(&self, messages: &[Message]) -> Result<bool> {
        Ok(!messages[0].content.contains(self.too_long))
    }

    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            if self.calls.get() == self.breaks_at {
                return Err(Error::Backend("the connection broke".into()));
            }
            self.calls.set(self.calls.get() + 1);
            let prompt = &request.messages[0].content;
            let (_, rest) = prompt.split_once("<response>\n").unwrap();
            let (response, _) = rest.split_once("\n</response>").unwrap();
            let (text, complete) = match (response, request.messages.len()) {
                ("noise", _) => ("I like it.".to_string(), true),
                ("unclear", 1) => ("Partly right. Between level 2 and 3.".into(), true),
                ("unclear", _) => ("Level: 2".into(), true),
                ("cut", 1) => ("Wrong.\nLevel: 1".into(), false),
                ("cut", _) => ("Wrong.\nLevel: 1".into(), true),
                ("silent", _) => (String::new(), true),
                (value, _) => (format!("It is {value}.\nLevel: {value}"), true),
            };
            sink(index, 0, Generated { text, tokens: Vec::new(), logprob: None, complete })?;
        }
        Ok(())
    }
}

struct Setting {
    templates: Templates,
    aspect: Aspect,
    instruction: Instruction,
}

impl Setting {
    fn new() -> Self {
        Self {
            templates: Templates::new(template::DEFAULT_FEEDBACK, template::DEFAULT_REFINE).unwrap(),
            aspect: Aspect::read_toml("aspects.toml", aspect::DEFAULT_ASPECTS).unwrap().remove(0),
            instruction: Instruction {
                id: "i".into(),
                messages: vec![Message::user("Count.")],
                reference: None,
                answer: None,
            },
        }
    }

    /// The feedback on each response; an error as it was.
    fn judge(&self, judge: &mut dyn Judge, responses: &[&str]) -> Result<Vec<Feedback>> {
        let requests: Vec<JudgeRequest<'_>> = responses
            .iter()
            .map(|response| JudgeRequest { instruction: &self.instruction, response, aspect: &self.aspect })
            .collect();
        let mut found = vec![None; responses.len()];
        judge.judge(&requests, &mut |index, feedback| {
            assert!(found[index].replace(feedback).is_none(), "judged twice");
            Ok(())
        })?;
        Ok(found.into_iter().map(Option::unwrap).collect())
    }

    fn text_judge<'a>(&'a self, policy: impl Policy + 'a) -> TextJudge<'a> {
        TextJudge::new(Box::new(policy), &self.templates, Sampling::greedy(64))
    }
}

fn talker(calls: &Cell<usize>) -> Talker<'_> {
    Talker { calls, breaks_at: usize::MAX, too_long: "\u{0}" }
}

#[test]
fn parsed_repaired_after_one_more_request_or_failed() {
    let (setting, calls) = (Setting::new(), Cell::new(0));
    let responses = ["1", "unclear", "noise", "3", "cut", "silent"];
    let found = setting.judge(&mut setting.text_judge(talker(&calls)), &responses).unwrap();
    let levels: Vec<Option<u8>> = found.iter().map(|feedback| feedback.level).collect();
    assert_eq!(levels, [Some(1), Some(2), None, Some(3), Some(1), None]);
    let reasked: Vec<bool> = found.iter().map(|feedback| feedback.reasked).collect();
    assert_eq!(reasked, [false, true, true, false, true, false]);
    assert_eq!(calls.get(), 6 + 3);
    assert_eq!((found[0].critique.as_str(), &found[0].parse), ("It is 1.", &ParseOutcome::Parsed));
    assert_eq!(found[1].critique, "Partly right. Between level 2 and 3.");
    assert_eq!(found[1].parse, ParseOutcome::Repaired);
    let ParseOutcome::Failed(raw) = &found[2].parse else { panic!("{:?}", found[2]) };
    assert_eq!(raw.matches("I like it.").count(), 2, "both replies are kept: {raw}");
}

#[test]
fn a_response_too_long_to_be_judged_fails_alone() {
    let (setting, calls) = (Setting::new(), Cell::new(0));
    let policy = Talker { too_long: "very long", ..talker(&calls) };
    let found = setting.judge(&mut setting.text_judge(policy), &["1", "very long", "2"]).unwrap();
    assert_eq!((found[0].level, found[1].level, found[2].level), (Some(1), None, Some(2)));
    assert!(matches!(&found[1].parse, ParseOutcome::Failed(why) if why.contains("does not fit")));
}

#[test]
fn whatever_was_replied_is_never_asked_again() {
    let (setting, calls) = (Setting::new(), Cell::new(0));
    let responses = ["1", "unclear", "noise", "2", "3", "unclear", "3"];
    let mut store = MemoryStore::default();
    let judge = |store: &mut MemoryStore, breaks_at| {
        let shared = RefCell::new(store as &mut dyn RowStore);
        let mut policy = Talker { breaks_at, ..talker(&calls) };
        let kept =
            KeptPolicy { policy: &mut policy, store: SharedStore::new(&shared), iteration: 0, stage: "s" };
        setting.judge(&mut setting.text_judge(kept), &responses)
    };
    // Five distinct prompts, two of which are asked about once more: interrupted before every one of them.
    for breaks_at in 0..7 {
        let error = judge(&mut store, breaks_at).unwrap_err().to_string();
        assert_eq!((error.as_str(), store.0.len()), ("the connection broke", breaks_at));
    }
    let whole = judge(&mut store, usize::MAX).unwrap();
    assert_eq!((calls.get(), store.0.len()), (7, 7));
    assert_eq!(judge(&mut store, 7).unwrap(), whole, "nothing is left to ask");
    let fresh = Cell::new(0);
    assert_eq!(setting.judge(&mut setting.text_judge(talker(&fresh)), &responses).unwrap(), whole);
}

#[test]
fn a_panel_asks_every_member_about_everything() {
    let (setting, first, second) = (Setting::new(), Cell::new(0), Cell::new(0));
    let responses: Vec<String> = (0..600).map(|index| ["1", "noise", "3"][index % 3].to_string()).collect();
    let responses: Vec<&str> = responses.iter().map(String::as_str).collect();
    let mut panel = Panel::new(vec![
        Box::new(setting.text_judge(talker(&first))),
        Box::new(setting.text_judge(Talker { too_long: "3\n</response>", ..talker(&second) })),
    ]);
    let found = setting.judge(&mut panel, &responses).unwrap();
    for (feedback, response) in found.iter().zip(&responses) {
        assert_eq!(feedback.members.len(), 2);
        match *response {
            "1" => assert_eq!((feedback.level, &feedback.parse), (Some(1), &ParseOutcome::Parsed)),
            "noise" => assert!(feedback.level.is_none() && feedback.reasked),
            _ => assert_eq!((feedback.aspect_score(), &feedback.parse), (Some(3.0), &ParseOutcome::Repaired)),
        }
    }
    assert_eq!(second.get(), 200 + 400);
    let alone = Panel::new(vec![Box::new(setting.text_judge(talker(&first)))]);
    assert_ne!(panel.digest(), alone.digest());
}
