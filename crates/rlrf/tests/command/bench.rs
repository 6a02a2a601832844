//! `rlrf bench` does the work that it says, and says what `bench/compare` reads. Nothing here is about time.

use serde_json::Value;

use crate::folder::Folder;

fn model(folder: &Folder) {
    folder.write("corpus.txt", "one two three four five\n".repeat(20));
    let new = "model new --preset tiny --text corpus.txt --vocab-size 300 --out model";
    folder.run(&new.split(' ').collect::<Vec<_>>()).expect_success();
}

fn bench(folder: &Folder, arguments: &str) -> Value {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let arguments = [&["bench", arguments[0], "--model", "model", "--json"], &arguments[1..]].concat();
    folder.run(&arguments).expect_success().json()
}

#[test]
fn every_workload_reports_what_it_did() {
    let folder = Folder::new();
    model(&folder);
    folder.write("lengths.txt", "3 4\n5 1\n2 4\n");
    let workloads = [
        ("train --batch 3 --length 7 --repeat 2 --warmup 0", "tokens/s", 21.0, 2),
        ("train --batch 3 --length 7 --repeat 2 --warmup 2", "tokens/s", 21.0, 2),
        ("train --batch 2 --lengths lengths.txt --repeat 2", "tokens/s", 16.0, 2),
        ("decode --prompts 2 --samples 3 --prompt-tokens 5 --new-tokens 4 --repeat 3", "tokens/s", 24.0, 3),
        ("feedback --responses 4 --shared-tokens 20 --response-tokens 6 --repeat 1", "levels/s", 12.0, 1),
        ("dpo --prompts 2 --length 6 --repeat 2", "pairs/s", 16.0, 2),
    ];
    for (arguments, unit, amount, repetitions) in workloads {
        let report = bench(&folder, arguments);
        assert_eq!(report["workload"], arguments.split(' ').next().unwrap());
        assert_eq!(report["unit"], unit, "{report}");
        assert_eq!(report["precision"], "f32");
        assert_eq!(report["seconds"].as_array().unwrap().len(), repetitions, "{report}");
        let done = report["rate"].as_f64().unwrap() * report["seconds_median"].as_f64().unwrap();
        assert!((done - amount).abs() < 1e-6 * amount, "{arguments}: {done}");
        assert!(report["threads"].as_u64().unwrap() >= 1);
    }
    let products = bench(&folder, "matmul --rows 1,3 --repeat 1");
    assert_eq!(products["details"].as_array().unwrap().len(), 2 * 3 * 4);
}

#[test]
fn every_precision_is_there() {
    let folder = Folder::new();
    model(&folder);
    for (arguments, precision) in [
        ("train --batch 3 --length 7 --repeat 1 --precision bf16", "bf16"),
        ("train --batch 3 --length 7 --repeat 1 --precision bf16 --lora-rank 2", "bf16"),
        ("dpo --prompts 2 --length 6 --repeat 1 --lora-rank 2", "f32"),
        ("decode --samples 3 --prompt-tokens 5 --new-tokens 4 --repeat 1 --precision bf16", "bf16"),
        ("decode --samples 3 --prompt-tokens 5 --new-tokens 4 --repeat 1 --precision int8", "int8"),
        ("matmul --rows 3 --repeat 1 --precision int8", "int8"),
    ] {
        assert_eq!(bench(&folder, arguments)["precision"], precision, "{arguments}");
    }
}

#[test]
fn dpo_passes_each_prompt_and_candidate_through_the_model_once() {
    let folder = Folder::new();
    model(&folder);
    let report = bench(&folder, "dpo --prompts 2 --length 6 --repeat 1");
    // The last token of a candidate predicts nothing.
    assert_eq!(report["settings"]["tokens_per_epoch"], 2 * (6 + 8 * 5));
}

#[test]
fn feedback_computes_what_is_shared_once() {
    let folder = Folder::new();
    model(&folder);
    let arguments =
        "feedback --responses 4 --shared-tokens 32 --response-tokens 16 --aspect-tokens 3 --repeat 1";
    let settings = &bench(&folder, arguments)["settings"];
    assert_eq!(settings["prompt_tokens"], 4 * 3 * (32 + 16 + 3));
    let computed = settings["computed_prompt_tokens"].as_u64().unwrap();
    // The engine may compute the last token of a prompt again, to read the level.
    assert!((32 + 4 * (16 + 3 * 3)..=32 + 4 * (16 + 3 * 4)).contains(&computed), "{computed}");
}
