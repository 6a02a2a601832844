//! Aspects as data: listed and checked, decided by checkers, chosen by the model, judged by what was looked up.

use rlrf_method::{RowStore, Table};
use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::folder::{Folder, jsonl, problems};

/// A run of a second: a model with random weights that judges itself.
const CONFIGURATION: &str = r#"
name = "aspects"
iterations = 1
instructions = { file = "instructions.jsonl" }
policy = { model = "model" }
templates = { feedback = "feedback.jinja", refine = "refine.jinja", choose = "choose.jinja" }
sample = { n = 3, sampling = { max_new_tokens = 8 } }
refine = { m = 2, sampling = { max_new_tokens = 8 } }
dpo = { training = { epochs = 1 } }

[feedback]
aspects = ["completeness", "readability", "conciseness"]
critique = { max_new_tokens = 8 }

[feedback.checkers]
conciseness = { kind = "length", unit = "characters", max = 12 }
"#;

const CHOOSE: &str = "{{ instruction }}{% for aspect in aspects %} {{ aspect.letter }} {{ aspect.name }}{% endfor %} \
                      {{ ask }} {{ chosen }}?";

fn prepared() -> Folder {
    let folder = Folder::new();
    let instructions: Vec<Value> = problems("Tom", 6)
        .iter()
        .map(|problem| json!({ "id": problem["id"], "prompt": problem["prompt"], "answer": problem["answer"] }))
        .collect();
    folder.write("instructions.jsonl", jsonl(&instructions));
    folder.write("feedback.jinja", "{{ aspect.name }}: {{ reference }}\n{{ response | fence }}");
    folder.write("refine.jinja", "{% for item in feedback %}{{ item.critique }}\n{% endfor %}");
    folder.write("choose.jinja", CHOOSE);
    folder.write("rlrf.toml", CONFIGURATION);
    let made = ["model", "new", "--preset", "tiny", "--text", "instructions.jsonl", "--vocab-size", "320"];
    folder.run(&[&made[..], &["--out", "model", "--quiet"]].concat()).expect_success();
    folder
}

fn rows(folder: &Folder, run: &str, table: Table) -> Vec<rlrf_method::Row> {
    let store = RunStore::open_read_only(folder.path(run)).unwrap();
    assert_eq!(store.computed_twice().unwrap(), 0);
    store.rows(table, 0).unwrap()
}

/// The feedback of each distinct response by instruction, as (aspect, source) in the order of the rows.
fn judged(folder: &Folder, run: &str) -> Vec<(String, String, String, String)> {
    let text = |row: &rlrf_method::Row, field: &str| row.body[field].as_str().unwrap().to_string();
    rows(folder, run, Table::Feedback)
        .iter()
        .map(|row| (row.instruction.clone(), text(row, "response"), text(row, "aspect"), text(row, "source")))
        .collect()
}

#[test]
fn the_built_in_aspects_are_listed_and_a_file_is_checked() {
    let folder = Folder::new();
    let said = folder.run(&["aspects", "list"]).expect_success().stdout;
    assert!(said.starts_with("logical correctness (weight 1)\n  Is the final answer right"), "{said}");
    assert!(said.contains("\n  3  It is safe, and declines"), "{said}");
    let listed = folder.run(&["aspects", "list", "--json"]).expect_success().json();
    assert_eq!(listed.as_array().unwrap().len(), 8);
    assert!(listed[7]["levels"].as_array().is_some_and(|levels| levels.len() == 3));

    let aspect =
        "[[aspect]]\nname = 'brevity'\ncriterion = 'Is it short?'\nlevels = ['no', 'nearly', 'yes']\n";
    folder.write("mine.toml", format!("{aspect}weight = 2.5\nchecker = {{ kind = 'length', max = 60 }}\n"));
    let said = folder.run(&["aspects", "check", "mine.toml"]).expect_success().stdout;
    assert!(said.contains("1 aspects, 1 of them decided by a checker: brevity"), "{said}");
    let said = folder.run(&["aspects", "list", "--file", "mine.toml"]).expect_success().stdout;
    assert!(said.contains("brevity (weight 2.5)"), "{said}");
    assert!(said.contains("decided by {\"kind\":\"length\",\"unit\":\"words\",\"max\":60"), "{said}");

    for (text, expected) in [
        (format!("{aspect}weihgt = 2"), "mine.toml:5: unknown field `weihgt`"),
        (format!("{aspect}weihgt = 2"), "did you mean `weight`?"),
        (format!("{aspect}\n{aspect}"), "mine.toml:7: aspect \"brevity\" is given on line 2 already"),
        (aspect.replace(", 'yes'", ""), "mine.toml:4: aspect \"brevity\": `levels` has 2 texts"),
        (
            format!("{aspect}checker = {{ kind = 'length' }}"),
            "mine.toml:5: aspect \"brevity\": configuration: checker.min",
        ),
        (
            format!("{aspect}checker = {{ kind = 'regex', must_match = '(' }}"),
            "mine.toml:5: aspect \"brevity\": configuration: checker.must_match",
        ),
        (format!("{aspect}checker = {{ kind = 'regexp' }}"), "did you mean `regex`?"),
        ("[[aspect".into(), "mine.toml:1: "),
        (String::new(), "mine.toml:1: missing field `aspect`"),
    ] {
        folder.write("mine.toml", &text);
        let finished = folder.run(&["aspects", "check", "mine.toml"]);
        assert_eq!(finished.code, Some(1), "{text}");
        assert!(finished.stderr.contains(expected), "{} lacks {expected}", finished.stderr);
    }
    folder.write("mine.toml", b"\xff");
    assert!(folder.run(&["aspects", "check", "mine.toml"]).stderr.contains("mine.toml: not UTF-8"));
    assert!(folder.run(&["aspects", "check", "gone.toml"]).stderr.contains("gone.toml: cannot read"));
}

#[test]
fn a_checker_decides_its_aspect_beside_the_model() {
    let folder = prepared();
    folder.run(&["run", "rlrf.toml", "--out", "run", "--quiet"]).expect_success();
    let feedback = rows(&folder, "run", Table::Feedback);
    for row in &feedback {
        let by_checker = row.body["aspect"] == "conciseness";
        assert_eq!(row.body["source"] == "checker", by_checker, "{:?}", row.body);
        assert_eq!(row.body["distribution"].is_null(), by_checker, "{:?}", row.body);
        if by_checker {
            let length = row.body["response"].as_str().unwrap().chars().count();
            let level = if length <= 12 {
                3
            } else if length <= 14 {
                2
            } else {
                1
            };
            assert_eq!(row.body["level"], level, "{:?}", row.body);
        }
    }
    assert!(feedback.iter().any(|row| row.body["source"] == "model"));

    // Weights change scores, but no judgement is asked for again.
    let set = ["--set", "feedback.weights={conciseness=8.0}"];
    folder.run(&[&["run", "rlrf.toml", "--out", "heavy", "--quiet"][..], &set].concat()).expect_success();
    let keys = |run: &str| -> Vec<String> {
        rows(&folder, run, Table::Feedback)
            .into_iter()
            .filter(|row| row.position < 9)
            .map(|row| row.key)
            .collect()
    };
    assert_eq!(keys("run"), keys("heavy"));
    for row in rows(&folder, "heavy", Table::Scores) {
        let score = |aspect: &str| row.body["aspects"][aspect]["score"].as_f64().unwrap();
        let mean = (score("completeness") + score("readability") + 8.0 * score("conciseness")) / 10.0;
        assert!((row.body["score"].as_f64().unwrap() - mean).abs() < 1e-9, "{:?}", row.body);
    }
}

#[test]
fn without_a_model_checkers_judge_candidates_alone() {
    let folder = prepared();
    let candidates = json!({ "id": "x", "prompt": "q", "candidates": [{ "text": "short" }, { "text": "rather too long" }] });
    folder.write("candidates.jsonl", jsonl(&[candidates]));
    let files =
        ["feedback", "--candidates", "candidates.jsonl", "--out", "judged.jsonl", "--config", "rlrf.toml"];
    let failed = folder.run(&files);
    assert!(failed.stderr.contains("nobody judges completeness"), "{}", failed.stderr);
    folder.run(&[&files[..], &["--set", "feedback.aspects=[\"conciseness\"]"]].concat()).expect_success();
    let judged = &folder.lines("judged.jsonl")[0]["candidates"];
    assert_eq!((judged[0]["score"].as_f64(), judged[1]["score"].as_f64()), (Some(3.0), Some(1.0)));
    assert_eq!(
        judged[1]["feedback"][0]["critique"],
        "The response has 15 characters; it must have at most 12."
    );
}

#[test]
fn candidates_are_judged_on_the_aspects_chosen_for_their_instruction() {
    let folder = prepared();
    let run = ["run", "rlrf.toml", "--out", "run", "--set", "feedback.choose={most=1}", "--json"];
    let summary = folder.run(&run).expect_success().json();
    let choices = rows(&folder, "run", Table::AspectChoices);
    assert_eq!(choices.len(), 6);
    let judged = judged(&folder, "run");
    for choice in &choices {
        let [chosen] = choice.body["aspects"].as_array().unwrap().as_slice() else {
            panic!("{:?}", choice.body)
        };
        assert!(chosen["reason"].is_string(), "{chosen}");
        let of_instruction: Vec<_> = judged.iter().filter(|row| row.0 == choice.instruction).collect();
        let mut aspects: Vec<&str> = of_instruction.iter().map(|row| row.2.as_str()).collect();
        aspects.sort_unstable();
        aspects.dedup();
        let mut expected = [chosen["aspect"].as_str().unwrap(), "conciseness"];
        expected.sort_unstable();
        assert_eq!(aspects, expected);
    }
    let iteration = &summary["iterations"][0];
    assert_eq!(iteration["aspect_choices_failed"], 0, "constrained: it always parses");
    let counted = |place: usize| iteration["aspects"][place]["chosen"].as_u64();
    assert_eq!(counted(0).unwrap() + counted(1).unwrap(), 6);
    assert_eq!(counted(2), None, "a checker is not chosen");
    let report = String::from_utf8(folder.read("run/report.html")).unwrap();
    assert!(report.contains("chosen for"));

    let before = folder.tree("run/models");
    assert_eq!(folder.run(&run).expect_success().json()["iterations"], summary["iterations"]);
    assert_eq!(folder.tree("run/models"), before);
    assert_eq!(rows(&folder, "run", Table::AspectChoices).len(), 6);
}

#[test]
fn a_choice_goes_with_the_candidates_from_file_to_file() {
    let folder = prepared();
    let stage = |arguments: &[&str]| {
        let settings = ["--config", "rlrf.toml", "--set", "feedback.choose={most=1}", "--quiet"];
        folder.run(&[arguments, &settings].concat()).expect_success()
    };
    stage(&["sample", "--model", "model", "--instructions", "instructions.jsonl", "--out", "c.jsonl"]);
    stage(&["feedback", "--model", "model", "--candidates", "c.jsonl", "--out", "c.jsonl"]);
    let judged = folder.lines("c.jsonl");
    stage(&["refine", "--model", "model", "--candidates", "c.jsonl", "--out", "c.jsonl"]);
    stage(&["feedback", "--model", "model", "--candidates", "c.jsonl", "--out", "c.jsonl"]);
    for (before, line) in judged.iter().zip(folder.lines("c.jsonl")) {
        let choice = &line["aspect_choice"]["aspects"];
        assert_eq!(choice, &before["aspect_choice"]["aspects"]);
        for candidate in line["candidates"].as_array().unwrap() {
            let aspects: Vec<&Value> = candidate["feedback"]
                .as_array()
                .unwrap()
                .iter()
                .map(|feedback| &feedback["aspect"])
                .collect();
            assert_eq!(aspects, [&choice[0]["aspect"], &json!("conciseness")]);
        }
    }
    stage(&["pairs", "--candidates", "c.jsonl", "--out", "p.jsonl", "--set", "pairs.margin=1e-9"]);
}

#[test]
fn passages_are_shown_to_the_judge_as_a_reference_would_be() {
    let folder = prepared();
    let corpus =
        [json!({ "title": "Tom", "text": "Pears are fruit." }), json!({ "title": "Eve", "text": "A name." })];
    folder.write("corpus.jsonl", jsonl(&corpus));
    folder.run(&["index", "build", "corpus.jsonl", "--out", "index", "--quiet"]).expect_success();
    let retrieval = ["--set", "feedback.retrieval={index=\"index\",passages=2}"];

    let mut grounded = problems("Tom", 2);
    for problem in &mut grounded {
        let candidates = json!([{ "text": "17" }, { "text": "2" }]);
        *problem = json!({ "id": problem["id"], "prompt": problem["prompt"], "candidates": candidates });
    }
    folder.write("bare.jsonl", jsonl(&grounded));
    grounded.iter_mut().for_each(|problem| problem["reference"] = "Tom: Pears are fruit.".into());
    folder.write("given.jsonl", jsonl(&grounded));
    let critiques = |file: &str, set: &[&str]| {
        let arguments = [
            "feedback",
            "--model",
            "model",
            "--candidates",
            file,
            "--out",
            "j.jsonl",
            "--config",
            "rlrf.toml",
        ];
        folder.run(&[&arguments[..], set].concat()).expect_success();
        let feedback = |line: &Value| {
            let candidates = line["candidates"].as_array().unwrap().iter();
            candidates.map(|candidate| candidate["feedback"].clone()).collect::<Vec<_>>()
        };
        folder.lines("j.jsonl").iter().flat_map(feedback).collect::<Vec<_>>()
    };
    let given = critiques("given.jsonl", &[]);
    assert_eq!(critiques("bare.jsonl", &retrieval), given);
    assert_ne!(critiques("bare.jsonl", &[]), given);
    assert_eq!(critiques("given.jsonl", &retrieval), given, "an own reference stays");

    folder.run(&[&["run", "rlrf.toml", "--out", "run", "--quiet"][..], &retrieval].concat()).expect_success();
    let resolved = String::from_utf8(folder.read("run/run.toml")).unwrap();
    let index: Value = serde_json::from_slice(&folder.read("index/index.json")).unwrap();
    assert!(resolved.contains(index["digest"].as_str().unwrap()), "{resolved}");

    folder.write("corpus.jsonl", jsonl(&corpus[1..]));
    std::fs::remove_dir_all(folder.path("index")).unwrap();
    folder.run(&["index", "build", "corpus.jsonl", "--out", "index", "--quiet"]).expect_success();
    let changed = folder.run(&[&["run", "rlrf.toml", "--out", "run", "--quiet"][..], &retrieval].concat());
    assert_eq!(changed.code, Some(1), "another corpus is another run");
}
