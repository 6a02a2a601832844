//! Judges that are asked in words: an endpoint in a run and in a stage, and panels. No reply is paid for twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlrf_method::Table;
use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::endpoint::server::{Answer, Asked, Server, refused, said};
use crate::folder::{CONFIGURATION, Folder, jsonl};

/// Judges by the length of what it is asked; some replies are unclear until it is asked once more, some always.
fn verdict(asked: &Asked) -> Answer {
    let messages = asked.body["messages"].as_array().unwrap();
    let length = messages[0]["content"].as_str().unwrap().len();
    match (length % 5, messages.len()) {
        (0, _) => said("I cannot say."),
        (1, 1) => said("So-so.\nLevel: 2 or 3"),
        (1, _) => said("Level: 2"),
        (rest, _) => said(&format!("It has {length} letters.\nLevel: {}", rest - 1)),
    }
}

fn configuration(feedback: &str) -> String {
    let (before, rest) = CONFIGURATION.split_once("[feedback]").unwrap();
    let (_, after) = rest.split_once("[templates]").unwrap();
    let feedback = format!("[feedback]\naspects = [\"logical correctness\"]\n{feedback}\n\n[templates]");
    format!("{before}{feedback}{after}").replace("iterations = 2", "iterations = 1")
}

fn endpoint(url: &str) -> String {
    format!("source = \"endpoint\"\nendpoint = {{ model = \"{url}\", name = \"served\" }}")
}

/// Everything that was asked, each of it once.
fn asked_once(server: &Server) -> BTreeSet<String> {
    let asked: Vec<String> = server.asked().iter().map(|asked| asked.body.to_string()).collect();
    let distinct: BTreeSet<String> = asked.iter().cloned().collect();
    assert_eq!(distinct.len(), asked.len(), "asked twice");
    distinct
}

#[test]
fn an_endpoint_judges_in_a_run() {
    let (folder, server) = (Folder::new(), Server::start(|asked, _| verdict(asked)));
    folder.write_inputs();
    folder.write("endpoint.toml", configuration(&endpoint(&server.url())));
    let run = ["run", "endpoint.toml", "--out", "out", "--json"];
    let summary = folder.run(&run).expect_success().json();
    let iteration = &summary["iterations"][0];
    let count = |name: &str| iteration[name].as_u64().unwrap();
    assert!(count("feedback") > 50, "{iteration:#}");
    for name in ["feedback_failed", "feedback_reasked", "feedback_repaired"] {
        assert!(count(name) > 0 && count(name) < count("feedback"), "{name}: {iteration:#}");
    }
    let asked = asked_once(&server);
    let store = RunStore::open_read_only(folder.path("out")).unwrap();
    assert_eq!(store.computed_twice().unwrap(), 0);
    let kept = folder.read("out/run.toml");
    assert!(!String::from_utf8(kept).unwrap().contains("127.0.0.1"), "an address is not kept");

    // Nothing is asked again, wherever the model is now.
    let elsewhere = Server::start(|_, _| refused(401, "nobody is to ask here"));
    folder.write("endpoint.toml", configuration(&endpoint(&elsewhere.url())));
    assert_eq!(folder.run(&run).expect_success().json()["iterations"], summary["iterations"]);
    assert_eq!((asked_once(&server), elsewhere.asked().len()), (asked, 0));
}

#[test]
fn replies_that_came_before_a_failure_are_not_asked_for_again() {
    let (folder, left) = (Folder::new(), Arc::new(AtomicUsize::new(0)));
    let open = Arc::clone(&left);
    let answered = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&answered);
    let server = Server::start(move |asked, _| {
        let another = open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if another.is_err() {
            return refused(401, "the budget is spent");
        }
        log.lock().unwrap().push(asked.body.to_string());
        verdict(asked)
    });
    folder.write_inputs();
    folder.write("endpoint.toml", configuration(&endpoint(&server.url())));
    let run = ["run", "endpoint.toml", "--out", "out", "--json"];
    let mut failures = 0;
    let summary = loop {
        left.store(60, Ordering::SeqCst);
        let finished = folder.run(&run);
        if finished.code == Some(0) {
            break finished.json();
        }
        assert!(finished.stderr.contains("the budget is spent"), "{}", finished.stderr);
        failures += 1;
        assert!(failures < 20);
    };
    assert!(failures > 0, "the budget was no limit");
    let answered = answered.lock().unwrap().clone();
    let distinct: BTreeSet<&String> = answered.iter().collect();
    // What was under way when the server refused may have been answered and lost.
    assert!(answered.len() - distinct.len() <= failures * 32, "{} of {}", answered.len(), distinct.len());
    let calm = Server::start(|asked, _| verdict(asked));
    folder.write("endpoint.toml", configuration(&endpoint(&calm.url())));
    let whole = folder.run(&["run", "endpoint.toml", "--out", "whole", "--json"]).expect_success().json();
    assert_eq!(whole["iterations"], summary["iterations"]);
    let rows = |name: &str| {
        let store = RunStore::open_read_only(folder.path(name)).unwrap();
        [Table::Generations, Table::Feedback].map(|table| store.count(table, 0).unwrap())
    };
    assert_eq!(rows("whole"), rows("out"));
}

/// Candidates, and a small model that judges.
fn stage_folder() -> Folder {
    let folder = Folder::new();
    folder.write_inputs();
    let candidates: Vec<Value> = (1..=7).map(|length| json!({ "text": "x".repeat(length) })).collect();
    folder.write(
        "candidates.jsonl",
        jsonl(&[json!({ "prompt": "Count.", "reference": "7", "candidates": candidates })]),
    );
    let made = "model new --preset tiny --text data/instructions.jsonl --vocab-size 300 --out judge --quiet";
    folder.run(&made.split(' ').collect::<Vec<_>>()).expect_success();
    folder
}

const STAGE: [&str; 10] = [
    "feedback",
    "--candidates",
    "candidates.jsonl",
    "--out",
    "judged.jsonl",
    "--set",
    "feedback.aspects=[\"readability\"]",
    "--set",
    "templates.feedback=\"data/feedback.jinja\"",
    "--json",
];

#[test]
fn an_endpoint_judges_samples_and_refines_in_stages() {
    let (folder, server) = (stage_folder(), Server::start(|asked, _| verdict(asked)));
    let url = server.url();
    let models = ["--model", url.as_str(), "--model-name", "served"];
    let figures = folder.run(&[&STAGE[..], &models].concat()).expect_success().json();
    assert_eq!((&figures["feedback"], &figures["feedback_reasked"]), (&json!(7), &json!(2)), "{figures:#}");
    let judged = &folder.lines("judged.jsonl")[0]["candidates"];
    let levels: Vec<Option<u64>> = judged
        .as_array()
        .unwrap()
        .iter()
        .map(|candidate| candidate["feedback"][0]["level"].as_u64())
        .collect();
    let prompt = |length: usize| "Reference: 7\nAnswer: ".len() + length;
    let expected = (1..=7).map(|length| match prompt(length) % 5 {
        0 => None,
        1 => Some(2),
        rest => Some(rest as u64 - 1),
    });
    assert_eq!(levels, expected.collect::<Vec<_>>());
    asked_once(&server);

    let refine =
        ["refine", "--candidates", "judged.jsonl", "--out", "refined.jsonl", "--set", "refine.m=2", "--json"];
    let figures = folder.run(&[&refine[..], &models].concat()).expect_success().json();
    assert_eq!(figures["refined"], 2, "{figures:#}");
    let sample = [
        "sample",
        "--instructions",
        "data/heldout.jsonl",
        "--out",
        "sampled.jsonl",
        "--set",
        "sample.n=3",
        "--json",
    ];
    let figures = folder.run(&[&sample[..], &models].concat()).expect_success().json();
    assert_eq!(figures["sampled"], 60, "{figures:#}");
}

#[test]
fn a_panel_averages_a_local_judge_and_an_endpoint() {
    let (folder, server) = (stage_folder(), Server::start(|asked, _| verdict(asked)));
    let judges = format!(
        "feedback.judges=[{{ model = \"judge\" }}, {{ model = \"{}\", name = \"served\" }}]",
        server.url()
    );
    let figures = folder.run(&[&STAGE[..], &["--set", &judges]].concat()).expect_success().json();
    let unreadable =
        (1..=7).filter(|length| ("Reference: 7\nAnswer: ".len() + length).is_multiple_of(5)).count();
    assert_eq!(figures["members_failed"], unreadable, "{figures:#}");
    assert_eq!(figures["feedback_failed"], 0);
    for candidate in folder.lines("judged.jsonl")[0]["candidates"].as_array().unwrap() {
        let feedback = &candidate["feedback"][0];
        let [local, remote] = feedback["members"].as_array().unwrap().as_slice() else {
            panic!("{feedback:#}")
        };
        let told = |judge: &Value| -> f64 {
            let distribution = judge["distribution"].as_array().unwrap();
            (1u32..).zip(distribution).map(|(level, p)| f64::from(level) * p.as_f64().unwrap()).sum()
        };
        let expected = match remote["level"].as_f64() {
            Some(level) => (told(local) + level) / 2.0,
            None => told(local),
        };
        assert!((told(feedback) - expected).abs() < 1e-6, "{feedback:#}");
        assert!((candidate["score"].as_f64().unwrap() - expected).abs() < 1e-6);
    }
}

#[test]
fn who_judges_is_said_without_contradiction() {
    let folder = Folder::new();
    folder.write_inputs();
    for (feedback, expected) in [
        ("source = \"endpoint\"", "feedback.source = \"endpoint\" needs its address"),
        ("source = \"panel\"", "feedback.source = \"panel\" needs its members"),
        ("endpoint = { model = \"http://127.0.0.1:9/v1\" }", "`feedback.endpoint` names who judges, but"),
        ("judges = [{ model = \"DIR\" }]", "`feedback.judges` names who judges, but"),
        (
            "source = \"endpoint\"\nendpoint = { model = \"DIR\" }",
            "feedback.endpoint.model = \"DIR\": must be an address",
        ),
        ("source = \"panel\"\njudges = [{ model = \"none\" }]", "feedback.judges, number 1"),
        ("source = \"panel\"\njudges = [{ modle = \"none\" }]", "did you mean `model`?"),
        ("source = \"panel\"\njudges = [{ model = \"DIR\", name = \"x\" }]", "leave out its name \"x\""),
    ] {
        folder.write("bad.toml", configuration(feedback));
        let finished = folder.run(&["run", "bad.toml"]);
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{} lacks {expected}", finished.stderr);
        assert!(!folder.path("runs").exists(), "nothing was begun");
    }
}
