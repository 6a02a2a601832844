//! Whole folders: round trips, atomic replacement, identity.

use std::path::Path;

use rlrf_model::folder::{clear_leftovers, write_folder};
use rlrf_model::{Adapter, ChatMessage, Error, LoraConfig, Model, Preset};
use serde_json::{Value, json};

use crate::{assert_names, byte_level, edit, fixture, model, saved};

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = (std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn assert_same(left: &Model, right: &Model) {
    assert_eq!(left.decoder.parameters(), right.decoder.parameters());
    assert_eq!(left.digest(), right.digest());
    assert_eq!((&left.end_tokens, left.tokenizer.json()), (&right.end_tokens, right.tokenizer.json()));
    let messages = [ChatMessage { role: "user", content: "hello <|im_end|> world" }];
    assert_eq!(
        left.chat.prompt(&left.tokenizer, &messages).unwrap(),
        right.chat.prompt(&right.tokenizer, &messages).unwrap()
    );
}

#[test]
fn saving_and_loading_changes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    for (name, original) in [("new", model()), ("stories", Model::load(&fixture("stories260K")).unwrap())] {
        let (first, second) = (parent.path().join(name), parent.path().join(format!("{name}-again")));
        original.save(&first).unwrap();
        let loaded = Model::load(&first).unwrap();
        assert_same(&original, &loaded);
        loaded.save(&second).unwrap();
        for file in entries(&first) {
            assert_eq!(
                std::fs::read(first.join(&file)).unwrap(),
                std::fs::read(second.join(&file)).unwrap(),
                "{file}"
            );
        }
        assert_eq!(entries(&first), entries(&second));
    }
}

#[test]
fn a_new_model_is_complete() {
    let (_parent, folder) = saved();
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(entries(&folder), expected);
    let config = json(&folder.join("config.json"));
    assert_eq!(
        (&config["architectures"], &config["model_type"]),
        (&json!(["LlamaForCausalLM"]), &json!("llama"))
    );
    assert_eq!((&config["torch_dtype"], &config["dtype"]), (&json!("float32"), &json!("float32")));
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(0), &json!(2)));
    assert_eq!(json(&folder.join("generation_config.json"))["eos_token_id"], json!([2, 0]));
    let model = model();
    assert_eq!((&model.end_tokens[..], model.chat.end_of_turn()), (&[2, 0][..], 2));
}

#[test]
fn the_digest_tells_models_apart() {
    let original = model();
    let mut changed = vec![model(), model(), model()];
    changed[0].decoder.parameters_mut()[5] += 1e-6;
    changed[1].end_tokens.push(9);
    let tokenizer = byte_level();
    let config = Preset::by_name("tiny").unwrap().config(tokenizer.vocab_size() + 1).unwrap();
    changed.push(Model::new_random(config, tokenizer, 7).unwrap());
    let (_parent, folder) = saved();
    std::fs::write(folder.join("chat_template.jinja"), format!("{} ", original.chat.source())).unwrap();
    changed[2] = Model::load(&folder).unwrap();
    for other in &changed {
        assert_ne!(original.digest(), other.digest());
    }
    assert_eq!(original.digest(), model().digest());
}

#[test]
fn end_tokens_come_from_all_places_once() {
    let (_parent, folder) = saved();
    edit(&folder.join("generation_config.json"), |object| object["eos_token_id"] = json!([7, 2]));
    edit(&folder.join("config.json"), |object| object["eos_token_id"] = json!(9));
    assert_eq!(Model::load(&folder).unwrap().end_tokens, [7, 2, 9]);
    edit(&folder.join("generation_config.json"), |object| object["eos_token_id"] = json!("</s>"));
    assert_names(Model::load(&folder), &["generation_config.json", "eos_token_id", "</s>"]);
    edit(&folder.join("generation_config.json"), |object| object["eos_token_id"] = json!(100_000));
    assert_names(Model::load(&folder), &["generation_config.json", "eos_token_id", "100000"]);
}

#[test]
fn other_files_are_carried_over() {
    let (parent, folder) = saved();
    std::fs::write(folder.join("special_tokens_map.json"), r#"{"eos_token": {"content": "<|im_end|>"}}"#)
        .unwrap();
    std::fs::write(folder.join("LICENSE"), "mine").unwrap();
    let source = Model::load(&folder).unwrap().chat.source().to_owned();
    std::fs::write(folder.join("chat_template.jinja"), &source).unwrap();
    edit(&folder.join("tokenizer_config.json"), |object| drop(object.remove("chat_template")));
    let copy = parent.path().join("copy");
    let loaded = Model::load(&folder).unwrap();
    loaded.save(&copy).unwrap();
    // What was written may be written again.
    loaded.save(&copy).unwrap();
    for file in ["special_tokens_map.json", "LICENSE", "chat_template.jinja", "tokenizer_config.json"] {
        assert_eq!(std::fs::read(folder.join(file)).unwrap(), std::fs::read(copy.join(file)).unwrap());
    }
    assert_same(&loaded, &Model::load(&copy).unwrap());
}

#[test]
fn a_tokenizer_too_large_for_the_model_is_refused() {
    let (_parent, folder) = saved();
    let larger =
        rlrf_model::Tokenizer::train_bpe(["ab ab ab".to_owned()].into_iter(), 400, &["<a>"; 1]).unwrap();
    let mut json: Value = serde_json::from_slice(larger.json()).unwrap();
    json["model"]["vocab"]["zz"] = 5000.into();
    std::fs::write(folder.join("tokenizer.json"), json.to_string()).unwrap();
    assert_names(Model::load(&folder), &["config.json", "vocab_size", "5000", "tokenizer.json"]);
}

#[test]
fn saving_replaces_a_model_whole_and_nothing_else() {
    let (parent, folder) = saved();
    std::fs::write(folder.join("stale.safetensors"), "").unwrap();
    model().save(&folder).unwrap();
    assert_eq!(entries(parent.path()), ["M0"]);
    assert!(!folder.join("stale.safetensors").exists());

    let before = entries(&folder);
    let failed = write_folder(&folder, |temporary| {
        std::fs::write(temporary.join("config.json"), "half").unwrap();
        Err(Error::Tokenizer("stopped".to_owned()))
    });
    assert_names(failed, &["stopped"]);
    assert_eq!((entries(parent.path()), entries(&folder)), (vec!["M0".to_owned()], before));
    assert_same(&model(), &Model::load(&folder).unwrap());

    // Names that a user may have chosen are the user's; those of a killed process go when they are cleared.
    for theirs in ["M0.replaced", "M0.1.partial", ".M0.mine.partial-by-rlrf"] {
        std::fs::create_dir(parent.path().join(theirs)).unwrap();
    }
    std::fs::create_dir(parent.path().join(".M0.1.partial-by-rlrf")).unwrap();
    model().save(&folder).unwrap();
    clear_leftovers(&folder).unwrap();
    assert_eq!(entries(parent.path()), [".M0.mine.partial-by-rlrf", "M0", "M0.1.partial", "M0.replaced"]);

    let foreign = parent.path().join("documents");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis"), "").unwrap();
    assert_names(model().save(&foreign), &["documents", "holds thesis, which is no part of a model"]);
    assert_eq!(entries(&foreign), ["thesis"]);
    // Nor is a model's folder replaced that holds more than the model.
    std::fs::write(folder.join("thesis"), "").unwrap();
    let before = entries(&folder);
    assert_names(model().save(&folder), &["M0", "holds thesis"]);
    assert_eq!(entries(&folder), before);
}

#[test]
fn an_interrupted_replacement_is_healed() {
    let (parent, folder) = saved();
    // Between the two renames: the old one moved away, the new one not yet in place.
    std::fs::rename(&folder, parent.path().join(".M0.replaced-by-rlrf")).unwrap();
    assert_names(
        write_folder(&folder, |_| Err(Error::Tokenizer("stopped again".to_owned()))),
        &["stopped again"],
    );
    assert_same(&model(), &Model::load(&folder).unwrap());
    // After them: only the old one's removal is missing.
    std::fs::create_dir(parent.path().join(".M0.replaced-by-rlrf")).unwrap();
    model().save(&folder).unwrap();
    assert_eq!(entries(parent.path()), ["M0"]);
    // Who only reads finds it, too.
    std::fs::rename(&folder, parent.path().join(".M0.replaced-by-rlrf")).unwrap();
    assert_same(&model(), &Model::load(&folder).unwrap());
    assert_eq!(entries(parent.path()), ["M0"]);
}

#[test]
fn unusable_folders_are_named() {
    let parent = tempfile::tempdir().unwrap();
    assert_names(Model::load(&parent.path().join("absent")), &["absent", "not a folder"]);
    let (_parent, folder) = saved();
    for file in ["config.json", "tokenizer_config.json", "generation_config.json"] {
        let whole = std::fs::read(folder.join(file)).unwrap();
        for garbage in ["", "[]", "{\"a\": ", "\u{FEFF}"] {
            std::fs::write(folder.join(file), garbage).unwrap();
            assert_names(Model::load(&folder), &[file, "JSON"]);
        }
        std::fs::write(folder.join(file), whole).unwrap();
    }
    Model::load(&folder).unwrap();
}

#[test]
fn presets_have_the_sizes_they_promise() {
    let count = |name: &str, vocab| Preset::by_name(name).unwrap().config(vocab).unwrap().parameter_count();
    assert!((30_000..90_000).contains(&count("tiny", 512)));
    assert!((1_400_000..1_800_000).contains(&count("small-2m", 1024)));
    assert!((3_800_000..4_400_000).contains(&count("word-4m", 1024)));
    // SmolLM-135M, as Hugging Face counts it.
    assert_eq!(count("smollm-135m", 49_152), 134_515_008);
    assert_names(Preset::by_name("huge"), &["huge", "tiny", "smollm-135m"]);
    assert_names(Preset::by_name("tiny").unwrap().config(0), &["tiny", "vocab_size"]);
}

#[test]
fn a_new_model_needs_the_tokens_of_its_template() {
    let tokenizer = rlrf_model::Tokenizer::train_bpe(std::iter::empty(), 300, &["<|endoftext|>"]).unwrap();
    let config = Preset::by_name("tiny").unwrap().config(300).unwrap();
    assert_names(Model::new_random(config, tokenizer, 1), &["<|im_start|>"]);
    let config = Preset::by_name("tiny").unwrap().config(10).unwrap();
    assert_names(Model::new_random(config, byte_level(), 1), &["vocab_size", "10"]);
}

/// A model with an adapter that does something, merged; and what it was before.
fn adapted(base: &Path) -> (Model, Vec<f32>) {
    let mut model = Model::load(base).unwrap();
    let before = model.decoder.parameters().to_vec();
    let mut adapter = Adapter::new(LoraConfig::default(), model.decoder.layout(), 1).unwrap();
    adapter.parameters_mut().iter_mut().for_each(|value| *value += 0.01);
    model.decoder.attach(adapter);
    model.merge_adapter();
    (model, before)
}

#[test]
fn an_adapter_is_kept_beside_the_merged_weights_and_loads_onto_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let (base, merged) = (folder.path().join("base"), folder.path().join("merged"));
    Model::load(&fixture("stories260K")).unwrap().save(&base).unwrap();
    let (model, before) = adapted(&base);
    assert_ne!(model.decoder.parameters(), before);
    model.save(&merged).unwrap();
    let read = Model::load(&merged).unwrap();
    assert_eq!(read.digest(), model.digest());
    let from_adapter = Model::load(&merged.join("adapter")).unwrap();
    assert_eq!(from_adapter.digest(), model.digest());

    // Its file names the base, wherever it is loaded from; without the base it is of no use.
    std::fs::rename(&base, folder.path().join("elsewhere")).unwrap();
    let message = Model::load(&merged.join("adapter")).unwrap_err().to_string();
    assert!(
        message.contains("adapter_config.json") && message.contains("base_model_name_or_path"),
        "{message}"
    );
}

#[test]
fn the_adapter_of_an_earlier_training_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    Model::load(&fixture("stories260K")).unwrap().save(&base).unwrap();
    let (mut model, _) = adapted(&base);
    model.merge_adapter();
    model.save(&folder.path().join("later")).unwrap();
    assert!(!folder.path().join("later/adapter").exists());
}
