//! The stage commands that train, on files: every loss over pairs, the best of scored candidates, policy gradients.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::{Folder, jsonl};
use crate::stages::prepared;

/// A folder with a model, and two judged candidates of each instruction as a file of candidates and as one of pairs.
fn judged() -> Folder {
    let folder = prepared();
    let instructions = folder.lines("instructions.jsonl");
    let candidates = |problem: &Value| {
        json!({
            "prompt": problem["prompt"],
            "candidates": [{ "text": "1 + 1", "score": 1.25 }, { "text": problem["reference"], "score": 2.75 }],
        })
    };
    let pair = |problem: &Value| json!({ "prompt": problem["prompt"], "chosen": problem["reference"], "rejected": "1 + 1" });
    folder.write("judged.jsonl", jsonl(&instructions.iter().map(candidates).collect::<Vec<_>>()));
    folder.write("pairs.jsonl", jsonl(&instructions.iter().map(pair).collect::<Vec<_>>()));
    folder
}

fn train(folder: &Folder, command: &[&str], set: &[&str]) -> Value {
    let section = if command[0] == "dpo" { "dpo" } else { command[0] };
    let training =
        ["epochs=6", "batch_size=4", "learning_rate=3e-3"].map(|s| format!("{section}.training.{s}"));
    let mut arguments = [command, &["--model", "model", "--out", "trained", "--json"]].concat();
    training
        .iter()
        .map(String::as_str)
        .chain(set.iter().copied())
        .for_each(|s| arguments.extend(["--set", s]));
    let outcome = folder.run(&arguments).expect_success().json();
    assert_eq!(outcome["steps"], 18);
    outcome
}

#[test]
fn every_loss_over_pairs() {
    let folder = judged();
    let mut models = Vec::new();
    for set in [
        &[][..],
        &["dpo.objective.label_smoothing=0.1"],
        &["dpo.objective.loss=robust", "dpo.objective.label_smoothing=0.1"],
        &["dpo.objective.loss=ipo"],
        &["dpo.objective.loss=simpo", "dpo.objective.beta=2"],
        &["dpo.objective.loss=orpo", "dpo.objective.beta=1"],
        &["dpo.objective.loss=kto", "dpo.objective.desirable_weight=1.5"],
    ] {
        let outcome = train(&folder, &["dpo", "--pairs", "pairs.jsonl"], set);
        assert!(outcome["last_loss"].as_f64() < outcome["first_loss"].as_f64(), "{set:?}: {outcome}");
        assert!(outcome["preference"]["rewards_margin"].as_f64() > Some(0.0), "{set:?}: {outcome}");
        assert!(!models.contains(&outcome["model"]), "{set:?} is another loss");
        models.push(outcome["model"].clone());
    }
    let refused = folder.run(&[
        "dpo",
        "--model",
        "model",
        "--pairs",
        "pairs.jsonl",
        "--out",
        "other",
        "--set",
        "dpo.objective.loss=orpo",
        "--set",
        "dpo.objective.sft_weight=1",
    ]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("dpo.objective: training configuration: sft_weight = 1"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_best_candidates_and_all_scores() {
    let folder = judged();
    let candidates = ["--candidates", "judged.jsonl"];
    let best = train(&folder, &[&["sft"], &candidates[..]].concat(), &["sft.min_score=2.5"]);
    assert!(best["last_loss"].as_f64() < best["first_loss"].as_f64(), "{best}");
    let grpo = train(&folder, &[&["grpo"], &candidates[..]].concat(), &[]);
    let rloo = train(&folder, &[&["grpo"], &candidates[..]].concat(), &["grpo.objective.loss=rloo"]);
    // Two scores 1.5 apart: standardised, and each less the other.
    assert!((grpo["policy"]["advantage"].as_f64().unwrap() - 0.5f64.sqrt()).abs() < 1e-3, "{grpo}");
    assert_eq!(rloo["policy"]["advantage"], 1.5);
    for outcome in [&grpo, &rloo] {
        assert!(outcome["policy"]["kl_per_token"].as_f64() > Some(0.0) && outcome["preference"].is_null());
    }
    assert_ne!(grpo["model"], rloo["model"]);
}

#[test]
fn a_killed_policy_gradient_ends_in_the_same_model() {
    let folder = judged();
    let grpo = |out: &'static str| {
        let mut arguments = vec!["grpo", "--model", "model", "--candidates", "judged.jsonl", "--out", out];
        for setting in
            ["grpo.training.epochs=60", "grpo.training.batch_size=4", "grpo.training.checkpoint_every=5"]
        {
            arguments.extend(["--set", setting]);
        }
        arguments
    };
    folder.run(&grpo("whole")).expect_success();
    let mut child =
        folder.command(&grpo("killed")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.path("killed.partial/checkpoint/training.safetensors").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The log-probabilities of the sampling policy come back out of their rows.
    let repeated = folder.run(&grpo("killed")).expect_success();
    assert!(repeated.stderr.contains("training goes on after step"), "{}", repeated.stderr);
    assert!(folder.tree("killed").values().eq(folder.tree("whole").values()), "another model");
}

#[test]
fn candidates_that_teach_nothing_are_refused() {
    let folder = judged();
    let refuse = |command: &[&str], expected: &str| {
        let refused = folder.run(&[command, &["--model", "model", "--out", "trained"]].concat());
        assert_ne!(refused.code, Some(0));
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert!(!folder.path("trained").exists());
    };
    let line = |scores: [Value; 2]| {
        let candidates: Vec<Value> =
            scores.iter().map(|score| json!({ "text": score.to_string(), "score": score })).collect();
        format!("{}\n", json!({ "prompt": "q", "candidates": candidates }))
    };
    folder.write("unjudged.jsonl", line([json!(null), json!(null)]));
    folder.write("alike.jsonl", line([json!(2.0), json!(2.0)]));
    refuse(&["grpo", "--candidates", "unjudged.jsonl"], "unjudged.jsonl: no candidate has a score");
    refuse(&["grpo", "--candidates", "alike.jsonl"], "alike.jsonl: nothing to train on");
    refuse(
        &["sft", "--candidates", "alike.jsonl", "--set", "sft.min_score=2.5"],
        "alike.jsonl: nothing to train on",
    );
    refuse(&["sft"], "--data <FILE>|--candidates <FILE>");
}
