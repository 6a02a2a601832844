//! Reward models: pairs written, a model trained and measured, and the methods of a run that score by it.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::{CONFIGURATION, Folder, jsonl, problems};

/// A folder with pairs of two kinds of problems, and a new model `model`.
fn prepared() -> Folder {
    let folder = Folder::new();
    for (name, owner, count) in [("learn", "Tom", 40), ("heldout", "Sue", 12)] {
        folder.write(&format!("{name}.jsonl"), jsonl(&problems(owner, count)));
        let problems = format!("{name}.jsonl");
        let out = format!("{name}-pairs.jsonl");
        folder.run(&["reward", "pairs", "--problems", &problems, "--out", &out]).expect_success();
    }
    let made = ["model", "new", "--preset", "tiny", "--text", "learn.jsonl", "--vocab-size", "320"];
    folder.run(&[&made[..], &["--out", "model", "--quiet"]].concat()).expect_success();
    folder
}

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["reward", "train", "--model", "model", "--pairs", "learn-pairs.jsonl", "--out", out];
    let settings = ["reward.training.epochs=60", "reward.training.learning_rate=3e-3"];
    let settings = settings.into_iter().chain(more.iter().copied()).flat_map(|setting| ["--set", setting]);
    fixed.into_iter().chain(settings).collect()
}

#[test]
fn pairs_are_written_learnt_and_measured() {
    let folder = prepared();
    for pair in folder.lines("learn-pairs.jsonl") {
        assert_ne!(pair["chosen"], pair["rejected"]);
    }
    let outcome = folder
        .run(&[&train("reward", &["reward.held_out=0.2"])[..], &["--json"]].concat())
        .expect_success()
        .json();
    assert!(
        outcome["training"]["last_loss"].as_f64() < outcome["training"]["first_loss"].as_f64(),
        "{outcome}"
    );
    assert!(outcome["held_out"]["counts"]["items"].as_u64() > Some(5), "{outcome}");
    let info = folder.run(&["model", "info", "reward", "--json"]).expect_success().json();
    assert_eq!((&info["kind"], &info["digest"]), (&json!("reward model"), &outcome["training"]["model"]));
    assert_eq!(info["architecture"], "LlamaForSequenceClassification");

    let eval = |pairs: &str| {
        folder.run(&["reward", "eval", "--model", "reward", "--pairs", pairs, "--json"]).expect_success()
    };
    // Four in five of them were learnt.
    let learnt = eval("learn-pairs.jsonl").json();
    assert!(learnt["metrics"]["accuracy"].as_f64() > Some(0.8), "{learnt}");
    let first = eval("heldout-pairs.jsonl");
    let metrics = &first.json()["metrics"];
    let items = folder.lines("heldout-pairs.jsonl").len();
    assert_eq!(first.json()["counts"]["items"], items);
    let [low, high] = [0, 1].map(|bound| first.json()["intervals"]["accuracy"][bound].as_f64().unwrap());
    let accuracy = metrics["accuracy"].as_f64().unwrap();
    assert!(low <= accuracy && accuracy <= high && low < high, "{}", first.stdout);
    // Repeated, nothing is computed again.
    let again = eval("heldout-pairs.jsonl");
    assert_eq!(again.stdout, first.stdout);

    // A reward model is trained on as it is; with no step of size, it stays.
    let more = ["reward", "train", "--model", "reward", "--pairs", "learn-pairs.jsonl", "--out", "more"];
    let settings = ["--set", "reward.training.learning_rate=1e-30", "--set", "reward.training.max_steps=1"];
    let more = folder.run(&[&more[..], &settings, &["--json"]].concat()).expect_success().json();
    assert_eq!(more["training"]["model"], outcome["training"]["model"]);
}

#[test]
fn killed_and_repeated_the_training_goes_on() {
    let folder = prepared();
    let settings = ["reward.training.epochs=80", "reward.training.checkpoint_every=10"];
    folder.run(&train("whole", &settings)).expect_success();
    let mut child = folder
        .command(&train("killed", &settings))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !folder.path("killed.partial/checkpoint/training.safetensors").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let repeated = folder.run(&train("killed", &settings)).expect_success();
    assert!(repeated.stderr.contains("training goes on after step"), "{}", repeated.stderr);
    assert!(folder.tree("killed").values().eq(folder.tree("whole").values()), "another model");
}

/// The configuration of a run with a reward model that starts from the policy.
fn write_run(folder: &Folder) {
    folder.write_inputs();
    let reward = "\n[reward]\nfrom_policy = true\ndemonstrations = true\nbreak_ties = false\nheld_out = 0.2\n\
                  [reward.training]\nepochs = 4\nbatch_size = 4\nlearning_rate = 1e-3\ncheckpoint_every = 3\n";
    folder.write("rlrf.toml", format!("{CONFIGURATION}{reward}"));
}

fn summary(folder: &Folder, out: &str, sets: &[&str]) -> Value {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["run", "rlrf.toml", "--out", out, "--json"].into_iter().chain(sets).collect();
    folder.run(&arguments).expect_success().json()
}

#[test]
fn methods_score_by_the_reward_model() {
    let folder = Folder::new();
    write_run(&folder);
    let without = summary(&folder, "rlrf", &["iterations=1"]);
    assert!(
        without["reward"].is_null() && !folder.path("rlrf/models/reward").exists(),
        "an idle model was made"
    );

    let alone = summary(&folder, "reward-dpo", &["method=reward-dpo"]);
    assert!(!folder.path("reward-dpo/models/feedback").exists(), "an idle judge was made");
    assert_eq!(alone["reward"]["benchmark"], "reward");
    assert!(alone["reward"]["counts"]["items"].as_u64() > Some(0), "{}", alone["reward"]);
    for iteration in alone["iterations"].as_array().unwrap() {
        assert_eq!((&iteration["feedback"], &iteration["refined"]), (&json!(0), &json!(0)));
        assert!(iteration["pairs"].as_u64() > Some(0), "{iteration}");
    }
    let curve = alone["training"].as_array().unwrap().iter().find(|curve| curve["stage"] == "reward model");
    assert!(curve.unwrap()["steps"][0]["reward"]["accuracy"].is_f64());

    // A share of the score, and ties: both have feedback and rewards.
    for set in ["score.reward_weight=0.5", "reward.break_ties=true"] {
        let mixed = summary(&folder, "mixed", &["iterations=1", set]);
        assert!(mixed["reward"].is_object() && mixed["iterations"][0]["feedback"].as_u64() > Some(0));
        fs::remove_dir_all(folder.path("mixed")).unwrap();
    }
    let made = |run: &str| folder.read(&format!("{run}/models/reward/model.safetensors"));
    summary(&folder, "again", &["method=reward-dpo"]);
    assert_eq!(made("again"), made("reward-dpo"));
}

#[test]
fn runs_of_a_comparison_share_their_reward_model() {
    let folder = Folder::new();
    write_run(&folder);
    folder.write(
        "compare.toml",
        "name = 'c'\nconfig = 'rlrf.toml'\nseeds = [1]\nset = ['iterations=1']\nmethods = [\n\
         { name = 'alone', set = ['method=reward-dpo'] },\n\
         { name = 'wide', set = ['method=reward-dpo', 'pairs.margin=0.01'] },\n]\n",
    );
    folder.run(&["compare", "compare.toml", "--out", "c"]).expect_success();
    let made = |run: &str| folder.read(&format!("c/{run}-seed-1/models/reward/model.safetensors"));
    assert_eq!(made("alone"), made("wide"));
    let folders = fs::read_dir(folder.path("c/models"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 2, "a policy and a reward model");
}

#[test]
fn a_reward_model_that_is_missing_or_cannot_be_is_refused_before_anything_starts() {
    let folder = Folder::new();
    folder.write_inputs();
    let refuse = |sets: &[&str]| -> String {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = ["run", "rlrf.toml", "--out", "run"].into_iter().chain(sets).collect();
        let refused = folder.run(&arguments);
        assert_eq!((refused.code, folder.path("run").exists()), (Some(1), false), "{}", refused.stderr);
        refused.stderr
    };
    for (sets, expected) in [
        (&["method=reward-dpo"][..], "reward.from_policy = true"),
        (&["score.reward_weight=0.5"], "score.reward_weight = 0.5"),
        (&["reward.from_policy=true"], "a random score head"),
        (&["reward.from_policy=true", "reward.model=m"], "`reward.model` or `reward.from_policy`, not both"),
        (&["reward.held_out=1.5"], "reward.held_out = 1.5"),
        (&["reward.held_out=-0.1"], "reward.held_out = -0.1"),
        (&["reward.training.lora.rank=4"], "reward.training.lora"),
        (&["reward.margin=inf"], "reward.margin = inf"),
        (
            &[
                "reward.from_policy=true",
                "reward.demonstrations=true",
                "demonstrations.per_problem.mistakes=0",
            ],
            "demonstrations.per_problem.preferences and mistakes",
        ),
        (&["reward.training.epochs=0"], "reward.training"),
    ] {
        let message = refuse(sets);
        assert!(message.contains(expected), "{message} does not contain {expected}");
    }
}

#[test]
fn the_two_kinds_of_folders_are_not_mixed_up() {
    let folder = prepared();
    folder.run(&train("reward", &["reward.training.max_steps=1"])).expect_success();
    let refuse = |arguments: &[&str], expected: &str| {
        let refused = folder.run(arguments);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert!(refused.stderr.contains(expected), "{} does not contain {expected}", refused.stderr);
    };
    refuse(
        &["reward", "eval", "--model", "model", "--pairs", "heldout-pairs.jsonl"],
        "is a language model (LlamaForCausalLM), not a reward model",
    );
    let writes = "is a reward model (LlamaForSequenceClassification), not a language model";
    let instructions = ["--instructions", "learn.jsonl", "--out", "c.jsonl"];
    refuse(&[&["sample", "--model", "reward"], &instructions[..]].concat(), writes);
    refuse(&["dpo", "--model", "reward", "--pairs", "learn-pairs.jsonl", "--out", "d"], writes);
    folder.write(
        "rlrf.toml",
        "instructions.file = \"learn.jsonl\"\npolicy.model = \"model\"\nscore.reward_weight = 1.0\nrefine.m = 0\n\
         reward.model = \"model\"\n",
    );
    refuse(&["run", "rlrf.toml"], "is a language model, whose score head would be random");
    refuse(&["run", "rlrf.toml", "--set", "policy.model=reward"], writes);
    folder.write(
        "bad.jsonl",
        "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\", \"margin\": \"wide\"}\n",
    );
    refuse(&["reward", "train", "--model", "model", "--pairs", "bad.jsonl", "--out", "r"], "bad.jsonl:1");
    folder.write("unreferenced.jsonl", "{\"prompt\": \"q\", \"reference\": \"because\"}\n");
    refuse(&["reward", "pairs", "--problems", "unreferenced.jsonl", "--out", "p"], "`reference`");
}
