//! The engine against the decoder without a cache, and against llama2.c.

use crate::common::{BOS, generate, logits_after, prompt, random_model, request, stories, stories_folder};
use rlrf_engine::{Choice, EngineOptions, FinishReason, Generation, Sampling};
use rlrf_model::{Activations, Batch, Model};

fn argmax(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

fn greedy_without_cache(model: &Model, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        tokens.push(argmax(&logits_after(model, &tokens)));
    }
    tokens.split_off(prompt.len())
}

fn assert_logprobs_match_the_decoder(model: &Model, prompt: &[u32], generation: &Generation) {
    assert_eq!(generation.logprobs.len(), generation.tokens.len());
    let tokens = [prompt, &generation.tokens].concat();
    let mut batch = Batch::default();
    batch.push_sequence(&tokens);
    let mut activations = Activations::default();
    model.decoder.forward(&batch, &mut activations).unwrap();
    let rows: Vec<usize> = (prompt.len() - 1..tokens.len() - 1).collect();
    let expected = model.decoder.logprobs(&mut activations, &rows, &generation.tokens);
    // Two orders of summation in f32: the rarest tokens differ most.
    let differences: Vec<f32> =
        generation.logprobs.iter().zip(&expected).map(|(ours, theirs)| (ours - theirs).abs()).collect();
    assert!(differences.iter().all(|difference| *difference < 5e-5), "{differences:?}");
    assert!(differences.iter().sum::<f32>() / (differences.len() as f32) < 1e-5, "{differences:?}");
}

/// `./run stories260K.bin -t 0 -n 200`: 200 steps from the begin-of-sequence token.
#[test]
fn stories_are_those_of_llama2_c() {
    let model = stories();
    let expected = std::fs::read_to_string(stories_folder().join("expected_greedy_200.txt")).unwrap();
    let requests = [request(vec![BOS], [0], Sampling::greedy(200))];
    let (generations, stats) = generate(&model, EngineOptions::default(), &requests);
    assert_eq!(generations[0][0].text, expected.trim_end());
    assert_eq!(generations[0][0].finish, FinishReason::Length);
    assert_eq!((stats.generated_tokens, stats.steps), (200, 200));
}

#[test]
fn greedy_decoding_equals_the_decoder_without_a_cache() {
    let model = stories();
    let prompts = ["Once upon a time", "Lily and Tom", ""].map(|text| prompt(&model, text));
    let requests = prompts.clone().map(|prompt| request(prompt, [0], Sampling::greedy(60)));
    let options = EngineOptions { prefill_tokens: 4, ..EngineOptions::default() };
    let (generations, _) = generate(&model, options, &requests);
    for (prompt, samples) in prompts.iter().zip(&generations) {
        assert_eq!(samples[0].tokens, greedy_without_cache(&model, prompt, 60));
        assert_logprobs_match_the_decoder(&model, prompt, &samples[0]);
    }
}

#[test]
fn other_families_and_the_sliding_window_decode_as_they_train() {
    let sizes = serde_json::json!({
        "vocab_size": 512, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 128, "initializer_range": 0.6,
    });
    let families = [
        ("LlamaForCausalLM", None),
        ("MistralForCausalLM", Some(7)),
        ("Qwen2ForCausalLM", None),
        ("Qwen3ForCausalLM", None),
    ];
    for (family, window) in families {
        let mut fields = sizes.clone();
        fields["architectures"] = serde_json::json!([family]);
        fields["sliding_window"] = serde_json::json!(window);
        let mut model = random_model(fields, 5);
        model.end_tokens.clear();
        assert_eq!(model.decoder.config().sliding_window, window);
        let prompt: Vec<u32> = (0..30).map(|index| index * index % 512).collect();
        let requests = [request(prompt.clone(), [0], Sampling::greedy(40))];
        let (generations, _) = generate(&model, EngineOptions::default(), &requests);
        assert_eq!(generations[0][0].tokens, greedy_without_cache(&model, &prompt, 40), "{family}");
        assert_logprobs_match_the_decoder(&model, &prompt, &generations[0][0]);
    }
}

#[test]
fn logprobs_are_the_models_own_whatever_the_sampling() {
    let mut model = stories();
    model.end_tokens.clear();
    let prompt = prompt(&model, "The dog");
    let sampling = Sampling {
        temperature: 0.7,
        top_p: 0.9,
        top_k: 20,
        min_p: 0.01,
        max_new_tokens: 50,
        ..Sampling::default()
    };
    let requests = [request(prompt.clone(), 0..6, sampling)];
    let (generations, _) = generate(&model, EngineOptions::default(), &requests);
    for generation in &generations[0] {
        assert_logprobs_match_the_decoder(&model, &prompt, generation);
    }
}

/// A verdict is the softmax over the options after prompt, kept text and forced prefix, however the text ended.
#[test]
fn choices_equal_the_decoders_own_distribution() {
    let model = stories();
    let prompt = prompt(&model, "Once upon a time");
    let forced = model.tokenizer.encode(" She said").unwrap();
    let options = vec![5, 400, 431, 13];
    let stopped = Sampling { stop: vec![" named Lily. She loved".into()], ..Sampling::greedy(100) };
    let cases = [
        (Sampling::greedy(37), forced.clone(), FinishReason::Length),
        (Sampling::greedy(37), Vec::new(), FinishReason::Length),
        (Sampling::greedy(0), forced.clone(), FinishReason::Length),
        (Sampling::greedy(0), Vec::new(), FinishReason::Length),
        (stopped.clone(), forced.clone(), FinishReason::Stop),
        (stopped, Vec::new(), FinishReason::Stop),
    ];
    for (sampling, prefix, finish) in cases {
        let mut request = request(prompt.clone(), [1, 2], sampling);
        request.choice = Some(Choice { prefix: prefix.clone(), options: options.clone() });
        let (generations, _) = generate(&model, EngineOptions::default(), &[request]);
        for generation in &generations[0] {
            assert_eq!(generation.finish, finish);
            let logits = logits_after(&model, &[&prompt[..], &generation.tokens, &prefix].concat());
            let weights = options.iter().map(|&option| f64::from(logits[option as usize]).exp());
            let total: f64 = weights.clone().sum();
            let probabilities = generation.choice.as_ref().unwrap();
            for (ours, weight) in probabilities.iter().zip(weights) {
                assert!((f64::from(*ours) - weight / total).abs() < 1e-5, "{ours} {}", weight / total);
            }
        }
    }
}
