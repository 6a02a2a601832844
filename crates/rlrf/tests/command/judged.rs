//! `rlrf eval just-eval` and `pairwise`: with models whose words are noise, and from files.

use rlrf_method::Table;
use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::folder::{Folder, jsonl};

/// Two models of random weights: `model`, and `judge` with a context that holds the judge's prompts.
fn prepared() -> Folder {
    let folder = Folder::new();
    let instructions: Vec<Value> = (0..5)
        .map(|id| {
            let category = if id < 3 { "regular" } else { "safety" };
            json!({ "id": id, "instruction": format!("Please name {id} rivers of Europe."), "dataset": "own", "category": category })
        })
        .collect();
    folder.write("instructions.jsonl", jsonl(&instructions));
    folder.write(
        "questions.jsonl",
        jsonl(&[
            json!({ "question_id": 1, "category": "rivers", "turns": ["Name a river.", "And another?"] }),
            json!({ "question_id": 2, "category": "seas", "turns": ["Name a sea.", "And another?"] }),
        ]),
    );
    let made = ["model", "new", "--text", "instructions.jsonl", "--vocab-size", "300", "--quiet"];
    let run = |more: &[&str]| folder.run(&[&made[..], more].concat()).expect_success();
    run(&["--preset", "tiny", "--out", "model"]);
    let mut config: Value = serde_json::from_slice(&folder.read("model/config.json")).unwrap();
    config["max_position_embeddings"] = 8192.into();
    folder.write("judge.json", config.to_string());
    run(&["--config", "judge.json", "--seed", "2", "--out", "judge"]);
    folder
}

fn generations(folder: &Folder, name: &str) -> u64 {
    let store = RunStore::open_read_only(folder.path(name)).unwrap();
    assert_eq!(store.computed_twice().unwrap(), 0);
    store.count(Table::Generations, 0).unwrap()
}

fn count(evaluation: &Value, name: &str) -> u64 {
    evaluation["counts"][name].as_u64().unwrap_or_else(|| panic!("{name}: {evaluation:#}"))
}

#[test]
fn a_judge_that_talks_noise_gives_no_score_and_every_reply_is_counted() {
    let folder = prepared();
    let just_eval = ["eval", "just-eval", "--instructions", "instructions.jsonl", "--judge", "judge"];
    let short = ["--judge-tokens", "12", "--set", "evaluation.max_new_tokens=12", "--json"];
    let call = [&just_eval[..], &["--model", "model", "--out", "first"], &short].concat();
    let first = folder.run(&call).expect_success();
    let evaluation = first.json();
    for (name, expected) in [
        ("items", 5),
        ("replies", 5),
        ("reasked", 5),
        ("failed", 5),
        ("parsed", 0),
        ("helpfulness_scored", 0),
        ("judge_prompt_too_long", 0),
    ] {
        assert_eq!(count(&evaluation, name), expected, "{name}: {evaluation:#}");
    }
    let metrics: Vec<&String> = evaluation["metrics"].as_object().unwrap().keys().collect();
    assert_eq!(metrics, ["mean_tokens", "mean_words", "safety_mean_tokens", "safety_mean_words"]);
    assert!(first.stderr.contains("these are not the 1,000 instructions of Just-Eval"), "{}", first.stderr);
    let kept: Value = serde_json::from_slice(&folder.read("first/evaluation.json")).unwrap();
    assert_eq!(kept, evaluation);
    let items = folder.lines("first/items.jsonl");
    assert_eq!(items.len(), 5);
    assert_eq!(items[4]["replies"].as_array().unwrap().len(), 2);

    let drawn = generations(&folder, "first");
    let again = folder.run(&call).expect_success();
    assert_eq!((again.stdout, generations(&folder, "first")), (first.stdout, drawn));

    // The same responses from a file, but for one: the judge is asked about that one alone, twice as it talks noise.
    let mut responses: Vec<Value> =
        items.iter().map(|item| json!({ "id": item["id"], "response": item["response"] })).collect();
    let asked = generations(&folder, "runs/eval/judge-cache");
    let judge_file = |responses: &[Value], out: &str| {
        folder.write("responses.jsonl", jsonl(responses));
        let given = ["--responses", "responses.jsonl", "--out", out];
        folder.run(&[&just_eval[..], &given, &short].concat()).expect_success().json()
    };
    let evaluation = judge_file(&responses, "second");
    assert_eq!((count(&evaluation, "failed"), generations(&folder, "runs/eval/judge-cache")), (5, asked));
    responses[2]["response"] = "The Rhine, the Rhône and the Danube.".into();
    let evaluation = judge_file(&responses, "third");
    assert_eq!((count(&evaluation, "failed"), generations(&folder, "runs/eval/judge-cache")), (5, asked + 2));
    assert_eq!(generations(&folder, "third"), asked, "whole without the cache");
}

#[test]
fn scores_are_recomputed_from_a_judges_replies() {
    let folder = Folder::new();
    let reply = |scores: [&str; 5]| {
        let aspects = ["helpfulness", "clarity", "factuality", "depth", "engagement"].iter().zip(scores);
        let members = aspects
            .map(|(aspect, score)| format!("\"{aspect}\": {{\"reason\": \"So.\", \"score\": \"{score}\"}}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    };
    let doubled = format!("{} {}", reply(["5"; 5]), reply(["1"; 5]));
    folder.write(
        "replies.jsonl",
        jsonl(&[
            json!({ "id": 0, "result": reply(["5", "4", "N/A", "2", "1"]), "output": "one two three" }),
            json!({ "id": 1, "result": format!("```json\n{}\n```", reply(["3", "4", "4", "4", "7"])) }),
            json!({ "id": 2, "result": doubled }),
            json!({ "id": 3, "result": "{\"safety\": {\"reason\": \"Refuses.\", \"score\": \"5\"}}" }),
            json!({ "id": 4, "result": "{\"safety\": {\"reason\": \"Refuses.\", \"sco" }),
            json!({ "id": 5 }),
        ]),
    );
    let call = ["eval", "just-eval", "--replies", "replies.jsonl", "--json"];
    let evaluation = folder.run(&call).expect_success().json();
    let expected = json!({
        "clarity": 4.0, "depth": 3.0, "engagement": 1.0, "factuality": 4.0, "helpfulness": 4.0, "mean": 3.2,
        "mean_words": 3.0, "safety": 5.0,
    });
    assert_eq!(evaluation["metrics"], expected);
    for (name, expected) in [
        ("items", 6),
        ("replies", 5),
        ("no_reply", 1),
        ("parsed", 2),
        ("repaired", 1),
        ("failed", 2),
        ("failed_conflict", 1),
        ("failed_truncated", 1),
        ("factuality_not_applicable", 1),
        ("engagement_out_of_range", 1),
    ] {
        assert_eq!(count(&evaluation, name), expected, "{name}: {evaluation:#}");
    }
    let compat = folder.run(&[&call[..], &["--compat"]].concat()).expect_success().json();
    assert_eq!(compat["metrics"]["factuality"], 4.5);
    assert!(!folder.path("runs").exists(), "nothing is kept unless --out says where");
    let table = folder
        .run(&["eval", "just-eval", "--replies", "replies.jsonl", "--out", "kept"])
        .expect_success()
        .stdout;
    assert!(table.contains("helpfulness") && table.contains("failed conflict 1"), "{table}");
    assert_eq!(folder.lines("kept/items.jsonl").len(), 6);
}

#[test]
fn what_is_missing_is_said_before_any_work() {
    let folder = Folder::new();
    folder.write("i.jsonl", "{\"id\": 1, \"instruction\": \"x\", \"category\": \"regular\"}\n");
    folder.write("r.jsonl", "{\"id\": 1, \"result\": \"\"}\n");
    for (arguments, expected) in [
        (
            &["just-eval", "--judge", "j"][..],
            "name the instructions with --instructions FILE. Expected is Just-Eval-Instruct",
        ),
        (
            &["just-eval", "--instructions", "none"],
            "none: cannot read: No such file or directory (os error 2); expected is Just-Eval",
        ),
        (&["just-eval", "--instructions", "i.jsonl"], "nobody answers"),
        (&["just-eval", "--replies", "r.jsonl", "--judge", "j"], "leave out --judge"),
        (
            &["just-eval", "--instructions", "i.jsonl", "--responses", "r.jsonl"],
            "r.jsonl:1: missing field `response`",
        ),
        (&["pairwise", "--a", "x"], "a comparison needs --questions FILE, --a and --b"),
        (&["pairwise", "--model", "x"], "name them with --a and --b"),
        (&["pairwise", "--replies", "r.jsonl", "--b", "x"], "leave out --b"),
    ] {
        let finished = folder.run(&[&["eval"], arguments].concat());
        assert_eq!(finished.code, Some(1), "{arguments:?}");
        assert!(finished.stderr.contains(expected), "{arguments:?}: {}", finished.stderr);
    }
    assert!(!folder.path("runs").exists());
}

#[test]
fn a_model_compared_with_answers_by_a_judge_that_talks_noise() {
    let folder = prepared();
    let answers = [1, 2].map(|id| json!({ "id": id, "response": ["The Rhine.", "The Danube."] }));
    folder.write("answers.jsonl", jsonl(&answers));
    let call = [
        "eval",
        "pairwise",
        "--a",
        "model",
        "--b",
        "answers.jsonl",
        "--judge",
        "judge",
        "--questions",
        "questions.jsonl",
    ];
    let short = ["--judge-tokens", "12", "--set", "evaluation.max_new_tokens=12", "--json", "--out", "pairs"];
    let call = [&call[..], &["--turns", "2"], &short].concat();
    let first = folder.run(&call).expect_success();
    let evaluation = first.json();
    for (name, expected) in [("items", 4), ("judged", 0), ("unread", 4), ("replies", 8), ("failed", 8)] {
        assert_eq!(count(&evaluation, name), expected, "{name}: {evaluation:#}");
    }
    assert!(evaluation["metrics"].get("win_rate").is_none(), "{evaluation:#}");
    let drawn = generations(&folder, "pairs");
    let again = folder.run(&call).expect_success();
    assert_eq!((again.stdout, generations(&folder, "pairs")), (first.stdout, drawn));

    folder.write(
        "same.jsonl",
        jsonl(&[json!({ "id": 1, "response": "The Rhine." }), json!({ "id": 2, "response": "The Baltic." })]),
    );
    let same = ["eval", "pairwise", "--a", "same.jsonl", "--b", "same.jsonl", "--judge", "judge"];
    let same = [&same[..], &["--questions", "questions.jsonl", "--json"]].concat();
    let evaluation = folder.run(&same).expect_success().json();
    assert_eq!(evaluation["metrics"]["win_rate"], 0.5);
    assert_eq!(count(&evaluation, "identical"), 2);
}

#[test]
fn win_rates_are_recomputed_from_a_judges_replies() {
    let folder = Folder::new();
    let record = |id: u32, first: &str, second: &str| json!({ "id": id, "result": first, "result_swapped": second, "response_a": "long and longer", "response_b": "short" });
    folder.write("replies.jsonl", jsonl(&[
        record(1, "[[A]]", "[[B]]"),
        record(2, "[[A]]", "[[A]]"),
        record(3, "I cannot tell.", "[[A]]"),
        record(4, "[[B]]", "[[A]]"),
        json!({ "question_id": 5, "turn": 2, "g1_judgment": "[[C]]", "g2_judgment": "[[C]]", "model_1": "x", "model_2": "y" }),
    ]));
    let evaluation =
        folder.run(&["eval", "pairwise", "--replies", "replies.jsonl", "--json"]).expect_success().json();
    assert_eq!(evaluation["metrics"]["win_rate"], 0.5);
    assert_eq!(evaluation["metrics"]["tie_rate"], 0.5);
    assert_eq!(evaluation["metrics"]["position_inconsistency_rate"], 0.25);
    for (name, expected) in
        [("items", 5), ("judged", 4), ("unread", 1), ("a_wins", 1), ("b_wins", 1), ("length_unknown", 1)]
    {
        assert_eq!(count(&evaluation, name), expected, "{name}");
    }
}
