//! What a small trained model does with prompts that its context cannot hold, and with stop strings inside tokens.

#![allow(clippy::unwrap_used, reason = "a test")]
use std::path::Path;

use rlrf_engine::EngineOptions;
use rlrf_local::{JudgeConfig, LocalJudge, LocalPolicy};
use rlrf_method::config::Sampling;
use rlrf_method::seam::{ChoiceRequest, Generated, GenerationRequest, Judge, JudgeRequest, Policy};
use rlrf_method::*;
use rlrf_model::Model;

/// A Llama of 260 thousand parameters and 512 tokens.
fn stories() -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlrf-model/tests/fixtures/stories260K");
    Model::load(Path::new(folder)).unwrap()
}

fn options() -> EngineOptions {
    EngineOptions { max_rows: 8, cache_tokens: 4096, prefill_tokens: 256, ..EngineOptions::default() }
}

fn instruction() -> Instruction {
    Instruction {
        id: "i".into(),
        messages: vec![Message::user("Tell a story.")],
        reference: None,
        answer: None,
    }
}

fn judged(judge: &mut LocalJudge<'_>, responses: &[&str]) -> Vec<Feedback> {
    let (instruction, aspects) =
        (instruction(), Aspect::read_toml("aspects.toml", aspect::DEFAULT_ASPECTS).unwrap());
    let requests: Vec<JudgeRequest<'_>> = responses
        .iter()
        .map(|response| JudgeRequest { instruction: &instruction, response, aspect: &aspects[0] })
        .collect();
    let mut feedback = vec![None; responses.len()];
    judge
        .judge(&requests, &mut |index, found| {
            assert!(feedback[index].replace(found).is_none(), "judged twice");
            Ok(())
        })
        .unwrap();
    feedback.into_iter().map(Option::unwrap).collect()
}

fn draw(policy: &mut LocalPolicy<'_>, message: &str, stop: &[&str]) -> Result<Generated> {
    let mut sampling = Sampling::greedy(24);
    sampling.stop = stop.iter().map(ToString::to_string).collect();
    let request = GenerationRequest { messages: vec![Message::user(message)], streams: vec![0], sampling };
    let mut drawn = None;
    policy.generate(&[request], &mut |_, _, generated| {
        drawn = Some(generated);
        Ok(())
    })?;
    Ok(drawn.unwrap())
}

#[test]
fn a_response_too_long_to_be_judged_fails_alone() {
    let model = stories();
    let templates = Templates::new("{{ response }} {{ aspect.name }}", template::DEFAULT_REFINE).unwrap();
    let config = JudgeConfig { max_new_tokens: 8, ..JudgeConfig::default() };
    let mut judge = LocalJudge::new(&model, &templates, &config, options()).unwrap();
    let long = "long ".repeat(600);
    let found = judged(&mut judge, &["Once", &long, "Lily"]);
    let ParseOutcome::Failed(reason) = &found[1].parse else { panic!("{:?}", found[1]) };
    assert!(reason.contains("context of 512"), "{reason}");
    assert_eq!((found[1].level, found[1].aspect_score()), (None, None));
    assert!(found[0].level.is_some() && found[2].level.is_some());
    // The others are judged as if it were not there, and by the policy's engine as by one of its own.
    let policy = LocalPolicy::new(&model, options()).unwrap();
    let mut own = LocalJudge::of_policy(&policy, &templates, &config).unwrap();
    assert_eq!(own.digest(), judge.digest());
    assert_eq!(judged(&mut own, &["Once", "Lily"]), [found[0].clone(), found[2].clone()]);
}

#[test]
fn the_policy_says_what_fits() {
    let model = stories();
    let mut policy = LocalPolicy::new(&model, options()).unwrap();
    for words in [1, 50, 100, 120, 140, 160, 600] {
        let message = "long ".repeat(words);
        let fits = policy.fits(&[Message::user(message.as_str())]).unwrap();
        match draw(&mut policy, &message, &[]) {
            Ok(_) => assert!(fits, "{words}"),
            Err(error) => {
                assert!(!fits && error.to_string().contains("prompt \"long long"), "{words}: {error}");
            }
        }
    }
    assert!(policy.fits(&instruction().messages).unwrap());
    assert!(!policy.fits(&[Message::user("long ".repeat(600))]).unwrap());
}

#[test]
fn tokens_are_kept_only_where_they_are_the_text() {
    let model = stories();
    let mut policy = LocalPolicy::new(&model, options()).unwrap();
    let free = draw(&mut policy, "Once upon", &[]).unwrap();
    assert_eq!(model.tokenizer.decode(&free.tokens).unwrap(), free.text);
    let mut inside = 0;
    for (start, _) in free.text.char_indices().skip(1) {
        let stopped = draw(&mut policy, "Once upon", &[&free.text[start..]]).unwrap();
        assert!(stopped.complete && free.text.starts_with(&stopped.text));
        if stopped.tokens.is_empty() && !stopped.text.is_empty() {
            inside += 1;
            assert_eq!(stopped.logprob, None);
        } else {
            assert_eq!(model.tokenizer.decode(&stopped.tokens).unwrap(), stopped.text);
        }
    }
    assert!(inside > 0, "no stop string began inside a token of {:?}", free.text);
}

fn chosen(policy: &mut LocalPolicy<'_>, questions: &[(&str, &[&str])]) -> Option<Vec<Vec<f64>>> {
    let requests: Vec<ChoiceRequest> = questions
        .iter()
        .map(|(question, options)| ChoiceRequest {
            messages: vec![Message::user(*question)],
            options: options.iter().map(ToString::to_string).collect(),
        })
        .collect();
    let mut found = vec![Vec::new(); questions.len()];
    let told = policy.choose(&requests, &mut |index, probabilities| {
        found[index] = probabilities;
        Ok(())
    });
    told.unwrap().then_some(found)
}

#[test]
fn options_have_probabilities_that_agree_with_what_is_drawn() {
    let model = stories();
    let mut policy = LocalPolicy::new(&model, options()).unwrap();
    let greedy = draw(&mut policy, "Once upon a", &[]).unwrap().text;
    let first = greedy.split_whitespace().next().unwrap().to_string();
    let questions: [(&str, &[&str]); 3] = [
        ("Once upon a", &[&first, "zebra"]),
        ("Once upon a", &["zebra", &first]),
        ("The dog was", &["True", "False", "9"]),
    ];
    let found = chosen(&mut policy, &questions).unwrap();
    assert!(found.iter().all(|probabilities| (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5));
    assert!(found[0][0] > 0.5, "{first:?}: {found:?}");
    assert_eq!((found[0][0], found[0][1]), (found[1][1], found[1][0]), "in the order of the options");
    assert_eq!(found[2].len(), 3);
}

#[test]
fn options_that_no_single_step_tells_apart_are_not_told() {
    let model = stories();
    let mut policy = LocalPolicy::new(&model, options()).unwrap();
    assert_eq!(chosen(&mut policy, &[("Once", &["one", "one"])]), None);
    assert_eq!(chosen(&mut policy, &[("Once", &["one"])]), None);
    let three: &[&str] = &["xylophone", "xylophone player", "zoo"];
    assert!(chosen(&mut policy, &[("Once", &three[..2])]).is_some());
    assert_eq!(chosen(&mut policy, &[("Once", three)]), None, "the first two begin alike");
}
