//! A model behind an endpoint: measured through the real binary, asked for nothing twice.

#[allow(dead_code, reason = "made for more tests than these")]
#[path = "../../../rlrf-remote/tests/remote/server.rs"]
pub(crate) mod server;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::folder::{Finished, Folder, jsonl, problems};
use server::{Answer, Asked, Server, refused, said};

const KEY: &str = "sk-never-to-be-seen";

/// Lists one model, and answers every question alike: right for the first problem of each owner alone.
fn answer(asked: &Asked, _: usize) -> Answer {
    match asked.line.as_str() {
        "GET /v1/models" => Answer::Reply(200, "", json!({ "data": [{ "id": "served" }] }).to_string()),
        _ => said("15"),
    }
}

fn problem_folder() -> Folder {
    let folder = Folder::new();
    folder.write("heldout.jsonl", jsonl(&problems("Sue", 12)));
    folder
}

fn eval(folder: &Folder, url: &str, more: &[&str]) -> Command {
    let arguments =
        ["eval", "problems", "--problems", "heldout.jsonl", "--set", "checker=arithmetic", "--json"];
    let mut command = folder.command(&[&arguments[..], &["--model", url], more].concat());
    command.env("RLRF_API_KEY", KEY).env_remove("OPENAI_API_KEY");
    command
}

fn finished(mut command: Command) -> Finished {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn what_an_endpoint_answered_once_is_never_asked_again() {
    let (folder, server) = (problem_folder(), Server::start(answer));
    let first = finished(eval(&folder, &server.url(), &[])).expect_success();
    let evaluation = first.json();
    let counts = json!({
        "correct": 1, "incomplete": 0, "items": 12, "prompt_too_long": 0, "tokens_unknown": 12, "unreadable": 0
    });
    assert_eq!(evaluation["counts"], counts);
    assert!(evaluation["metrics"].get("mean_tokens").is_none(), "the endpoint tells no tokens: {evaluation}");
    let asked = server.asked();
    assert_eq!(asked.len(), 1 + 12);
    assert_eq!(asked[0].line, "GET /v1/models");
    assert!(asked.iter().all(|asked| asked.headers.contains(KEY)));
    assert!(
        asked[1..].iter().all(|asked| asked.body["model"] == "served" && asked.body["temperature"] == 0.0)
    );

    let again = finished(eval(&folder, &server.url(), &["--model-name", "served"])).expect_success();
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(server.asked().len(), asked.len(), "nothing was asked");
    let elsewhere = Server::start(answer);
    let fleet = format!("{},{}", elsewhere.url(), server.url());
    let moved = finished(eval(&folder, &fleet, &["--model-name", "served"])).expect_success();
    assert_eq!(moved.stdout, first.stdout);
    assert_eq!((elsewhere.asked().len(), server.asked().len()), (0, asked.len()));
    for (path, content) in folder.tree("runs") {
        let found = content.windows(KEY.len()).any(|window| window == KEY.as_bytes());
        assert!(!found, "{} holds the key", path.display());
    }
}

#[test]
fn gsm8k_is_scored_at_an_endpoint_and_repeated_without_a_request() {
    let folder = Folder::new();
    let records = [("1 + 1", "2"), ("600 + 480", "1,080"), ("1 - 9", "-8"), ("the answer", "18")];
    let records = records
        .map(|(question, gold)| json!({ "question": question, "answer": format!("So.\n#### {gold}") }));
    folder.write("test.jsonl", jsonl(&records));
    let server = Server::start(|asked, _| {
        let prompt = asked.body["messages"][0]["content"].as_str().unwrap_or_default();
        let replies = [
            ("1 + 1", "#### 2"),
            ("600 + 480", "It is $1080.00."),
            ("1 - 9", "#### 8\nNo, -8"),
            ("the", "Eighteen"),
        ];
        said(replies.iter().find(|(question, _)| prompt.contains(question)).unwrap().1)
    });
    let evaluate = |url: &str, out: &str| {
        let arguments = ["eval", "gsm8k", "--problems", "test.jsonl", "--model-name", "served", "--json"];
        folder.run(&[&arguments[..], &["--model", url, "--out", out]].concat()).expect_success()
    };
    let first = evaluate(&server.url(), "out");
    let evaluation = first.json();
    assert_eq!(evaluation["metrics"]["strict_accuracy"], 0.25, "{evaluation:#}");
    assert_eq!(evaluation["metrics"]["flexible_accuracy"], 0.75, "{evaluation:#}");
    let counts = [("items", 4), ("answered", 4), ("strict_unparseable", 2), ("flexible_unparseable", 1)];
    for (count, expected) in counts {
        assert_eq!(evaluation["counts"][count], expected, "{count}: {evaluation:#}");
    }
    assert_eq!(server.asked().len(), 4);

    let items = folder.read("out/items.jsonl");
    assert_eq!(evaluate(&server.url(), "out").stdout, first.stdout);
    let unreachable = "http://127.0.0.1:9/v1";
    assert_eq!(evaluate(unreachable, "out").stdout, first.stdout, "nothing is left to ask");
    assert_eq!((server.asked().len(), folder.read("out/items.jsonl")), (4, items));
}

fn interrupt(child: &mut Child) -> (Option<i32>, Duration) {
    let started = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    (child.wait().unwrap().code(), started.elapsed())
}

#[test]
fn interrupted_while_the_server_is_silent_it_stops_and_keeps_what_came() {
    let stuck = Arc::new(AtomicBool::new(true));
    let silent = Arc::clone(&stuck);
    let server = Server::start(move |asked, before| {
        while before >= 5 && silent.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5));
        }
        answer(asked, before)
    });
    let folder = problem_folder();
    let command = || eval(&folder, &server.url(), &["--model-name", "served"]);
    let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while server.asked().len() < 12 {
        assert_eq!(child.try_wait().unwrap(), None);
        sleep(Duration::from_millis(2));
    }
    sleep(Duration::from_millis(300));
    let (code, took) = interrupt(&mut child);
    assert_eq!(code, Some(130));
    assert!(took < Duration::from_secs(60), "the request would have waited for 600 s: {took:?}");
    stuck.store(false, Ordering::SeqCst);
    finished(command()).expect_success();
    assert_eq!(server.asked().len(), 12 + 7, "only what had not come was asked again");
}

#[test]
fn what_is_wrong_is_said_once_and_without_the_key() {
    let folder = problem_folder();
    let wary = Server::start(|_, _| refused(401, &format!("Incorrect API key provided: {KEY}")));
    let several = Server::start(|_, _| {
        Answer::Reply(200, "", json!({ "data": [{ "id": "a" }, { "id": "b" }] }).to_string())
    });
    for (url, more, expected) in [
        (wary.url(), &["--model-name", "m"][..], "does not accept the API key (HTTP 401"),
        (wary.url(), &[], "does not accept the API key (HTTP 401"),
        (several.url(), &[], "choose one with --model-name: \"a\", \"b\""),
        ("http://u:p@host/v1".into(), &[], "host/v1: holds a user name or password"),
        ("heldout".into(), &["--model-name", "m"], "heldout: is a folder, and holds one model"),
    ] {
        let finished = finished(eval(&folder, &url, more));
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert_eq!(finished.stderr.matches("error: ").count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert!(
            !finished.stderr.contains(KEY) && !finished.stderr.contains("panicked"),
            "{}",
            finished.stderr
        );
    }
}
