//! A sample depends on its model, prompt, sampling and stream alone.

use std::ops::ControlFlow;

use crate::common::{generate, prompt, request, stories};
use rlrf_engine::{Choice, Engine, EngineOptions, Request, Sampling};
use rlrf_model::{Model, WeightFormat};

/// Samples of prompts that partly begin alike, of all kinds of sampling and ending.
fn requests(model: &Model) -> Vec<Request> {
    let story =
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.";
    let texts = [
        format!("{story} One day, she saw a big dog."),
        format!("{story} One day, she saw a big cat. The cat was sad."),
        story.to_owned(),
        "Tom".to_owned(),
        format!("{story} One day, she saw a big dog."),
    ];
    let samplings = [
        Sampling { max_new_tokens: 90, ..Sampling::default() },
        Sampling { temperature: 0.8, top_p: 0.9, max_new_tokens: 40, ..Sampling::default() },
        Sampling { top_k: 10, stop: vec![".".into(), "!".into()], ..Sampling::default() },
        Sampling { min_p: 0.1, max_new_tokens: 120, stop: vec![" and".into()], ..Sampling::default() },
        Sampling::greedy(30),
    ];
    let choices = [None, Some(Choice { prefix: vec![426, 13, 338], options: vec![3, 5, 400] })];
    (texts.iter().zip(samplings).enumerate())
        .map(|(index, (text, sampling))| Request {
            choice: choices[index % 2].clone(),
            ..request(prompt(model, text), (0..5).map(|sample| index as u64 * 3 + sample), sampling)
        })
        .collect()
}

#[test]
fn options_of_the_engine_change_nothing() {
    let model = stories();
    let requests = requests(&model);
    let (expected, stats) = generate(&model, EngineOptions::default(), &requests);
    assert!(expected.iter().flatten().any(|generation| generation.tokens.len() > 60));
    let default = EngineOptions::default();
    let variants = [
        EngineOptions { max_rows: 1, ..default },
        EngineOptions { max_rows: 3, ..default },
        EngineOptions { max_rows: 64, ..default },
        EngineOptions { prefill_tokens: 1, ..default },
        EngineOptions { prefill_tokens: 7, ..default },
    ];
    for options in variants {
        let (generations, variant) = generate(&model, options, &requests);
        assert_eq!(generations, expected, "{options:?}");
        assert_eq!(variant.computed_prompt_tokens, stats.computed_prompt_tokens, "{options:?}");
    }
}

/// Tokens, in whole blocks, that the longest sequence takes.
fn smallest_cache(requests: &[Request]) -> usize {
    let needed = requests.iter().map(|request| {
        let choice = request.choice.as_ref().map_or(0, |choice| choice.prefix.len());
        request.prompt.len() + request.sampling.max_new_tokens + choice
    });
    needed.max().unwrap().div_ceil(16) * 16
}

#[test]
fn a_cache_too_small_for_all_changes_nothing_but_the_work() {
    let model = stories();
    let requests = requests(&model);
    let (expected, ample) = generate(&model, EngineOptions::default(), &requests);
    let smallest = smallest_cache(&requests);
    for (cache_tokens, prefill_tokens) in [(smallest, 512), (smallest + 64, 5), (2 * smallest, 40)] {
        let options = EngineOptions { cache_tokens, prefill_tokens, ..EngineOptions::default() };
        let (generations, tight) = generate(&model, options, &requests);
        assert_eq!(generations, expected, "{options:?}");
        assert!(tight.steps > ample.steps && tight.computed_prompt_tokens >= ample.computed_prompt_tokens);
        assert_eq!(tight.generated_tokens, ample.generated_tokens);
    }
}

#[test]
fn company_changes_nothing() {
    company(WeightFormat::F32);
    company(WeightFormat::Bf16);
    company(WeightFormat::Int8);
}

fn company(weights: WeightFormat) {
    let model = stories();
    let requests = requests(&model);
    let options = EngineOptions { weights, ..EngineOptions::default() };
    let (together, _) = generate(&model, options, &requests);
    for (request, expected) in requests.iter().zip(&together) {
        for (sample, stream) in request.streams.iter().enumerate() {
            let alone = Request { streams: vec![*stream], ..request.clone() };
            let (generations, _) = generate(&model, options, &[alone]);
            assert_eq!(generations[0][0], expected[sample]);
        }
    }
    let reversed: Vec<Request> = requests.iter().rev().cloned().collect();
    let (generations, _) = generate(&model, options, &reversed);
    assert!(generations.iter().rev().eq(&together));
}

#[test]
fn threads_change_nothing() {
    let model = stories();
    let requests = requests(&model);
    for weights in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8] {
        let options = EngineOptions { weights, ..EngineOptions::default() };
        let [one, two, three] = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| generate(&model, options, &requests).0)
        });
        assert_eq!(one, two);
        assert_eq!(one, three);
    }
}

/// So many samples that every thread gets requests of its own.
fn many_requests(model: &Model) -> Vec<Request> {
    let shifted = |mut request: Request, round: u64| {
        request.streams.iter_mut().for_each(|stream| *stream += 1000 * round);
        request
    };
    (0..6).flat_map(|round| requests(model).into_iter().map(move |request| shifted(request, round))).collect()
}

#[test]
fn threads_with_requests_of_their_own_change_nothing() {
    let model = stories();
    let requests = many_requests(&model);
    let with = |threads: usize, options: EngineOptions| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generate(&model, options, &requests))
    };
    let options = EngineOptions::default();
    let (expected, alone) = with(1, options);
    let smallest = smallest_cache(&requests);
    // The longest requests just fit into a third of the second cache, and not into one of the third.
    for (threads, cache_tokens) in [(2, 65_536), (3, 3 * smallest), (3, 3 * smallest - 16)] {
        let (generations, stats) = with(threads, EngineOptions { cache_tokens, ..options });
        assert_eq!(generations, expected, "{threads} {cache_tokens}");
        assert_eq!(stats.generated_tokens, alone.generated_tokens);
        assert_eq!(stats.prompt_tokens, alone.prompt_tokens);
    }
}

#[test]
fn threads_with_requests_of_their_own_stop_when_told() {
    let model = stories();
    let requests = many_requests(&model);
    let engine = Engine::new(&model, EngineOptions::default()).unwrap();
    let mut seen = 0;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let stats = pool.install(|| {
        engine.generate(&requests, &mut |_, _, _| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    assert_eq!(seen, 3);
    let (_, whole) = generate(&model, EngineOptions::default(), &requests);
    assert!(stats.unwrap().generated_tokens < whole.generated_tokens / 2);
}

#[test]
fn streams_are_independent_and_equal_streams_are_equal() {
    let model = stories();
    let sampling = Sampling { max_new_tokens: 40, ..Sampling::default() };
    let (generations, _) =
        generate(&model, EngineOptions::default(), &[request(vec![1], [7, 8, 7, 9], sampling)]);
    let [a, b, again, c] = &generations[0][..] else { panic!("four samples") };
    assert_eq!(a, again);
    assert!(a != b && b != c && a != c);
}

#[test]
fn prompts_are_computed_once() {
    let model = stories();
    let story = prompt(&model, "Once upon a time, there was a little girl named Lily. She loved to play.");
    let (whole_blocks, len) = (story.len() / 16 * 16, story.len());
    let sampling = Sampling { max_new_tokens: 20, ..Sampling::default() };
    let samples = request(story.clone(), 0..8, sampling.clone());
    let (_, stats) = generate(&model, EngineOptions::default(), std::slice::from_ref(&samples));
    assert_eq!((stats.prompt_tokens, stats.computed_prompt_tokens), (len, len));

    let longer = request([&story[..], &[338, 401, 396]].concat(), 0..8, sampling);
    let (_, stats) = generate(&model, EngineOptions::default(), &[samples, longer]);
    assert_eq!(stats.prompt_tokens, 2 * len + 3);
    assert_eq!(stats.computed_prompt_tokens, 2 * len + 3 - whole_blocks);
}
