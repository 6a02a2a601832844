//! The commands one by one: chained from file to file, killed and repeated, and their help.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::{Folder, jsonl, problems};

const SHORT: [&str; 6] = [
    "--set",
    "sample.sampling.max_new_tokens=16",
    "--set",
    "refine.sampling.max_new_tokens=16",
    "--set",
    "feedback.aspects=[\"logical correctness\"]",
];

/// A folder with problems, demonstrations and a new model `model`.
pub(crate) fn prepared() -> Folder {
    let folder = Folder::new();
    let instructions = problems("Tom", 12);
    let demonstrations: Vec<Value> = instructions
        .iter()
        .map(|problem| json!({ "prompt": problem["prompt"], "completion": problem["reference"] }))
        .collect();
    folder.write("instructions.jsonl", jsonl(&instructions));
    folder.write("demonstrations.jsonl", jsonl(&demonstrations));
    let made = ["model", "new", "--preset", "tiny", "--text", "demonstrations.jsonl", "--vocab-size", "320"];
    folder.run(&[&made[..], &["--out", "model", "--quiet"]].concat()).expect_success();
    folder
}

fn tune(folder: &Folder) {
    let settings =
        ["epochs=120", "learning_rate=3e-3", "batch_size=4"].map(|s| format!("policy.sft.training.{s}"));
    let mut arguments = vec!["sft", "--model", "model", "--data", "demonstrations.jsonl", "--out", "tuned"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting.as_str()]));
    let outcome = folder.run(&[&arguments[..], &["--json"]].concat()).expect_success().json();
    assert_eq!(outcome["steps"], 360);
    assert!(outcome["last_loss"].as_f64() < outcome["first_loss"].as_f64(), "{outcome}");
    let info = folder.run(&["model", "info", "tuned", "--json"]).expect_success().json();
    assert_eq!(info["digest"], outcome["model"]);
}

fn candidates(line: &Value) -> &[Value] {
    line["candidates"].as_array().unwrap()
}

#[test]
fn chained_from_file_to_file() {
    let folder = prepared();
    tune(&folder);
    let run = |arguments: &[&str]| folder.run(&[arguments, &SHORT].concat()).expect_success();

    let said = run(&[
        "sample",
        "--model",
        "tuned",
        "--instructions",
        "instructions.jsonl",
        "--out",
        "sampled.jsonl",
        "--set",
        "sample.n=3",
    ]);
    assert!(said.stdout.starts_with("36 candidates for 12 instructions, "), "{}", said.stdout);
    let sampled = folder.lines("sampled.jsonl");
    assert!(sampled.iter().all(|line| candidates(line).len() == 3 && line["messages"][0]["role"] == "user"));

    let checked = ["--set", "checker=arithmetic"];
    run(&[&["feedback", "--candidates", "sampled.jsonl", "--out", "judged.jsonl"], &checked[..]].concat());
    for candidate in folder.lines("judged.jsonl").iter().flat_map(candidates) {
        assert_eq!(candidate["feedback"][0]["source"], "checker");
        assert_eq!(candidate["correct"], candidate["feedback"][0]["level"] == 3, "{candidate}");
    }

    run(&[
        "refine",
        "--model",
        "tuned",
        "--candidates",
        "judged.jsonl",
        "--out",
        "refined.jsonl",
        "--set",
        "refine.m=2",
    ]);
    for line in folder.lines("refined.jsonl") {
        let refined: Vec<&Value> = candidates(&line).iter().filter(|c| c["kind"] == "refined").collect();
        assert_eq!(refined.len(), if line["promising"].is_null() { 0 } else { 2 });
        assert!(refined.iter().all(|candidate| candidate["feedback"].is_null()));
    }

    // Once is enough.
    let refined = folder.read("refined.jsonl");
    let said =
        run(&["refine", "--model", "tuned", "--candidates", "refined.jsonl", "--out", "refined.jsonl"]);
    assert!(said.stdout.starts_with("0 refinements of 0 drafts"), "{}", said.stdout);
    assert!(said.stdout.contains("had refinements already"), "{}", said.stdout);
    assert_eq!(folder.read("refined.jsonl"), refined);

    // In place: the samples keep their feedback, the refinements get theirs.
    let before = folder.lines("refined.jsonl");
    let said =
        run(&[&["feedback", "--candidates", "refined.jsonl", "--out", "refined.jsonl"], &checked[..]]
            .concat());
    assert!(said.stdout.contains("mean score of refinements"), "{}", said.stdout);
    let after = folder.lines("refined.jsonl");
    assert!(after.iter().flat_map(candidates).all(|candidate| candidate["score"].is_f64()));
    assert!(
        before.iter().zip(&after).all(|(before, after)| before["candidates"][0] == after["candidates"][0])
    );

    let summary = run(&["pairs", "--candidates", "refined.jsonl", "--out", "pairs.jsonl", "--json"]).json();
    let pairs = folder.lines("pairs.jsonl");
    assert!(!pairs.is_empty() && summary["pairs"] == pairs.len());
    for pair in &pairs {
        assert_eq!(pair["prompt"][0]["role"], "user");
        assert_eq!(pair["chosen"][0]["role"], "assistant");
        assert_ne!(pair["chosen"], pair["rejected"]);
    }

    let training = ["--set", "dpo.training.epochs=8", "--set", "dpo.training.batch_size=4"];
    let dpo =
        [&["dpo", "--model", "tuned", "--pairs", "pairs.jsonl", "--out", "aligned", "--json"], &training[..]];
    let outcome = run(&dpo.concat()).json();
    assert!(outcome["preference"]["rewards_margin"].as_f64() > Some(0.0), "{outcome}");

    let eval = [
        "eval",
        "problems",
        "--model",
        "aligned",
        "--problems",
        "instructions.jsonl",
        "--set",
        "checker=arithmetic",
    ];
    let evaluation = run(&[&eval[..], &["--json"]].concat()).json();
    assert_eq!((&evaluation["set"], &evaluation["counts"]["items"]), (&json!("instructions"), &json!(12)));
    let said = run(&eval);
    let share = format!("{:.1}%", evaluation["metrics"]["accuracy"].as_f64().unwrap() * 100.0);
    assert!(said.stdout.starts_with("problems: instructions, 12 items"), "{}", said.stdout);
    assert!(said.stdout.contains(&share), "{}", said.stdout);

    let mut names: Vec<_> =
        std::fs::read_dir(folder.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "aligned",
            "demonstrations.jsonl",
            "instructions.jsonl",
            "judged.jsonl",
            "model",
            "pairs.jsonl",
            "refined.jsonl",
            "runs",
            "sampled.jsonl",
            "tuned"
        ],
        "nothing is left beside the outputs"
    );
}

#[test]
fn a_model_judges_by_its_own_words() {
    let folder = prepared();
    let sample = ["sample", "--model", "model", "--instructions", "instructions.jsonl", "--out", "c.jsonl"];
    folder
        .run(&[&sample[..], &["--set", "sample.n=2", "--set", "instructions.limit=3"], &SHORT].concat())
        .expect_success();
    folder.write("feedback.jinja", "{{ response | fence }}");
    folder.write(
        "judge/settings.toml",
        "templates.feedback = \"../feedback.jinja\"\nfeedback.critique.max_new_tokens = 8\n",
    );
    let feedback = ["feedback", "--model", "model", "--candidates", "c.jsonl", "--out", "j.jsonl"];
    folder.run(&[&feedback[..], &["--config", "judge/settings.toml"], &SHORT].concat()).expect_success();
    let judged = folder.lines("j.jsonl");
    assert_eq!(judged.len(), 3);
    for candidate in judged.iter().flat_map(candidates) {
        let feedback = &candidate["feedback"][0];
        assert_eq!(
            (&feedback["source"], &feedback["aspect"]),
            (&json!("model"), &json!("logical correctness"))
        );
        let probability: f64 =
            feedback["distribution"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
        assert!((probability - 1.0).abs() < 1e-5 && candidate["correct"].is_null());
    }
}

#[test]
fn killed_and_repeated_they_go_on() {
    let folder = prepared();
    let sft = |out: &'static str| {
        let training =
            ["--set", "policy.sft.training.epochs=200", "--set", "policy.sft.training.checkpoint_every=10"];
        [&["sft", "--model", "model", "--data", "demonstrations.jsonl", "--out", out], &training[..]].concat()
    };
    folder.run(&sft("whole")).expect_success();

    let mut child =
        folder.command(&sft("killed")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.path("killed.partial/checkpoint/training.safetensors").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path("killed").exists() && folder.path("killed.partial/run.db").exists());

    let refused = folder.run(&[&sft("killed")[..], &["--set", "seed=2"]].concat());
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("seed: 1 -> 2"), "{}", refused.stderr);
    assert!(refused.stderr.contains("remove that folder to start over"), "{}", refused.stderr);

    // Settings of memory, and those of the other stages, may be others.
    let others = [
        "policy.sft.training.tokens_per_microbatch=2048",
        "policy.sft.training.checkpoint_every=20",
        "sample.n=2",
    ];
    let others: Vec<&str> = others.into_iter().flat_map(|setting| ["--set", setting]).collect();
    let repeated = folder.run(&[&sft("killed")[..], &others].concat()).expect_success();
    assert!(repeated.stderr.contains("training goes on after step"), "{}", repeated.stderr);
    assert!(!folder.path("killed.partial").exists());
    assert!(folder.tree("killed").values().eq(folder.tree("whole").values()), "another model");
    assert!(repeated.stdout.starts_with("200 steps, "), "{}", repeated.stdout);
}

#[test]
fn a_run_starts_from_a_model_folder_and_goes_on_with_no_other() {
    let folder = prepared();
    folder.write(
        "rlrf.toml",
        "iterations = 0\nchecker = \"arithmetic\"\ninstructions.file = \"instructions.jsonl\"\n\
         policy.model = \"model\"\nfeedback.source = \"checker\"\n",
    );
    let run = ["run", "rlrf.toml", "--out", "run", "--quiet"];
    folder.run(&run).expect_success();
    assert_eq!(folder.read("run/models/M0/model.safetensors"), folder.read("model/model.safetensors"));
    folder.run(&run).expect_success();
    fs::remove_dir_all(folder.path("model")).unwrap();
    let new = ["model", "new", "--preset", "tiny", "--text", "demonstrations.jsonl", "--vocab-size", "320"];
    folder.run(&[&new[..], &["--seed", "1", "--out", "model"]].concat()).expect_success();
    let refused = folder.run(&run);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("another content of policy.model"), "{}", refused.stderr);
}

#[test]
fn better_refinements_teach_refining() {
    let folder = prepared();
    let feedback = |level: u8| {
        json!([{ "aspect": "logical correctness", "critique": "add, do not subtract", "level": level,
                 "source": "model", "parse": "parsed" }])
    };
    let judged = json!({ "prompt": "3 and 4", "candidates": [
        { "text": "3 - 4", "feedback": feedback(1), "score": 1.5 },
        { "text": "3 + 4", "kind": "refined", "draft": 0, "feedback": feedback(3), "score": 3.0 },
        { "text": "4 - 3", "kind": "refined", "draft": 0, "feedback": feedback(1), "score": 1.0 },
    ] });
    folder.write("judged.jsonl", jsonl(&[judged]));
    let write = ["refine", "demonstrations", "--candidates", "judged.jsonl", "--out", "d.jsonl"];
    let said = folder.run(&write).expect_success().stdout;
    assert!(said.starts_with("1 demonstrations of refining, from 2 refinements"), "{said}");
    let [line] = folder.lines("d.jsonl").try_into().unwrap();
    assert_eq!((&line["prompt"][1]["content"], &line["completion"]), (&json!("3 - 4"), &json!("3 + 4")));
    let advice = line["prompt"][2]["content"].as_str().unwrap();
    assert!(advice.contains("add, do not subtract"), "{advice}");
    let taught = ["sft", "--model", "model", "--data", "d.jsonl", "--out", "taught"];
    folder.run(&[&taught[..], &["--set", "policy.sft.training.epochs=1"]].concat()).expect_success();

    let refused = folder.run(&[&write[..], &["--set", "pairs.margin=2"]].concat());
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("judged.jsonl: no judged refinement is better than its draft by 2 levels")
    );
    assert!(folder.run(&["refine", "--candidates", "judged.jsonl"]).code != Some(0));
}

#[test]
fn every_help_shows_an_example() {
    let folder = Folder::new();
    let commands = [
        "run",
        "sample",
        "feedback",
        "feedback train",
        "feedback eval",
        "feedback records",
        "refine",
        "refine demonstrations",
        "pairs",
        "sft",
        "dpo",
        "grpo",
        "reward train",
        "reward eval",
        "reward pairs",
        "eval problems",
        "eval aspects",
        "model new",
        "model info",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = folder.run(&arguments).expect_success().stdout;
        assert!(help.contains(&format!("\n  rlrf {command} ")), "{command}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 130), "{help}");
    }
    let help = folder.run(&["--help"]).expect_success().stdout;
    assert!(
        commands.iter().all(|command| help.contains(&format!("  {} ", command.split(' ').next().unwrap())))
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = Folder::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlrf-model/tests/fixtures/stories260K");
    let mut command = folder.command(&["model", "info", model]);
    // The read end is closed before anything is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
