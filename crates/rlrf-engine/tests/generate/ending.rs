//! How texts end, and what the engine refuses.

use std::ops::ControlFlow;

use crate::common::{BOS, generate, prompt, request, stories};
use rlrf_engine::{Choice, Engine, EngineOptions, Error, FinishReason, Request, Sampling};

#[test]
fn a_stop_string_cuts_the_text_wherever_tokens_fall() {
    let model = stories();
    let full = &generate(&model, EngineOptions::default(), &[request(vec![BOS], [0], Sampling::greedy(80))])
        .0[0][0]
        .clone();
    // Every substring of a stretch of the text that first occurs there.
    let (start, end) = (28, 70);
    let mut requests = Vec::new();
    let mut places = Vec::new();
    for place in (start..end).step_by(3) {
        for len in [1, 2, 5, 11] {
            let stop = full.text[place..place + len].to_owned();
            places.push(full.text.find(&stop).unwrap());
            let sampling = Sampling { stop: vec!["never".into(), stop], ..Sampling::greedy(80) };
            requests.push(request(vec![BOS], [0], sampling));
        }
    }
    let (generations, _) = generate(&model, EngineOptions::default(), &requests);
    for (generation, place) in generations.iter().map(|samples| &samples[0]).zip(places) {
        assert_eq!(generation.finish, FinishReason::Stop);
        assert_eq!(generation.text, full.text[..place]);
        let kept = generation.tokens.len();
        assert_eq!(generation.tokens, full.tokens[..kept]);
        assert_eq!(generation.logprobs, full.logprobs[..kept]);
        // No token before the stop string is missing.
        assert!(generation.text.starts_with(&model.tokenizer.decode(&generation.tokens).unwrap()));
        assert!(model.tokenizer.decode(&full.tokens[..kept + 1]).unwrap().len() > place);
    }
}

#[test]
fn an_end_token_ends_the_text_and_its_logprob_is_kept() {
    let mut model = stories();
    let requests = [request(vec![BOS], [0], Sampling::greedy(30))];
    let full = generate(&model, EngineOptions::default(), &requests).0[0][0].clone();
    model.end_tokens = vec![full.tokens[20]];
    let place = full.tokens.iter().position(|token| *token == full.tokens[20]).unwrap();
    let generation = generate(&model, EngineOptions::default(), &requests).0[0][0].clone();
    assert_eq!(generation.finish, FinishReason::EndToken);
    assert_eq!(generation.tokens, full.tokens[..place]);
    assert_eq!(generation.logprobs, full.logprobs[..=place]);
    assert_eq!(generation.text, model.tokenizer.decode(&full.tokens[..place]).unwrap());
}

#[test]
fn the_context_ends_the_text_and_leaves_room_for_the_verdict() {
    let mut model = stories();
    model.end_tokens.clear();
    let context = model.decoder.config().max_position_embeddings;
    let long: Vec<u32> = prompt(&model, "Lily had a dog. ").into_iter().cycle().take(context - 5).collect();
    let plain = request(long.clone(), [0], Sampling::greedy(100));
    let verdict = Choice { prefix: vec![426, 13], options: vec![5, 6] };
    let judged = Request { choice: Some(verdict), ..plain.clone() };
    let exact = Request { sampling: Sampling::greedy(5), ..plain.clone() };
    let (generations, _) = generate(&model, EngineOptions::default(), &[plain, judged, exact]);
    let ends = generations.iter().map(|samples| (samples[0].tokens.len(), samples[0].finish));
    let expected = [(5, FinishReason::Context), (3, FinishReason::Context), (5, FinishReason::Length)];
    assert!(ends.eq(expected));
    assert_eq!(generations[1][0].choice.as_ref().unwrap().len(), 2);
}

#[test]
fn breaking_ends_it_all() {
    let model = stories();
    let engine = Engine::new(&model, EngineOptions { max_rows: 4, ..EngineOptions::default() }).unwrap();
    let sampling = Sampling { max_new_tokens: 10, ..Sampling::default() };
    let mut seen = 0;
    let stats = engine
        .generate(&[request(vec![BOS], 0..100, sampling)], &mut |_, _, _| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 3);
    assert!(stats.generated_tokens < 200);
}

#[test]
fn nothing_asked_is_nothing_done() {
    let model = stories();
    let (generations, stats) =
        generate(&model, EngineOptions::default(), &[request(vec![BOS], [], Sampling::default())]);
    assert!(generations[0].is_empty());
    assert_eq!(stats.steps, 0);
    assert_eq!(generate(&model, EngineOptions::default(), &[]).1.steps, 0);
}

fn refusal(options: EngineOptions, bad: Request) -> String {
    let model = stories();
    let engine = Engine::new(&model, options).unwrap();
    let good = request(vec![BOS], [0], Sampling::greedy(5));
    let error = engine.generate(&[good, bad], &mut |_, _, _| panic!("nothing is computed")).unwrap_err();
    assert!(matches!(error, Error::Request { request: 1, .. }), "{error}");
    error.to_string()
}

#[test]
fn requests_that_cannot_be_met_are_refused_with_their_index_and_lengths() {
    let default = EngineOptions::default();
    let good = request(vec![BOS, 403], [0], Sampling::greedy(20));
    let with_prompt = |prompt: Vec<u32>| Request { prompt, ..good.clone() };
    let with_sampling = |sampling: Sampling| Request { sampling, ..good.clone() };
    let with_choice = |prefix, options| Request { choice: Some(Choice { prefix, options }), ..good.clone() };
    let cases = [
        (default, with_prompt(Vec::new()), "no tokens"),
        (default, with_prompt(vec![5; 512]), "512 tokens"),
        (default, with_prompt(vec![1, 512]), "token 512"),
        (default, with_choice(vec![600], vec![1]), "token 600"),
        (default, with_choice(vec![5; 510], vec![1]), "prefix of its choice 510"),
        (default, with_choice(vec![1], vec![1, 700]), "token 700"),
        (default, with_choice(vec![1], Vec::new()), "no options"),
        (default, with_sampling(Sampling { temperature: -1.0, ..Sampling::default() }), "temperature = -1"),
        (
            default,
            with_sampling(Sampling { temperature: f32::NAN, ..Sampling::default() }),
            "temperature = NaN",
        ),
        (default, with_sampling(Sampling { top_p: 0.0, ..Sampling::default() }), "top_p = 0"),
        (default, with_sampling(Sampling { min_p: 1.5, ..Sampling::default() }), "min_p = 1.5"),
        (default, with_sampling(Sampling { stop: vec![String::new()], ..Sampling::default() }), "stop"),
        (EngineOptions { cache_tokens: 32, ..default }, with_prompt(vec![1; 13]), "need 33 tokens"),
    ];
    for (options, bad, expected) in cases {
        let message = refusal(options, bad);
        assert!(message.contains("request 1") && message.contains(expected), "{message}");
    }
    // One token less fits.
    let tight = EngineOptions { cache_tokens: 32, ..default };
    generate(&stories(), tight, &[with_prompt(vec![1; 12])]);
}

#[test]
fn options_out_of_range_are_refused() {
    let model = stories();
    let default = EngineOptions::default();
    for options in [
        EngineOptions { max_rows: 0, ..default },
        EngineOptions { cache_tokens: 15, ..default },
        EngineOptions { prefill_tokens: 0, ..default },
    ] {
        assert!(matches!(Engine::new(&model, options), Err(Error::Option { .. })));
    }
}

#[test]
fn damaged_weights_are_an_error_not_a_text() {
    let mut model = stories();
    model.decoder.parameters_mut()[5000..].fill(f32::NAN);
    let engine = Engine::new(&model, EngineOptions::default()).unwrap();
    for sampling in [Sampling::default(), Sampling::greedy(4)] {
        // One sample, and so many that every thread generates for itself.
        for samples in [1, 40] {
            let requests = [0, 1].map(|_| request(vec![BOS], 0..samples, sampling.clone()));
            let error = engine.generate(&requests, &mut |_, _, _| ControlFlow::Continue(()));
            assert!(error.unwrap_err().to_string().contains("not finite"));
        }
    }
}
