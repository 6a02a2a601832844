//! The shipped examples, cut down to seconds: their configurations, data and templates work as they are.

use std::fs;
use std::path::{Path, PathBuf};

use rlrf_checkers::checker;
use rlrf_method::demonstration::Demonstration;
use rlrf_method::{Aspect, Feedback, Instruction, Message, ParseOutcome, Templates};

use crate::folder::Folder;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

#[test]
fn the_word_problems_example_runs_to_its_report() {
    let folder = Folder::new();
    let config = example("word-problems/rlrf.toml");
    let mut arguments = vec!["--json", "run", config.to_str().unwrap(), "--out", "run"];
    for set in [
        "instructions.limit=12",
        "policy.new.preset=tiny",
        "feedback.new.preset=tiny",
        "policy.sft.training.max_steps=4",
        "feedback.sft.training.max_steps=4",
        "demonstrations.per_problem.answers=1",
        "demonstrations.per_problem.refinements=1",
        "demonstrations.per_problem.feedback=1",
        "sample.n=3",
        "refine.m=2",
        "evaluation.max_new_tokens=8",
        "feedback.critique.max_new_tokens=16",
    ] {
        arguments.extend(["--set", set]);
    }
    let summary = folder.run(&arguments).expect_success().json();
    assert_eq!(summary["models"].as_array().unwrap().len(), 3);
    let evaluations = summary["evaluations"].as_array().unwrap();
    let problems: Vec<_> = evaluations.iter().map(|e| e["counts"]["items"].as_u64().unwrap()).collect();
    assert_eq!(problems, [582, 1000, 582, 1000, 582, 1000]);
    assert_eq!(summary["iterations"][1]["sampled"], 36);
    let report = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(report.contains("word-problems") && report.contains("heldout"));
}

#[test]
fn the_story_words_example_runs_to_the_movement_of_its_aspects() {
    let folder = Folder::new();
    let config = example("story-words/rlrf.toml");
    let mut arguments = vec!["--json", "run", config.to_str().unwrap(), "--out", "run"];
    for set in [
        "instructions.limit=6",
        "policy.new={ preset = \"tiny\", vocab_size = 300 }",
        "feedback.new={ preset = \"tiny\", vocab_size = 300 }",
        "policy.sft.training.max_steps=2",
        "feedback.sft.training.max_steps=2",
        "sample.n=2",
        "refine.m=1",
        "sample.sampling.max_new_tokens=8",
        "refine.sampling.max_new_tokens=8",
        "feedback.critique.max_new_tokens=4",
        "evaluation.max_new_tokens=8",
        "evaluation.divergence_samples=0",
        "evaluation.sets=[{ name = \"heldout\", benchmark = \"aspects\", file = \"data/heldout.jsonl\", limit = 5, checkers = \"data/checkers.toml\" }]",
    ] {
        arguments.extend(["--set", set]);
    }
    let summary = folder.run(&arguments).expect_success().json();
    let evaluations = summary["evaluations"].as_array().unwrap();
    assert_eq!(evaluations.len(), 3);
    for evaluation in evaluations {
        assert_eq!(evaluation["counts"]["items"], 5);
        for by in ["judged", "checked"] {
            for aspect in ["completeness", "conciseness", "readability"] {
                let level = evaluation["metrics"][format!("{by}_{aspect}")].as_f64().unwrap();
                assert!((1.0..=3.0).contains(&level), "{evaluation:#}");
            }
        }
    }
    let report = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(report.contains("heldout checked completeness"));

    // The same by itself: the same responses, judged alike.
    let data = |name: &str| example("story-words/data").join(name).display().to_string();
    let (instructions, checkers) = (data("heldout.jsonl"), data("checkers.toml"));
    let alone =
        ["--json", "eval", "aspects", "--config", config.to_str().unwrap(), "--model", "run/models/M1"];
    let judged = ["--judge", "run/models/feedback", "--instructions", &instructions, "--checkers", &checkers];
    let limits = ["--set", "feedback.critique.max_new_tokens=4", "--set", "evaluation.max_new_tokens=8"];
    let arguments = [&alone[..], &judged, &limits, &["--limit", "5"]].concat();
    let evaluation = folder.run(&arguments).expect_success().json();
    assert_eq!(evaluation["metrics"], evaluations[1]["metrics"]);
}

/// The levels that the feedback model learns are those that the checkers find, and its prompts those of the template; so
/// are the policy's requests to refine.
#[test]
fn the_story_words_demonstrations_are_what_a_run_will_ask() {
    let folder = example("story-words");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let demonstrations =
        |name: &str| Demonstration::read_jsonl(name, read(&format!("data/{name}")).as_bytes()).unwrap();
    let templates =
        Templates::new(&read("templates/feedback.jinja"), &read("templates/refine.jinja")).unwrap();
    let aspects = Aspect::read_toml("checkers.toml", &read("data/checkers.toml")).unwrap();
    let asked = |prompt: &str| {
        let words = prompt.strip_prefix("at most two sentences with: ").unwrap();
        Instruction {
            id: String::new(),
            messages: vec![Message::user(prompt)],
            reference: None,
            answer: words.strip_suffix('.').map(String::from),
        }
    };
    let checkers: Vec<_> =
        aspects.iter().map(|aspect| checker(aspect.checker.as_ref().unwrap()).unwrap()).collect();
    let feedback = [demonstrations("feedback.jsonl"), demonstrations("feedback-second.jsonl")].concat();
    for Demonstration { prompt, completion } in feedback {
        let [prompt, text, name] = prompt[0].content.split('\n').collect::<Vec<_>>().try_into().unwrap();
        let response = text.strip_prefix("text: ").unwrap();
        let place = aspects.iter().position(|aspect| aspect.name == name).unwrap();
        let instruction = asked(prompt);
        let rendered = templates.feedback(&instruction, response, &aspects[place]).unwrap();
        assert_eq!(rendered[0].content, format!("{prompt}\n{text}\n{name}"));
        let check = checkers[place].check(&instruction, response).unwrap();
        assert!(
            completion.ends_with(&format!("\nLevel: {}", check.level)),
            "{response}: {completion} {check:?}"
        );
    }
    for Demonstration { prompt, .. } in demonstrations("refinements.jsonl") {
        let feedback: Vec<Feedback> = prompt[2]
            .content
            .lines()
            .map(|advice| {
                let critique = format!("found; {advice}");
                Feedback::from_distribution("a", critique, [0.0, 1.0, 0.0], ParseOutcome::Parsed)
            })
            .chain([Feedback::from_distribution(
                "b",
                "fine; fine".into(),
                [0.0, 0.0, 1.0],
                ParseOutcome::Parsed,
            )])
            .collect();
        let rendered = templates.refine(&asked(&prompt[0].content), &prompt[1].content, &feedback).unwrap();
        assert_eq!(rendered, prompt);
    }
}
