//! Reward models as folders: made from language models, told apart from them.

use rlrf_model::Model;
use serde_json::{Value, json};

use crate::{assert_names, edit, fixture, model, saved};

#[test]
fn a_reward_model_is_a_sequence_classifier_of_one_label() {
    let parent = tempfile::tempdir().unwrap();
    for (name, language) in [("new", model()), ("stories", Model::load(&fixture("stories260K")).unwrap())] {
        let end_of_turn = language.chat.end_of_turn();
        let reward = language.into_reward(3).unwrap();
        let folder = parent.path().join(name);
        reward.save(&folder).unwrap();
        let loaded = Model::load_reward(&folder).unwrap();
        assert_eq!((loaded.digest(), loaded.is_reward()), (reward.digest(), true));
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["architectures"], json!(["LlamaForSequenceClassification"]));
        assert_eq!((&config["num_labels"], &config["id2label"]), (&json!(1), &json!({"0": "LABEL_0"})));
        // Where the two were one token, transformers would read the score one token early.
        assert!(config["pad_token_id"].is_u64() && config["pad_token_id"] != end_of_turn);
        // As it is: no other head.
        assert_eq!(loaded.into_reward(4).unwrap().digest(), reward.digest());
    }
}

#[test]
fn the_two_kinds_are_told_apart() {
    let (_parent, folder) = saved();
    assert_names(
        Model::load_reward(&folder),
        &["config.json: field `architectures`", "is a language model (LlamaForCausalLM), not a reward model"],
    );
    let reward = folder.with_file_name("reward");
    model().into_reward(1).unwrap().save(&reward).unwrap();
    assert_names(
        Model::load(&reward),
        &["config.json: field `architectures`", "is a reward model (LlamaForSequenceClassification)"],
    );
    assert!(Model::load_any(&reward).unwrap().is_reward() && !Model::load_any(&folder).unwrap().is_reward());
}

#[test]
fn a_classifier_of_other_labels_is_refused() {
    let reward = tempfile::tempdir().unwrap();
    let folder = reward.path().join("reward");
    model().into_reward(1).unwrap().save(&folder).unwrap();
    let config = folder.join("config.json");
    let refuse = |parts: &[&str]| assert_names(Model::load_reward(&folder), parts);
    edit(&config, |fields| drop(fields.insert("id2label".into(), json!({"0": "bad", "1": "good"}))));
    refuse(&["config.json: field `id2label`", "2 labels", "num_labels = 1"]);
    edit(&config, |fields| drop(fields.remove("id2label")));
    Model::load_reward(&folder).unwrap();
    edit(&config, |fields| drop(fields.remove("num_labels")));
    refuse(&["config.json: field `num_labels`", "2 labels"]);
    edit(&config, |fields| drop(fields.insert("id2label".into(), json!(1))));
    refuse(&["config.json: field `id2label`", "expected an object of label names, found 1"]);
}
