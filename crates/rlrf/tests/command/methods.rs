//! Every method, ablation and trainer from the command line, on a tiny configuration.

use serde_json::{Value, json};

use crate::folder::{CONFIGURATION, Folder, jsonl, problems};

/// Name and settings of each; n = 3, m = 2 in the configuration that they change.
const METHODS: [(&str, &str); 13] = [
    ("rlrf", ""),
    ("self-rewarding", "'method=self-rewarding'"),
    ("rejection-sampling", "'method=rejection-sampling'"),
    ("sft-gold", "'method=sft-gold'"),
    ("no refinement", "'sample.n=5', 'refine.m=0'"),
    ("one overall level", "'feedback.aspects=[\"overall quality\"]'"),
    ("no reference", "'feedback.reference=false'"),
    ("random draft", "'select.policy=random'"),
    ("split 1 + 4", "'sample.n=1', 'refine.m=4'"),
    ("adaptive split", "'search.split=adaptive', 'search.step=1'"),
    ("best of n + m", "'trainer=sft', 'sft.min_score=1.01'"),
    ("grpo", "'trainer=grpo', 'grpo.objective.beta=0.04'"),
    ("rloo", "'trainer=grpo', 'grpo.objective.loss=rloo'"),
];

fn grid() -> String {
    let methods = METHODS.map(|(name, set)| format!("  {{ name = \"{name}\", set = [{set}] }},\n")).concat();
    format!(
        "name = 'methods'\nconfig = 'rlrf.toml'\nseeds = [7]\n\
         set = ['iterations=1', 'instructions.limit=6', 'evaluation.sets=[]', 'dpo.training.epochs=1', \
         'policy.sft.training.epochs=1', 'feedback.sft.training.epochs=1']\nmethods = [\n{methods}]\n"
    )
}

#[test]
fn every_method_and_ablation_runs() {
    let folder = Folder::new();
    folder.write_inputs();
    folder.write("compare.toml", grid());
    let compared =
        folder.run(&["compare", "compare.toml", "--out", "runs", "--json"]).expect_success().json();
    assert_eq!(compared["runs"].as_array().unwrap().len(), METHODS.len());
    let summary = |name: &str| -> Value {
        serde_json::from_slice(&folder.read(&format!("runs/{name}-seed-7/summary.json"))).unwrap()
    };
    for (name, _) in METHODS {
        let summary = summary(name);
        let stage = match name {
            "rejection-sampling" | "best of n + m" => "best-of-n M_0",
            "sft-gold" => "sft-gold M_0",
            "grpo" | "rloo" => "grpo M_0",
            _ => "dpo M_0",
        };
        let stages: Vec<&Value> =
            summary["training"].as_array().unwrap().iter().map(|curve| &curve["stage"]).collect();
        assert!(stages.contains(&&json!(stage)), "{name}: {stages:?}");
        assert_ne!(summary["models"][0], summary["models"][1], "{name} trained nothing");
        if name == "sft-gold" {
            assert_eq!(summary["iterations"], json!([]), "nothing is sampled");
            continue;
        }
        let iteration = &summary["iterations"][0];
        let counts = ["sampled", "refined"].map(|count| iteration[count].as_u64().unwrap());
        match name {
            "self-rewarding" | "rejection-sampling" | "no refinement" => {
                assert_eq!(counts, [30, 0], "{name}")
            }
            "split 1 + 4" => assert_eq!(counts, [6, 24]),
            "adaptive split" => assert_eq!(counts.iter().sum::<u64>(), 30),
            _ => assert_eq!(counts, [18, 12], "{name}"),
        }
        let trained = iteration["trained_instructions"].as_u64().unwrap();
        assert!((1..=6).contains(&trained), "{name}: {iteration}");
        assert_eq!(iteration["pairs"].as_u64().unwrap() > 0, stage == "dpo M_0", "{name}");
        let aspect = &iteration["aspects"][0]["aspect"];
        let overall = ["self-rewarding", "one overall level"].contains(&name);
        assert_eq!(aspect, if overall { "overall quality" } else { "logical correctness" }, "{name}");
    }
    // The same candidates, learnt from in another way.
    let learnt = ["rlrf", "best of n + m", "grpo", "rloo"].map(|name| summary(name)["models"][1].clone());
    assert!((1..4).all(|place| !learnt[..place].contains(&learnt[place])), "{learnt:?}");

    let again = folder.run(&["compare", "compare.toml", "--out", "runs", "--json"]).expect_success();
    assert_eq!(again.json(), compared, "a finished comparison is read, not repeated");
    for folder in [folder.path("runs/rlrf-seed-7"), folder.path("runs/models")] {
        std::fs::remove_dir_all(folder).unwrap();
    }
    let recorded = folder.run(&["compare", "compare.toml", "--out", "runs", "--json"]).expect_success();
    assert_eq!(recorded.json(), compared, "compare.json stands for runs whose folders are gone");
    assert!(!folder.path("runs/rlrf-seed-7").exists());
}

#[test]
fn what_a_comparison_has_recorded_is_kept() {
    let folder = Folder::new();
    folder.write_inputs();
    let grid = |more: &str| {
        let methods = format!("[{{ name = 'gold', set = ['method=sft-gold'] }}{more}]");
        let set =
            "['iterations=1', 'instructions.limit=6', 'evaluation.sets=[]', 'policy.sft.training.epochs=1']";
        format!("name = 'g'\nconfig = 'rlrf.toml'\nseeds = [1, 2]\nset = {set}\nmethods = {methods}\n")
    };
    let made = |arguments: &[&str]| {
        let command = [&["compare", "compare.toml", "--out", "runs", "--json"], arguments].concat();
        let runs = folder.run(&command).expect_success().json()["runs"].take();
        let name = |run: &Value| format!("{}-{}", run["method"].as_str().unwrap(), run["seed"]);
        runs.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    folder.write("compare.toml", grid(""));
    assert_eq!(made(&["--seed", "2"]), ["gold-2"]);
    std::fs::remove_dir_all(folder.path("runs/gold-seed-2")).unwrap();
    // The other seed, then another method, then a setting under which none of them was made.
    assert_eq!(made(&["--seed", "1"]), ["gold-1", "gold-2"]);
    std::fs::remove_dir_all(folder.path("runs/gold-seed-1")).unwrap();
    let longer = ", { name = 'longer', set = ['method=sft-gold', 'sft.training.epochs=2'], seeds = [1] }";
    folder.write("compare.toml", grid(longer));
    assert_eq!(made(&["--only", "longer"]), ["gold-1", "longer-1", "gold-2"]);
    assert_eq!(made(&["--set", "instructions.limit=5", "--seed", "1", "--only", "gold"]), ["gold-1"]);
    assert_eq!(made(&["--seed", "2"]), ["gold-1", "longer-1", "gold-2"]);
    assert!(!folder.path("runs/gold-seed-2").exists(), "it is on record");
    let refused = |arguments: &[&str], message: &str| {
        let refused = folder.run(&[&["compare", "compare.toml", "--out", "runs"], arguments].concat());
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    };
    refused(&["--seed", "8"], "--seed 8: no run of the grid has this seed");
    folder.write("runs/compare.json", "{\"name\": \"g\"");
    refused(&["--seed", "2"], "compare.json: not a comparison of this version");
    assert_eq!(folder.read("runs/compare.json"), b"{\"name\": \"g\"");
}

#[test]
fn sft_gold_wants_a_reference_of_every_instruction() {
    let folder = Folder::new();
    folder.write_inputs();
    let mut instructions = problems("Tom", 5);
    instructions[3].as_object_mut().unwrap().remove("reference");
    folder.write("data/instructions.jsonl", jsonl(&instructions));
    let refused = folder.run(&["run", "rlrf.toml", "--set", "method=sft-gold", "--out", "run"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("instructions.jsonl: instruction Tom-3 has no `reference`"),
        "{}",
        refused.stderr
    );
    assert!(!folder.path("run").exists());
}

#[test]
fn a_trainer_that_has_nothing_to_learn_says_so() {
    let folder = Folder::new();
    folder.write_inputs();
    folder.write("rlrf.toml", CONFIGURATION.replace("iterations = 2", "iterations = 1"));
    let settings = ["evaluation.sets=[]", "instructions.limit=2", "trainer=sft", "sft.min_score=3"];
    let mut arguments = vec!["run", "rlrf.toml", "--out", "run", "--json"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let finished = folder.run(&arguments).expect_success();
    assert!(
        finished.stderr.contains("nothing to train on in iteration 0: M_1 is M_0"),
        "{}",
        finished.stderr
    );
    let summary = finished.json();
    assert_eq!(summary["models"][0], summary["models"][1]);
    assert!(summary["warnings"].to_string().contains("Nothing to train on in iteration 0"), "{summary}");
}
