//! The shipped example, cut down to seconds: its configuration, data and templates work as they are.

use std::fs;
use std::path::Path;

use crate::folder::Folder;

#[test]
fn the_word_problems_example_runs_to_its_report() {
    let folder = Folder::new();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/word-problems/rlrf.toml");
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
