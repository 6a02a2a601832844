//! Training and measuring a feedback model: records from candidates, training, agreement, and a run that uses records.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::{Folder, jsonl, problems};
use crate::stages::prepared;

const TRAINING: [&str; 8] = [
    "--set",
    "feedback.sft.training.epochs=6",
    "--set",
    "feedback.sft.training.learning_rate=3e-3",
    "--set",
    "feedback.critique.max_new_tokens=12",
    "--set",
    "templates.feedback=feedback.jinja",
];

/// Beside what [`prepared`] writes: candidates, right and wrong, and records of the checker's word on them.
fn with_records() -> Folder {
    let folder = prepared();
    folder.write("feedback.jinja", "{{ reference }}\n{{ response | fence }}");
    let candidates: Vec<Value> = problems("Tom", 12)
        .into_iter()
        .map(|mut problem| {
            let reference = problem["reference"].as_str().unwrap().to_string();
            let wrong = reference.replace(['-', '+', '*'], "/");
            problem["candidates"] = json!([{ "text": reference }, { "text": wrong }, { "text": reference }]);
            problem
        })
        .collect();
    folder.write("candidates.jsonl", jsonl(&candidates));
    let records = ["feedback", "records", "--candidates", "candidates.jsonl", "--out", "records.jsonl"];
    let aspects = ["--set", "feedback.aspects=[\"logical correctness\"]", "--set", "checker=arithmetic"];
    let ruled = [
        "--set",
        "checker=arithmetic",
        "--set",
        "feedback.aspects=[\"readability\"]",
        "--set",
        "feedback.checkers={readability={kind=\"regex\",must_match=\"never\"}}",
    ];
    let said = folder.run(&[&records[..], &ruled].concat()).expect_success().stdout;
    assert!(said.starts_with("24 records, 24 at level 1,"), "its own checker decides an aspect: {said}");
    std::fs::remove_file(folder.path("records.jsonl")).unwrap();
    let said = folder.run(&[&records[..], &aspects].concat()).expect_success().stdout;
    assert!(
        said.starts_with("24 records, 0 at level 1, 12 at level 2, 12 at level 3: records.jsonl"),
        "{said}"
    );
    folder
}

#[test]
fn from_candidates_to_a_feedback_model_and_its_agreement() {
    let folder = with_records();
    let records = folder.lines("records.jsonl");
    assert_eq!((&records[0]["level"], &records[0]["aspect"]), (&json!(3), &json!("logical correctness")));
    assert!(records[1]["critique"].as_str().unwrap().ends_with("; step 1: subtract, do not divide"));

    let train = ["feedback", "train", "--model", "model", "--records", "records.jsonl", "--out", "judge"];
    let held_out = ["--held-out-share", "0.25", "--set", "checker=arithmetic", "--json"];
    let outcome = folder.run(&[&train[..], &held_out, &TRAINING].concat()).expect_success().json();
    assert_eq!(outcome["training"]["steps"], json!(2 * 6), "18 records, 16 a step, 6 times");
    assert!(outcome["training"]["last_loss"].as_f64() < outcome["training"]["first_loss"].as_f64());
    assert_eq!(outcome["held_out"]["counts"]["items"], 6);
    let info = folder.run(&["model", "info", "judge", "--json"]).expect_success().json();
    assert_eq!(info["digest"], outcome["training"]["model"]);

    let eval = ["feedback", "eval", "--model", "judge", "--records", "records.jsonl", "--out", "agreement"];
    let settings = [
        "--set",
        "checker=arithmetic",
        "--set",
        "templates.feedback=feedback.jinja",
        "--set",
        "feedback.critique.max_new_tokens=12",
    ];
    let measured = folder.run(&[&eval[..], &settings, &["--json"]].concat()).expect_success().json();
    let (metrics, counts) = (&measured["metrics"], &measured["counts"]);
    for metric in
        ["accuracy", "perfect_accuracy", "expected_calibration_error", "named_error_rate", "named_right_rate"]
    {
        assert!((0.0..=1.0).contains(&metrics[metric].as_f64().unwrap()), "{metric}: {metrics}");
    }
    assert_eq!((&counts["items"], &counts["failed"]), (&json!(24), &json!(0)));
    assert_eq!((&counts["wrong_responses"], &counts["right_responses"]), (&json!(12), &json!(12)));
    let given: u64 = (1..=3).map(|level| counts[format!("recorded_3_given_{level}")].as_u64().unwrap()).sum();
    assert_eq!(given, 12);
    // Every figure can be had from the items again.
    let items = folder.lines("agreement/items.jsonl");
    let right = items.iter().filter(|item| item["level"] == item["recorded_level"]).count();
    assert_eq!(metrics["accuracy"].as_f64().unwrap(), right as f64 / 24.0);
    let said = folder.run(&[&eval[..], &settings].concat()).expect_success().stdout;
    assert!(said.starts_with("feedback: records, 24 items"), "{said}");

    // The judge of the records is the judge of candidates.
    let judge = ["feedback", "--model", "judge", "--candidates", "candidates.jsonl", "--out", "judged.jsonl"];
    let aspects = ["--set", "feedback.aspects=[\"logical correctness\"]"];
    folder.run(&[&judge[..], &aspects, &settings[2..]].concat()).expect_success();
    let judged = folder.lines("judged.jsonl");
    assert_eq!(judged[0]["candidates"][1]["feedback"][0]["critique"], items[1]["critique"]);
    let again = ["feedback", "records", "--candidates", "judged.jsonl", "--out", "again.jsonl"];
    folder.run(&again).expect_success();
    assert_eq!(folder.lines("again.jsonl")[1]["level"], items[1]["level"]);
}

#[test]
fn killed_and_repeated_the_training_goes_on() {
    let folder = with_records();
    let train = |out: &'static str| {
        let train = ["feedback", "train", "--model", "model", "--records", "records.jsonl", "--out", out];
        let held_out = ["--held-out-share", "0.25", "--set", "feedback.sft.training.checkpoint_every=5"];
        [&train[..], &held_out, &TRAINING, &["--set", "feedback.sft.training.epochs=100"]].concat()
    };
    let whole = folder.run(&train("whole")).expect_success().stdout;
    let mut child =
        folder.command(&train("killed")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.path("killed.partial/checkpoint/training.safetensors").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let repeated = folder.run(&train("killed")).expect_success();
    assert!(repeated.stderr.contains("training goes on after step"), "{}", repeated.stderr);
    assert_eq!(repeated.stdout, whole.replace("whole", "killed"));
    assert!(folder.tree("killed").values().eq(folder.tree("whole").values()), "another model");
}

#[test]
fn a_run_learns_its_feedback_model_from_records() {
    let folder = with_records();
    folder.write(
        "rlrf.toml",
        "iterations = 0\n[instructions]\nfile = \"instructions.jsonl\"\n[policy]\nmodel = \"model\"\n\
         [templates]\nfeedback = \"feedback.jinja\"\n[feedback]\nsource = \"model\"\nmodel = \"model\"\n\
         aspects = [\"logical correctness\"]\n[feedback.sft]\nrecords = [\"records.jsonl\"]\n",
    );
    folder.run(&["run", "rlrf.toml", "--out", "run", "--quiet"]).expect_success();
    assert_ne!(folder.read("run/models/feedback/model.safetensors"), folder.read("model/model.safetensors"));
    assert_eq!(folder.read("run/models/M0/model.safetensors"), folder.read("model/model.safetensors"));
}

#[test]
fn what_cannot_be_learnt_or_measured_is_refused() {
    let folder = with_records();
    let record = |rest: &str| {
        format!(
            "{{\"prompt\": \"q\", \"response\": \"1\", \"reference\": \"1\", \"aspect\": \"logical correctness\", {rest}}}\n"
        )
    };
    folder.write("bare.jsonl", record("\"level\": 3"));
    folder.write("level.jsonl", record("\"level\": 4"));
    folder.write(
        "reference.jsonl",
        record("\"level\": 3").replace("\"reference\": \"1\"", "\"reference\": \"x\""),
    );
    for (arguments, expected) in [
        ("train --model model --records bare.jsonl --out judge", "bare.jsonl: record 1 (instruction "),
        ("train --model model --records level.jsonl --out judge", "level.jsonl:1: `level` must be 1 to 3"),
        ("train --model model --records missing.jsonl --out judge", "missing.jsonl: cannot read"),
        (
            "train --model model --records records.jsonl --out judge --held-out-share 1",
            "must be above 0 and below 1",
        ),
        (
            "train --model model --records records.jsonl --out judge --held-out records.jsonl",
            "questions that are trained on are also in held-out records",
        ),
        ("train --model model --records records.jsonl --out records.jsonl", "is a file; give a folder"),
        ("eval --model model --records level.jsonl", "level.jsonl:1: `level` must be 1 to 3"),
        (
            "eval --model model --records reference.jsonl --set checker=arithmetic",
            "`reference` \"x\" is not a number",
        ),
        ("eval --records records.jsonl", "name the feedback model to measure"),
        ("eval --model missing --records records.jsonl", "missing"),
        ("records --candidates candidates.jsonl --out r.jsonl", "no candidate has feedback"),
        ("records --candidates records.jsonl --out r.jsonl", "records.jsonl:1: missing field `candidates`"),
        ("", "--candidates"),
    ] {
        let mut command = vec!["feedback"];
        command.extend(arguments.split_whitespace());
        let refused = folder.run(&command);
        assert!(refused.code.is_some_and(|code| code != 0) && refused.stdout.is_empty(), "{arguments}");
        assert!(refused.stderr.contains(expected), "{arguments}: {} lacks {expected}", refused.stderr);
    }
}

#[test]
fn pairs_are_written_in_both_of_trls_formats_and_read_again() {
    let folder = with_records();
    let aspects = ["--set", "feedback.aspects=[\"logical correctness\"]"];
    let judge = ["feedback", "--candidates", "candidates.jsonl", "--out", "judged.jsonl"];
    folder.run(&[&judge[..], &aspects, &["--set", "checker=arithmetic"]].concat()).expect_success();
    let pairs = |format: &str, out: &str| {
        let pairs = ["pairs", "--candidates", "judged.jsonl", "--format", format, "--out", out];
        let settings = ["--set", "pairs.by=aspect", "--set", "pairs.length_balanced=true"];
        folder.run(&[&pairs[..], &settings, &aspects].concat()).expect_success().stdout
    };
    let said = pairs("plain", "plain.jsonl");
    assert!(said.starts_with("12 pairs from 12 of 12 instructions, 0 of them"), "{said}");
    assert!(said.contains("gap in levels: mean 1.00; minimum, quartiles, maximum 1.00, "), "{said}");
    assert!(said.contains("length of chosen in characters: mean "), "{said}");
    assert!(
        folder
            .lines("plain.jsonl")
            .iter()
            .all(|pair| pair["prompt"].is_string() && pair["chosen"].is_string())
    );
    pairs("conversational", "messages.jsonl");
    let dpo = |file: &str, out: &str| {
        folder.run(&["dpo", "--model", "model", "--pairs", file, "--out", out]).expect_success();
    };
    dpo("plain.jsonl", "from-plain");
    dpo("messages.jsonl", "from-messages");
    assert_eq!(folder.read("from-plain/model.safetensors"), folder.read("from-messages/model.safetensors"));
}
