//! `rlrf index` and `rlrf eval factscore` with a tiny model: killed, repeated, and fed with garbage.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::folder::{Finished, Folder, jsonl};

const PEOPLE: [(&str, &str, &str); 6] = [
    ("Tom", "ran", "ran"),
    ("Ann", "sang", "wrote"),
    ("Sue", "flew", "flew"),
    ("Max", "wrote", "sang"),
    ("Eva", "ran", "ran"),
    ("Leo", "sang", "flew"),
];

/// A corpus of one page each, an index of it, and a model that answers, breaks down and judges, all from memory: its
/// context is too small for demonstrations.
fn prepared() -> Folder {
    let folder = Folder::new();
    let mut corpus = Vec::new();
    let mut demonstrations = Vec::new();
    let mut show = |prompt: String, completion: String| {
        demonstrations.push(json!({ "prompt": prompt, "completion": completion }));
    };
    for (name, said, truth) in PEOPLE {
        corpus.push(json!({ "title": name, "text": format!("{name} {truth}.") }));
        show(format!("Question: Tell me a bio of {name}."), format!("{name} {said}."));
        show(
            format!("Please breakdown the following sentence into independent facts: {name} {said}."),
            format!("- {name} {said}."),
        );
        show(
            format!(
                "Answer the question about {name} based on the given context.\n\nTitle: {name}\nText: {name} \
                 {truth}.\n\nInput: {name} {said}. True or False?\nOutput:"
            ),
            if said == truth { "True" } else { "False" }.to_string(),
        );
    }
    let names: String = PEOPLE.iter().map(|(name, _, _)| format!("{name}\n")).collect();
    folder.write("topics.txt", names + "Nobody\n");
    folder.write("corpus.jsonl", jsonl(&corpus));
    folder.write("demonstrations.jsonl", jsonl(&demonstrations));
    folder.run(&["index", "build", "corpus.jsonl", "--out", "index", "--quiet"]).expect_success();
    let made = ["model", "new", "--preset", "tiny", "--text", "demonstrations.jsonl", "--vocab-size", "400"];
    folder.run(&[&made[..], &["--out", "model", "--quiet"]].concat()).expect_success();
    let mut config: Value = serde_json::from_slice(&folder.read("model/config.json")).unwrap();
    config["max_position_embeddings"] = 128.into();
    folder.write("model/config.json", config.to_string());
    let settings =
        ["epochs=120", "learning_rate=3e-3", "batch_size=4"].map(|s| format!("policy.sft.training.{s}"));
    let mut arguments = vec!["sft", "--model", "model", "--data", "demonstrations.jsonl", "--out", "tuned"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting.as_str()]));
    folder.run(&[&arguments[..], &["--quiet"]].concat()).expect_success();
    folder
}

const EVALUATE: [&str; 12] = [
    "eval",
    "factscore",
    "--model",
    "tuned",
    "--judge",
    "tuned",
    "--topics",
    "topics.txt",
    "--index",
    "index",
    "--set",
    "evaluation.max_new_tokens=16",
];

fn evaluate(folder: &Folder, out: &str) -> Finished {
    folder.run(&[&EVALUATE[..], &["--out", out, "--json"]].concat()).expect_success()
}

#[test]
fn a_model_is_asked_checked_killed_and_never_asked_twice() {
    let folder = prepared();
    let started = Instant::now();
    let first = evaluate(&folder, "first");
    let duration = started.elapsed();
    let found = first.json();
    let counts = [
        ("items", 7),
        ("no_page", 1),
        ("answered", 6),
        ("abstained", 0),
        ("facts", 6),
        ("facts_supported", 3),
        ("facts_unjudged", 0),
        ("sentences_with_fewer_demonstrations", 6),
        ("incomplete", 0),
    ];
    for (name, expected) in counts {
        assert_eq!(found["counts"][name], expected, "{name}: {found:#}");
    }
    assert_eq!(found["metrics"]["init_score"], 0.5);
    let penalty = (1.0_f64 - 10.0).exp();
    assert!((found["metrics"]["score"].as_f64().unwrap() - 0.5 * penalty).abs() < 1e-12);
    assert_eq!(found["metrics"]["respond_ratio"], 1.0);
    let digests = found["digests"].as_object().unwrap();
    assert!(
        ["index", "judge", "model", "topics"].iter().all(|name| digests.contains_key(*name)),
        "{found:#}"
    );
    let items = folder.lines("first/items.jsonl");
    let fact = &items[1]["sentences"][0]["facts"][0];
    assert_eq!((&fact["fact"], &fact["supported"]), (&json!("Ann sang."), &json!(false)));
    assert!(fact["probability"].as_f64().unwrap() < 0.5);
    assert_eq!(items[1]["passages"][0]["text"], "Ann wrote.");
    assert!(first.stderr.contains("no page of 1 topics"), "{}", first.stderr);

    let files = ["items.jsonl", "evaluation.json"];
    let read = |out: &str| files.map(|file| folder.read(&format!("{out}/{file}")));
    let expected = read("first");
    let again = evaluate(&folder, "first");
    assert_eq!((again.stdout, read("first")), (first.stdout.clone(), expected.clone()));

    let mut unfinished = 0;
    for step in 1..=6 {
        let out = format!("killed-{step}");
        let mut child = folder
            .command(&[&EVALUATE[..], &["--out", &out, "--quiet"]].concat())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64(f64::from(step) / 7.0));
        child.kill().unwrap();
        child.wait().unwrap();
        unfinished += u32::from(!folder.path(&out).join("evaluation.json").exists());
        assert_eq!(evaluate(&folder, &out).stdout, first.stdout);
        assert_eq!(read(&out), expected, "{out}");
        let store = RunStore::open_read_only(folder.path(&out)).unwrap();
        assert_eq!(store.computed_twice().unwrap(), 0, "{out}");
    }

    assert!(unfinished > 0, "no kill hit an evaluation at work");

    // The same responses from a file, judged alike.
    let responses: Vec<Value> = items
        .iter()
        .map(|item| json!({ "topic": item["id"], "output": item["response"].as_str().unwrap_or_default() }))
        .collect();
    folder.write("responses.jsonl", jsonl(&responses));
    let mut arguments =
        vec!["eval", "factscore", "--judge", "tuned", "--index", "index", "--out", "from-file"];
    arguments.extend(["--responses", "responses.jsonl", "--gamma", "0", "--json"]);
    let from_file = folder.run(&arguments).expect_success().json();
    assert_eq!(from_file["counts"]["facts_supported"], 3);
    assert_eq!(from_file["metrics"]["score"], 0.5);
}

#[test]
fn labelled_facts_are_scored_without_a_model() {
    let folder = Folder::new();
    folder.write("l.jsonl", include_bytes!("../../../rlrf-eval/tests/data/factscore/labelled.jsonl"));
    let arguments = ["eval", "factscore", "--facts", "l.jsonl", "--json"];
    let found = folder.run(&arguments).expect_success().json();
    let expected = (9.0 / 17.0 + 33.0 / 34.0 + 2.0 / 15.0) / 3.0;
    assert!((found["metrics"]["score"].as_f64().unwrap() - expected).abs() < 1e-12, "{found:#}");
    assert_eq!(
        (&found["counts"]["abstained"], &found["metrics"]["respond_ratio"]),
        (&json!(1), &json!(0.75))
    );
    assert!(!folder.path("runs").exists(), "nothing to keep without --out");
    let found =
        folder.run(&[&arguments[..], &["--irrelevant-as-unsupported"]].concat()).expect_success().json();
    let expected = (9.0 / 19.0 + 33.0 / 34.0 + 2.0 / 23.0) / 3.0;
    assert!((found["metrics"]["score"].as_f64().unwrap() - expected).abs() < 1e-12, "{found:#}");
    folder.run(&[&arguments[..], &["--out", "kept"]].concat()).expect_success();
    assert_eq!(folder.lines("kept/items.jsonl").len(), 4);
    let table = folder.run(&arguments[..4]).expect_success().stdout;
    assert!(table.contains("score") && table.contains("respond"), "{table}");
}

/// A corpus whose indexing takes a while.
fn large(folder: &Folder) {
    let record = |number: u32| {
        let words: Vec<String> = (0..200).map(|word| format!("w{}", number * 31 % (word * 7 + 11))).collect();
        json!({ "title": format!("Page {number}"), "text": words.join(" ") })
    };
    folder.write("large.jsonl", jsonl(&(0..20_000).map(record).collect::<Vec<_>>()));
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path(".")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_index_is_complete_or_absent() {
    let folder = Folder::new();
    large(&folder);
    let build = ["index", "build", "large.jsonl", "--out", "index", "--json"];
    let started = Instant::now();
    let whole = folder.run(&[&build[..3], &["--out", "whole", "--json"]].concat()).expect_success().stdout;
    let duration = started.elapsed();
    let mut unfinished = 0;
    for step in 1..=5 {
        let mut child = folder.command(&build).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(duration.mul_f64(f64::from(step) / 8.0));
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.path("index").exists() {
            break;
        }
        unfinished += 1;
        let said = folder.run(&["index", "search", "index", "w1"]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("holds no index"), "{}", said.stderr);
    }
    assert!(unfinished > 0, "no kill hit a build at work");
    assert_eq!(folder.run(&build).expect_success().stdout, whole);
    assert_eq!(folder.run(&build).expect_success().stdout, whole, "once more changes nothing");
    assert_eq!(names(&folder), ["index", "large.jsonl", "whole"]);
    let search = |index: &str| {
        folder.run(&["index", "search", index, "w1 w5 w9", "--top", "20", "--json"]).expect_success().stdout
    };
    assert_eq!(search("index"), search("whole"));
}

#[test]
fn an_interrupted_build_says_so_and_leaves_nothing() {
    let folder = Folder::new();
    large(&folder);
    let mut child = folder
        .command(&["index", "build", "large.jsonl", "--out", "index"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.path(".index.partial/meta.json").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without indexing");
        std::thread::sleep(Duration::from_millis(1));
    }
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; nothing of the index is kept"), "{said}");
    assert_eq!(names(&folder), ["large.jsonl"]);
}

#[test]
fn passages_are_found_and_shown() {
    let folder = Folder::new();
    folder.write(
        "corpus.jsonl",
        jsonl(&[
            json!({ "title": "Ada_Lovelace", "text": "Ada wrote programs." }),
            json!({ "title": "Bob", "text": "Bob writes letters." }),
        ]),
    );
    let said = folder.run(&["index", "build", "corpus.jsonl", "--out", "index"]).expect_success();
    assert!(said.stdout.starts_with("2 passages of 2 records"), "{}", said.stdout);
    let search = |arguments: &[&str]| {
        folder.run(&[&["index", "search", "index"], arguments].concat()).expect_success()
    };
    let found = search(&["programs", "--json"]).json();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["title"]), (1, &json!("Ada_Lovelace")));
    assert!(search(&["writing", "--title", "bob"]).stdout.contains("Bob [0], score "));
    assert!(search(&["cello"]).stdout.contains("no passage has a word of the query"));
    assert!(search(&["cello", "--title", "Cy"]).stdout.contains("no page has the title \"Cy\""));
}

#[test]
fn garbage_is_refused_in_one_clear_line() {
    let folder = Folder::new();
    folder.write("corpus.jsonl", "{\"title\": \"Tom\", \"text\": \"Tom ran.\"}\n");
    folder.run(&["index", "build", "corpus.jsonl", "--out", "index"]).expect_success();
    folder.write("bad.jsonl", "{\"title\": \"Tom\", \"text\": \"Tom ran.\"}\n{\"title\": \"Ann\"}\n");
    folder.write("labels.jsonl", "{\"topic\": \"Tom\"}\n");
    folder.write("topics.txt", "Tom\nTom\n");
    folder.write("responses.jsonl", "{\"topic\": \"Tom\", \"text\": \"He ran.\"}\n");
    folder.copy("index", "newer");
    let manifest = String::from_utf8(folder.read("index/index.json")).unwrap();
    folder.write("newer/index.json", manifest.replace("\"format\": 1", "\"format\": 7"));
    folder.copy("index", "broken");
    folder.write("broken/meta.json", "{");
    let cases = [
        ("index build bad.jsonl --out out", "bad.jsonl:2: has no field `text`"),
        ("index build absent --out out", "cannot read absent"),
        ("index build corpus.jsonl --out out --passage-words 0", "at least one word"),
        ("index build corpus.jsonl --out .", "something else than an index"),
        ("index search corpus.jsonl ran", "holds no index"),
        ("index search newer ran", "is an index of format 7"),
        ("index search broken ran", "the index in broken is damaged"),
        ("eval factscore --facts labels.jsonl", "labels.jsonl:1: missing field `annotations`"),
        ("eval factscore --facts labels.jsonl --gamma=-1", "gamma = -1"),
        (
            "eval factscore --topics topics.txt --model m --judge j --index index",
            "topics.txt:2: the topic \"Tom\"",
        ),
        ("eval factscore --responses responses.jsonl --judge j --index index", "missing field `output`"),
        ("eval factscore --topics topics.txt --model m --judge j --index newer", "is an index of format 7"),
        ("eval factscore --topics topics.txt --model m --index index", "name a judge"),
        ("eval factscore --topics topics.txt --model m --judge j", "--index"),
        ("eval factscore --judge j --index index", "--topics"),
        (
            "eval factscore --topics topics.txt --index index --judge j --model m --prompt Who?",
            "must contain <entity>",
        ),
    ];
    for (arguments, expected) in cases {
        let said = folder.run(&arguments.split(' ').collect::<Vec<_>>());
        assert!(said.code.is_some_and(|code| code != 0), "{arguments}: {}", said.stdout);
        assert!(said.stderr.contains(expected), "{arguments}: {}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    }
    assert!(!folder.path("out").exists() && !folder.path("runs").exists());
}
