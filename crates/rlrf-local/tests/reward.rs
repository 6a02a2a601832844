//! What a small reward model does with responses, in whatever company and of whatever length.

#![allow(clippy::unwrap_used, reason = "a test")]
use std::path::Path;

use rlrf_engine::EngineOptions;
use rlrf_local::{LocalPolicy, LocalReward};
use rlrf_method::Message;
use rlrf_method::seam::{Reward, RewardRequest};
use rlrf_model::{Activations, Batch, ChatMessage, Model};

/// A Llama of 260 thousand parameters and 512 tokens.
fn stories() -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlrf-model/tests/fixtures/stories260K");
    Model::load(Path::new(folder)).unwrap()
}

fn rewards(model: &Model, asked: &[(&str, &[&str])]) -> Vec<Vec<Option<f64>>> {
    let prompts: Vec<[Message; 1]> = asked.iter().map(|(prompt, _)| [Message::user(*prompt)]).collect();
    let requests: Vec<RewardRequest<'_>> = prompts
        .iter()
        .zip(asked)
        .map(|(messages, (_, responses))| RewardRequest { messages, responses: responses.to_vec() })
        .collect();
    let mut found = vec![Vec::new(); requests.len()];
    LocalReward::new(model)
        .rewards(&requests, &mut |index, rewards| {
            found[index] = rewards;
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn a_reward_is_read_at_the_end_of_turn_and_knows_no_company() {
    let model = stories().into_reward(3).unwrap();
    let (prompt, response) = ("Tell a story.", "Once upon a time, there was a cat.");
    let alone = rewards(&model, &[(prompt, &[response])])[0][0];

    let mut tokens =
        model.chat.prompt(&model.tokenizer, &[ChatMessage { role: "user", content: prompt }]).unwrap();
    tokens.extend(model.chat.response(&model.tokenizer, response).unwrap());
    assert_eq!(tokens.last(), Some(&model.chat.end_of_turn()));
    let (mut batch, mut activations) = (Batch::default(), Activations::default());
    let last = batch.push_sequence(&tokens).end - 1;
    model.decoder.forward(&batch, &mut activations).unwrap();
    let expected = model.decoder.scores(&activations, &[last])[0];
    assert!((alone.unwrap() - expected).abs() < 1e-5, "{alone:?}, not {expected}");

    let company: Vec<String> = (0..40).map(|n| format!("Another one, number {n}.")).collect();
    let mut responses: Vec<&str> = company.iter().map(String::as_str).collect();
    responses.insert(17, response);
    let others: Vec<(&str, &[&str])> =
        (0..40).map(|_| ("Hello?", &["Hi."][..])).chain([(prompt, &responses[..])]).collect();
    assert_eq!(rewards(&model, &others)[40][17], alone);
}

#[test]
fn what_does_not_fit_has_no_reward_and_ends_nothing() {
    let model = stories().into_reward(3).unwrap();
    let long = "long ".repeat(600);
    let found = rewards(&model, &[("Tell a story.", &["Once", &long, "Lily"]), (&long, &["Yes."])]);
    assert_eq!(found[0].iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(found[0][2], rewards(&model, &[("Tell a story.", &["Lily"])])[0][0]);
    assert_eq!(found[1], [None]);
}

#[test]
fn a_reward_model_is_no_policy() {
    let message = LocalPolicy::new(&stories().into_reward(3).unwrap(), EngineOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("is a reward model"), "{message}");
}
