//! Model folders: what is read, written, refused, and never let through.

// Clippy exempts the tests themselves, not the functions that they share.
#![allow(clippy::unwrap_used)]

mod chat;
mod config;
mod folder;
mod reward;
mod tokenizer;
mod weights;

use std::path::{Path, PathBuf};

use rlrf_model::preset::SPECIAL_TOKENS;
use rlrf_model::{Model, Preset, Tokenizer};
use serde_json::{Map, Value, json};

/// A committed folder.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A byte-level tokenizer with the special tokens of a new model.
fn byte_level() -> Tokenizer {
    let texts = ["user assistant system hello hello world, how are you today?", "hello again: 12 + 34 = 46"];
    Tokenizer::train_bpe(texts.iter().map(|text| text.to_string()), 290, &SPECIAL_TOKENS).unwrap()
}

/// A Llama-2-style tokenizer: `▁` for spaces and before each run of text, bytes for unknown characters.
fn metaspace() -> Tokenizer {
    let specials = ["<unk>", "<s>", "</s>"];
    let mut tokens: Vec<String> = specials.iter().map(|token| token.to_string()).collect();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "h", "i", "[", "]", "/", "I", "N", "S", "T", "▁h", "▁hi"].map(str::to_owned));
    let vocab: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let added: Vec<Value> = (specials.iter().enumerate())
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": added,
        // Settings that must not reach the tokens: a prompt is never cut or padded silently.
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                  "vocab": vocab, "merges": [["▁", "h"], ["▁h", "i"]]},
    });
    Tokenizer::from_json(tokenizer.to_string().into_bytes()).unwrap()
}

/// A small random model.
fn model() -> Model {
    let tokenizer = byte_level();
    let config = Preset::by_name("tiny").unwrap().config(tokenizer.vocab_size()).unwrap();
    Model::new_random(config, tokenizer, 7).unwrap()
}

/// A folder with a small random model in it; its parent is removed at the end.
fn saved() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("M0");
    model().save(&folder).unwrap();
    (parent, folder)
}

/// Changes a JSON file of a folder.
fn edit(file: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut object = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut object);
    std::fs::write(file, Value::Object(object).to_string()).unwrap();
}

/// Asserts that a message names all of `parts`.
fn assert_names<T>(result: rlrf_model::Result<T>, parts: &[&str]) {
    let message = match result {
        Ok(_) => panic!("expected an error that names {parts:?}"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "`{message}` does not name `{part}`");
    }
}
