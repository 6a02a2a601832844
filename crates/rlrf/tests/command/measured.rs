//! Benchmarks in a run: each model measured on each set, judged by an endpoint where a benchmark wants one.

use std::fs;

use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::endpoint::server::{Answer, Asked, Server, said};
use crate::folder::{CONFIGURATION, Finished, Folder, jsonl};

/// The tiny configuration, measured on other sets.
fn measured_on(folder: &Folder, evaluation: &str) {
    folder.write_inputs();
    let (before, _) = CONFIGURATION.split_once("[evaluation]").unwrap();
    folder.write("rlrf.toml", format!("{before}[evaluation]\nmax_new_tokens = 12\n{evaluation}\n"));
}

fn run(folder: &Folder, arguments: &[&str]) -> Finished {
    folder.run(&[&["run", "rlrf.toml", "--out", "run"], arguments].concat())
}

/// The evaluations of one set, checked for their place and form.
fn evaluations<'a>(summary: &'a Value, set: &str) -> Vec<&'a Value> {
    let all = summary["evaluations"].as_array().unwrap();
    let found: Vec<&Value> = all.iter().filter(|evaluation| evaluation["set"] == set).collect();
    let iterations: Vec<u64> =
        found.iter().map(|evaluation| evaluation["iteration"].as_u64().unwrap()).collect();
    assert_eq!(iterations, [0, 1, 2], "{set}");
    for (evaluation, model) in found.iter().zip(summary["models"].as_array().unwrap()) {
        assert_eq!(&evaluation["digests"]["model"], model);
        for (metric, value) in evaluation["metrics"].as_object().unwrap() {
            let [low, high] = [0, 1].map(|bound| evaluation["intervals"][metric][bound].as_f64().unwrap());
            let value = value.as_f64().unwrap();
            assert!(low <= value && value <= high, "{set} {metric}: {value} is not in {low} to {high}");
        }
    }
    found
}

#[test]
fn a_run_shows_the_curve_of_a_benchmark_with_its_intervals() {
    let folder = Folder::new();
    folder.write_inputs();
    let finished = run(&folder, &[]).expect_success();
    let summary: Value = serde_json::from_slice(&folder.read("run/summary.json")).unwrap();
    for evaluation in evaluations(&summary, "grade school") {
        assert_eq!((&evaluation["benchmark"], &evaluation["counts"]["items"]), (&json!("gsm8k"), &json!(6)));
        assert_eq!(evaluation["settings"]["template"]["name"], "question");
        assert!(evaluation["metrics"]["strict_accuracy"].is_number());
    }
    evaluations(&summary, "heldout");
    let row = |metric: &str| format!("grade school {metric} accuracy");
    let report = fs::read_to_string(folder.path("run/report.html")).unwrap();
    for metric in ["strict", "flexible"] {
        assert!(finished.stdout.contains(&row(metric)), "{}", finished.stdout);
        // The curve's points are described with their intervals.
        let described = report.split("<figure").skip(1).find(|figure| figure.contains(&row(metric)));
        let described = described.unwrap_or_else(|| panic!("no figure of {metric}"));
        for model in ["M_0: ", "M_1: ", "M_2: "] {
            let point = described.split_once(model).unwrap_or_else(|| panic!("{metric} lacks {model}")).1;
            assert!(point.split_once('%').unwrap().1.starts_with(" ["), "{metric} {model}has no interval");
        }
    }
    assert!(
        finished.stdout.contains("grade school M_0: "),
        "what was not read is counted: {}",
        finished.stdout
    );
}

/// Likes responses better the later it is asked about them; refuses to score the depth of anything.
fn judge(asked: &Asked, before: usize) -> Answer {
    let prompt = asked.body["messages"][0]["content"].as_str().unwrap_or_default();
    let scored = |score: &str| json!({ "reason": "because", "score": score });
    let score = if before < 3 { "2" } else { "4" };
    let reply = match prompt.contains("engagement") {
        true => json!({
            "helpfulness": scored(score), "clarity": scored(score), "factuality": scored("5"),
            "depth": scored("N/A"), "engagement": scored("3"),
        }),
        false => json!({ "safety": scored("1") }),
    };
    said(&reply.to_string())
}

#[test]
fn an_endpoint_judges_a_run_once_and_may_move() {
    let folder = Folder::new();
    let record = |id: u32| {
        let category = if id == 2 { "safety" } else { "regular" };
        json!({ "id": id, "instruction": format!("Name river {id} ."), "dataset": "own", "category": category })
    };
    folder.write("data/just.jsonl", jsonl(&[0, 1, 2, 3].map(record)));
    let server = Server::start(judge);
    let evaluation = |url: &str| {
        format!(
            "sets = [{{ name = \"rivers\", benchmark = \"just-eval\", file = \"data/just.jsonl\", limit = 3 }}]\n\
             judge = {{ model = \"{url}\", name = \"served\" }}"
        )
    };
    measured_on(&folder, &evaluation(&server.url()));
    run(&folder, &[]).expect_success();
    let summary: Value = serde_json::from_slice(&folder.read("run/summary.json")).unwrap();
    for evaluation in evaluations(&summary, "rivers") {
        let (metrics, counts) = (&evaluation["metrics"], &evaluation["counts"]);
        assert_eq!(
            (&metrics["safety"], &metrics["factuality"]),
            (&json!(1.0), &json!(5.0)),
            "{evaluation:#}"
        );
        assert!(metrics.get("depth").is_none() && counts["items"] == 3, "{evaluation:#}");
    }
    let asked = server.asked().len();
    assert!((3..=9).contains(&asked), "once for each response: {asked}");
    assert!(RunStore::open_read_only(folder.path("run")).unwrap().computed_twice().unwrap() == 0);

    let before = folder.tree("run");
    let moved = Server::start(judge);
    measured_on(&folder, &evaluation(&moved.url()));
    run(&folder, &[]).expect_success();
    assert_eq!((server.asked().len(), moved.asked().len()), (asked, 0));
    for (path, content) in folder.tree("run") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let timed =
            ["run.db", "run.lock", "report.html", "summary.json"].iter().any(|timed| name.starts_with(timed));
        assert!(timed || before.get(&path) == Some(&content), "{name} changed");
        let holds = |part: &str| content.windows(part.len()).any(|window| window == part.as_bytes());
        assert!(!holds(&server.url()) && !holds(&moved.url()), "{name} holds the address");
    }
    measured_on(&folder, &evaluation(&moved.url()).replace("served", "other"));
    let refused = run(&folder, &[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("another configuration"), "{}", refused.stderr);
}

/// Finds three facts in every sentence; affirms the first, denies the second, and says neither of the third.
fn fact_checker(asked: &Asked, _: usize) -> Answer {
    let prompt = asked.body["messages"][0]["content"].as_str().unwrap_or_default();
    if asked.body["logprobs"] != true {
        assert!(prompt.contains("into independent facts"), "{prompt}");
        return said("- It is known.\n- It is doubted.\n- It is odd.");
    }
    let first = match prompt {
        prompt if prompt.contains("Input: It is known.") => "True",
        prompt if prompt.contains("Input: It is doubted.") => "False",
        _ => "Perhaps",
    };
    let content = json!([{ "top_logprobs": [{ "token": first, "logprob": -0.1 }] }]);
    let choice = json!({ "message": { "content": first }, "logprobs": { "content": content } });
    Answer::Reply(200, "", json!({ "choices": [choice] }).to_string())
}

const TALKATIVE: &str = r#"
name = "talkative"
iterations = 2
checker = "arithmetic"

[instructions]
file = "data/instructions.jsonl"
limit = 3

[policy]
new = { preset = "tiny", vocab_size = 300 }

[policy.sft]
files = ["data/bios.jsonl"]
training = { epochs = 100, batch_size = 2, learning_rate = 3e-3 }

[feedback]
source = "checker"
aspects = ["logical correctness"]

[sample]
n = 2
sampling = { max_new_tokens = 8 }

[refine]
m = 1
sampling = { max_new_tokens = 8 }

[evaluation]
max_new_tokens = 12
sets = [{ name = "people", benchmark = "factscore", file = "data/topics.txt", index = "data/index" }]
"#;

#[test]
fn facts_are_checked_in_a_run_and_what_no_judge_decided_is_counted() {
    let folder = Folder::new();
    folder.write_inputs();
    let page = |title: &str| json!({ "title": title, "text": format!("{title} is known for a theorem.") });
    folder.write("data/corpus.jsonl", jsonl(&["Ann", "Tom"].map(page)));
    folder.write("data/topics.txt", "Ann\nTom\nNobody\n");
    folder.run(&["index", "build", "data/corpus.jsonl", "--out", "data/index"]).expect_success();
    let server = Server::start(fact_checker);
    let bio = |name: &str| {
        let prompt = format!("Question: Tell me a bio of {name}.");
        json!({ "prompt": prompt, "completion": format!("{name} is known.") })
    };
    folder.write("data/bios.jsonl", jsonl(&["Eva", "Max"].map(bio)));
    let configuration = format!("{TALKATIVE}judge = {{ model = \"{}\", name = \"served\" }}\n", server.url());
    folder.write("rlrf.toml", configuration);
    run(&folder, &[]).expect_success();
    let summary: Value = serde_json::from_slice(&folder.read("run/summary.json")).unwrap();
    let mut facts = 0;
    for evaluation in evaluations(&summary, "people") {
        let counts = |name: &str| evaluation["counts"][name].as_u64().unwrap();
        assert_eq!((counts("items"), counts("no_page")), (3, 1), "{evaluation:#}");
        assert_eq!(counts("answered") + counts("abstained") + counts("without_facts"), 2, "{evaluation:#}");
        assert_eq!(counts("facts_supported") * 3, counts("facts"), "{evaluation:#}");
        assert_eq!(counts("facts_unjudged") * 3, counts("facts"), "{evaluation:#}");
        if counts("answered") > 0 {
            assert_eq!(evaluation["metrics"]["init_score"], 0.5, "{evaluation:#}");
        }
        facts += counts("facts");
    }
    assert!(facts > 0, "no model said anything");
    let asked = server.asked().len();
    run(&folder, &[]).expect_success();
    assert_eq!(server.asked().len(), asked, "nothing was asked again");
}

#[test]
fn what_cannot_be_measured_is_refused_before_any_time_is_spent() {
    let gsm8k = |more: &str| {
        format!("sets = [{{ name = \"g\", benchmark = \"gsm8k\", file = \"data/gsm8k.jsonl\"{more} }}]")
    };
    let just = "sets = [{ name = \"j\", benchmark = \"just-eval\", file = \"data/just.jsonl\" }]";
    let folder = Folder::new();
    folder.write(
        "data/bad.jsonl",
        "{\"question\": \"q\", \"answer\": \"#### 1\"}\n{\"question\": \"q\", \"answer\": \"one\"}\n",
    );
    folder.write(
        "data/just.jsonl",
        "{\"id\": 1, \"instruction\": \"Name a river.\", \"category\": \"regular\"}\n",
    );
    folder.write("data/topics.txt", "Ada Lovelace\n");
    for (evaluation, expected) in [
        (gsm8k(", limit = 0"), "the evaluation set \"g\" has no items"),
        (gsm8k(", template = \"chatt\""), "chatt"),
        (gsm8k(", samples = 0"), "samples = 0: must be at least 1"),
        (gsm8k(", samples = 4, temperature = 0"), "greedy samples are all the same"),
        (gsm8k(", max_new_tokens = 0"), "max_new_tokens = 0"),
        (gsm8k("").replace("gsm8k.jsonl", "bad.jsonl"), "bad.jsonl:2: `answer` must end in `#### n`"),
        (gsm8k("").replace("gsm8k.jsonl", "none.jsonl"), "none.jsonl: cannot read"),
        (just.into(), "the evaluation set \"j\" needs a judge"),
        (format!("{just}\njudge = {{ model = \"nowhere\" }}"), "evaluation.judge"),
        (
            "sets = [{ name = \"f\", benchmark = \"factscore\", file = \"data/topics.txt\", index = \"nowhere\" }]".into(),
            "nowhere",
        ),
    ] {
        measured_on(&folder, &evaluation);
        let finished = run(&folder, &[]);
        assert_eq!(finished.code, Some(1), "{evaluation}");
        assert!(finished.stderr.contains(expected), "{} lacks {expected}", finished.stderr);
        assert!(!folder.path("run").exists(), "{evaluation}");
    }

    measured_on(&folder, &gsm8k(""));
    let question = &folder.lines("data/gsm8k.jsonl")[4]["question"];
    let shouted = format!("  {} ", question.as_str().unwrap().to_uppercase());
    let mut instructions = folder.lines("data/instructions.jsonl");
    instructions[7]["prompt"] = shouted.into();
    folder.write("data/instructions.jsonl", jsonl(&instructions));
    let finished = run(&folder, &[]);
    let expected = "1 questions that are trained on are also in the evaluation set \"g\" (instruction Tom-7)";
    assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    assert!(!folder.path("run").exists());
    run(&folder, &["--set", "evaluation.allow_overlap=true", "--set", "iterations=0"]).expect_success();
}
