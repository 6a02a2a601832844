//! Judges made of judges: who is asked about what, and what decides a judgement.

#![allow(clippy::unwrap_used, reason = "a test")]

use rlrf_method::aspect::DEFAULT_ASPECTS;
use rlrf_method::dispatch::{AspectCheckers, DispatchJudge};
use rlrf_method::grounding::{GroundedJudge, Grounding};
use rlrf_method::seam::*;
use rlrf_method::*;

/// Its critique tells what it was shown; it must never be asked about factuality.
struct EchoJudge;

impl Judge for EchoJudge {
    fn digest(&self) -> String {
        "echo".into()
    }
    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        // Any order is allowed.
        for (index, request) in requests.iter().enumerate().rev() {
            assert_ne!(request.aspect.name, "factuality", "a model was asked about a checker's aspect");
            let shown = format!("{} {:?}", request.response, request.instruction.reference);
            let distribution = [0.0, 1.0, 0.0];
            let feedback =
                Feedback::from_distribution(&request.aspect.name, shown, distribution, ParseOutcome::Parsed);
            sink(index, feedback)?;
        }
        Ok(())
    }
}

/// Right is what equals the reference.
struct ReferenceChecker;

impl Checker for ReferenceChecker {
    fn digest(&self) -> String {
        "reference".into()
    }
    fn check(&self, instruction: &Instruction, response: &str) -> Result<Check> {
        let correct = instruction.reference.as_deref() == Some(response);
        let level = if correct { 3 } else { 1 };
        Ok(Check { correct, readable: true, critique: format!("checked {response}"), level })
    }
}

fn instruction(id: &str, reference: Option<&str>) -> Instruction {
    let reference = reference.map(String::from);
    Instruction { id: id.into(), messages: vec![Message::user("q")], reference, answer: None }
}

fn aspects() -> Vec<Aspect> {
    Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS).unwrap()[..3].to_vec()
}

fn judged(judge: &mut dyn Judge, requests: &[JudgeRequest<'_>]) -> Vec<Feedback> {
    let mut feedback = vec![None; requests.len()];
    judge
        .judge(requests, &mut |index, given| {
            assert!(feedback[index].replace(given).is_none(), "judged twice");
            Ok(())
        })
        .unwrap();
    feedback.into_iter().map(Option::unwrap).collect()
}

#[test]
fn each_aspect_goes_to_whoever_decides_it() {
    let aspects = aspects();
    let instruction = instruction("i", Some("right"));
    let checkers: AspectCheckers =
        [("factuality".to_string(), Box::new(ReferenceChecker) as Box<dyn Checker>)].into();
    let requests: Vec<JudgeRequest<'_>> = ["right", "wrong"]
        .into_iter()
        .flat_map(|response| aspects.iter().map(move |aspect| (response, aspect)))
        .map(|(response, aspect)| JudgeRequest { instruction: &instruction, response, aspect })
        .collect();
    let mut judge = DispatchJudge { judge: Some(Box::new(EchoJudge)), checkers: &checkers };
    let feedback = judged(&mut judge, &requests);
    for (request, feedback) in requests.iter().zip(&feedback) {
        assert_eq!(feedback.aspect, request.aspect.name);
        assert!(feedback.critique.contains(request.response));
        let checked = request.aspect.name == "factuality";
        assert_eq!(feedback.source == FeedbackSource::Checker, checked);
        let level = if !checked {
            2
        } else if request.response == "right" {
            3
        } else {
            1
        };
        assert_eq!(feedback.level, Some(level));
    }
    assert_eq!(judge.digest_on(&aspects[1]), "reference");
    assert_eq!(judge.digest_on(&aspects[0]), EchoJudge.digest(), "as if there were no checker");

    let mut alone = DispatchJudge { judge: None, checkers: &checkers };
    assert_eq!(judged(&mut alone, &[requests[1]])[0].level, Some(3));
    let message = alone.judge(&requests, &mut |_, _| Ok(())).unwrap_err().to_string();
    assert!(message.contains("nobody judges logical correctness"), "{message}");
}

#[test]
fn what_was_looked_up_is_shown_to_the_judge_alone() {
    let aspects = aspects();
    let (bare, own) = (instruction("bare", None), instruction("own", Some("gold")));
    let mut grounding = Grounding::new("index 1".into());
    grounding.add(&bare, "passage".into());
    let mut judge = GroundedJudge { judge: Box::new(EchoJudge), grounding: &grounding };
    let requests =
        [&bare, &own].map(|instruction| JudgeRequest { instruction, response: "r", aspect: &aspects[0] });
    let feedback = judged(&mut judge, &requests);
    assert_eq!(feedback[0].critique, "r Some(\"passage\")");
    assert_eq!(feedback[1].critique, "r Some(\"gold\")");
    assert_eq!(bare.reference, None);

    let other = Grounding::new("index 2".into());
    let other = GroundedJudge { judge: Box::new(EchoJudge), grounding: &other };
    assert_ne!(judge.digest_on(&aspects[0]), other.digest_on(&aspects[0]));
    assert_ne!(judge.digest_on(&aspects[0]), EchoJudge.digest_on(&aspects[0]));
}
