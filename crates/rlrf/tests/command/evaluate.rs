//! `rlrf eval`: resumable, idempotent, the same for all threads; responses from files are scored without a model.

use std::process::Stdio;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_method::{RowStore, Table};
use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::folder::{Folder, jsonl, problems};

/// A model with random weights, and `test.jsonl` as GSM8K has it.
fn folder(count: u32) -> Folder {
    let folder = Folder::new();
    let all = problems("Sue", count);
    let text: String =
        all.iter().map(|problem| format!("{}\n", problem["prompt"].as_str().unwrap())).collect();
    folder.write("text", text.repeat(10));
    let records: Vec<Value> = all
        .iter()
        .map(|problem| json!({ "question": problem["prompt"], "answer": format!("So.\n#### {}", problem["answer"]) }))
        .collect();
    folder.write("test.jsonl", jsonl(&records));
    let new = ["model", "new", "--preset", "tiny", "--text", "text", "--vocab-size", "300", "--out", "model"];
    folder.run(&new).expect_success();
    folder
}

fn eval(out: &str) -> Vec<&str> {
    let all = "eval gsm8k --model model --problems test.jsonl --template question --samples 2 --json \
               --set evaluation.max_new_tokens=96 --out";
    all.split_whitespace().chain([out]).collect()
}

fn rows(folder: &Folder, out: &str) -> usize {
    let store = RunStore::open_read_only(folder.path(out)).unwrap();
    assert_eq!(store.computed_twice().unwrap(), 0, "{out}: a committed row was computed again");
    store.rows(Table::Generations, 0).unwrap().len()
}

#[test]
fn killed_at_any_moment_and_repeated_it_ends_in_the_same_bytes() {
    let folder = folder(200);
    let started = Instant::now();
    let printed = folder.run(&eval("whole")).expect_success().stdout;
    let duration = started.elapsed();
    let result =
        |out: &str| ["evaluation.json", "items.jsonl"].map(|name| folder.read(&format!("{out}/{name}")));
    let expected = result("whole");
    assert_eq!(printed.as_bytes(), expected[0]);
    assert_eq!(rows(&folder, "whole"), 400);

    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let (mut kills, mut partial) = (0, 0);
    for number in 0..40 {
        let out = format!("killed-{number}");
        for _ in 0..3 {
            let mut command = folder.command(&eval(&out));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(duration.mul_f64(generator.random_range(0.05..0.95)));
            let finished = child.try_wait().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            if finished.is_some() {
                break;
            }
            kills += 1;
            let store = RunStore::open_read_only(folder.path(&out));
            let kept = store.map_or(0, |store| store.count(Table::Generations, 0).unwrap_or_default());
            partial += u32::from(kept > 0 && kept < 400);
        }
        let threads = ["--threads", ["1", "2", "3"][number % 3]];
        let repeated = folder.run(&[&eval(&out)[..], &threads].concat()).expect_success();
        assert_eq!(repeated.stdout, printed);
        assert!(result(&out) == expected, "{out} differs");
        assert_eq!(rows(&folder, &out), 400);
        if kills >= 10 && partial >= 2 {
            return;
        }
    }
    panic!("{kills} kills hit a process at work, {partial} of them in the middle of its answers");
}

#[test]
fn the_same_command_again_asks_the_model_nothing() {
    let folder = folder(8);
    let mut first = eval("out");
    first.truncate(first.len() - 2);
    let printed = folder.run(&first).expect_success();
    let evaluation = printed.json();
    assert_eq!(evaluation["counts"]["items"], 8);
    assert_eq!(evaluation["settings"]["template"]["name"], "question");
    assert_eq!(
        evaluation["intervals"].as_object().unwrap().len(),
        evaluation["metrics"].as_object().unwrap().len()
    );
    let tree = folder.tree("runs/eval");
    let again = folder.run(&first).expect_success();
    assert_eq!(again.stdout, printed.stdout);
    assert!(again.stderr.contains("16 there already") && again.stderr.contains("0/s"), "{}", again.stderr);
    assert_eq!(folder.tree("runs/eval").keys().collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());

    let other = folder.run(&[&first[..], &["--set", "seed=2"]].concat()).expect_success();
    assert_ne!(other.json()["settings"]["seed"], evaluation["settings"]["seed"]);
    assert_eq!(
        std::fs::read_dir(folder.path("runs/eval")).unwrap().count(),
        2,
        "other settings, another folder"
    );
}

#[test]
fn greedy_answers_depend_on_the_prompt_and_on_no_seed() {
    let folder = folder(8);
    let eval = |more: &[&str]| {
        let greedy = ["eval", "gsm8k", "--model", "model", "--problems", "test.jsonl", "--json"];
        let short = ["--set", "evaluation.max_new_tokens=8"];
        folder.run(&[&greedy[..], &short, more].concat()).expect_success().json()
    };
    let (one, two) = (eval(&["--out", "one"]), eval(&["--out", "two", "--set", "seed=9"]));
    assert_eq!(one, two);
    assert_eq!(folder.read("one/items.jsonl"), folder.read("two/items.jsonl"));
    let prompts_differ = eval(&["--out", "cot", "--template", "cot-turns", "--shots", "1"]);
    assert_ne!(one["digests"]["template"], prompts_differ["digests"]["template"]);
    assert_eq!(one["digests"]["data"], prompts_differ["digests"]["data"]);
}

#[test]
fn responses_from_a_file_are_scored_without_a_model_or_a_folder() {
    let folder = folder(4);
    let score = |responses: &str, more: &[&str]| {
        folder.write("responses.jsonl", responses);
        let arguments =
            ["eval", "gsm8k", "--problems", "test.jsonl", "--responses", "responses.jsonl", "--json"];
        folder.run(&[&arguments[..], more].concat())
    };
    let gold: String = folder
        .lines("test.jsonl")
        .iter()
        .map(|record| format!("{}\n", json!({ "response": record["answer"] })))
        .collect();
    let all = score(&gold, &[]).expect_success().json();
    assert_eq!(
        (&all["metrics"]["strict_accuracy"], &all["metrics"]["flexible_accuracy"]),
        (&json!(1.0), &json!(1.0))
    );
    assert!(!folder.path("runs").exists());

    let one = score("{\"id\": 3, \"response\": [\"no idea\", \"it is 8\"]}", &["--out", "kept"])
        .expect_success()
        .json();
    let counts = ["items", "answered", "missing", "strict_unparseable", "flexible_unparseable"];
    assert_eq!(counts.map(|name| one["counts"][name].as_u64().unwrap()), [4, 1, 3, 2, 1]);
    assert_eq!(folder.lines("kept/items.jsonl")[2]["samples"][1]["flexible"], "8");

    let refused = score("{\"id\": 9, \"response\": \"x\"}", &[]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("responses.jsonl:1: id \"9\" is not one of the 4 items"),
        "{}",
        refused.stderr
    );
    let refused = score(&gold, &["--model", "model"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

#[test]
fn two_evaluations_of_the_same_items_are_compared() {
    let folder = folder(12);
    for (out, right) in [("worse", 3), ("better", 11)] {
        let lines: Vec<Value> = folder
            .lines("test.jsonl")
            .iter()
            .enumerate()
            .map(|(item, record)| {
                if item < right {
                    json!({ "response": record["answer"] })
                } else {
                    json!({ "response": "#### x" })
                }
            })
            .collect();
        folder.write("r.jsonl", jsonl(&lines));
        let arguments = ["eval", "gsm8k", "--problems", "test.jsonl", "--responses", "r.jsonl", "--out", out];
        folder.run(&arguments).expect_success();
    }
    let compared = folder.run(&["eval", "compare", "worse", "better", "--json"]).expect_success().json();
    let strict = &compared["metrics"]["strict_accuracy"];
    // Eight of eight disagreements on one side: 2 / 2^8.
    assert!((strict["p"].as_f64().unwrap() - 2.0 / 256.0).abs() < 1e-12, "{strict}");
    assert_eq!(strict["test"], "mcnemar-exact");
    assert_eq!((&strict["first_better"], &strict["second_better"]), (&json!(0), &json!(8)));
    let table = folder.run(&["eval", "compare", "worse", "better"]).expect_success().stdout;
    assert!(table.contains("strict accuracy") && table.contains("+66.7"), "{table}");

    let limited = [
        "eval",
        "gsm8k",
        "--problems",
        "test.jsonl",
        "--responses",
        "r.jsonl",
        "--limit",
        "5",
        "--out",
        "part",
    ];
    folder.run(&limited).expect_success();
    let refused = folder.run(&["eval", "compare", "worse", "part"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("different data"), "{}", refused.stderr);
    let missing = folder.run(&["eval", "compare", "worse", "nowhere"]);
    assert!(missing.stderr.contains("nowhere/evaluation.json"), "{}", missing.stderr);
}

#[test]
fn a_run_measures_on_benchmarks_and_refuses_to_train_on_them() {
    let folder = folder(6);
    folder.write_inputs();
    let configuration = String::from_utf8(folder.read("rlrf.toml")).unwrap();
    let with = "sets = [\n  { name = \"gsm8k\", file = \"test.jsonl\", benchmark = \"gsm8k\", template = \"question\" },";
    folder.write("rlrf.toml", configuration.replace("sets = [", with));
    let heldout = format!("Instruction: {}", problems("Sue", 6)[4]["prompt"].as_str().unwrap());
    let mut instructions = problems("Tom", 30);
    for number in [3, 7] {
        instructions[number]["prompt"] = format!("{heldout} ({number})").into();
    }
    folder.write("data/leaky.jsonl", jsonl(&instructions));
    let leaky = ["run", "rlrf.toml", "--out", "run", "--set", "instructions.file=data/leaky.jsonl"];
    let refused = folder.run(&leaky);
    assert_eq!(refused.code, Some(1));
    for part in ["2 questions", "evaluation set \"gsm8k\"", "instruction Tom-3, instruction Tom-7)"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let summary =
        folder.run(&["run", "rlrf.toml", "--out", "run", "--json", "--set", "iterations=1"]).expect_success();
    let found = summary.json();
    let benchmarks: Vec<&Value> = found["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|evaluation| evaluation["set"] == "gsm8k")
        .collect();
    assert_eq!(benchmarks.iter().map(|e| e["iteration"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    assert!(benchmarks.iter().all(|e| e["intervals"]["strict_accuracy"].is_array()));
    let page = String::from_utf8(folder.read("run/report.html")).unwrap();
    assert!(page.contains("gsm8k strict accuracy"));
}
