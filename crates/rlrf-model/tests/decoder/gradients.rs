//! The backward is the derivative of the forward, for every parameter of every family.

use crate::support::{CONTEXT, FAMILIES, Loss, VOCAB, config, decoder, noise, relative_error, tokens};
use rlrf_model::{Activations, Batch, Decoder, Error};

/// A sequence and a tree, with every row but the leaves' last one predicting.
pub(crate) fn batch() -> (Batch, Loss) {
    let (mut batch, mut loss) = (Batch::default(), Loss::default());
    let sequence = batch.push_sequence(&tokens(7, 1));
    loss.push_sequence(&batch, sequence, 1);
    let prompt = batch.push_sequence(&tokens(6, 2));
    loss.push_sequence(&batch, prompt.clone(), 2);
    for seed in [3, 4] {
        let branch = batch.push_branch(prompt.clone(), &tokens(4, seed));
        loss.push(prompt.end - 1, batch.tokens[branch.start], 0.7);
        loss.push_sequence(&batch, branch, seed);
    }
    (batch, loss)
}

#[test]
fn every_parameter_has_a_gradient() {
    let (batch, loss) = batch();
    for (architecture, tied) in FAMILIES {
        let decoder = Decoder::random(config(architecture, tied), 3).unwrap();
        let (_, gradients) = loss.run(&decoder, &batch, &mut Activations::default());
        assert!(gradients.iter().all(|gradient| gradient.is_finite()));
        for entry in decoder.layout().entries() {
            let gradient = &gradients[entry.range.clone()];
            assert!(
                gradient.iter().any(|&gradient| gradient != 0.0),
                "{architecture}, tied {tied}: {} has no gradient",
                entry.name
            );
        }
    }
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    for (architecture, tied) in FAMILIES {
        slope_is_gradient(decoder(architecture, tied), &format!("{architecture}, tied {tied}"));
    }
}

/// Central differences of fourth order along directions that mix each tensor's own gradient with noise: the
/// derivative is large beside the rounding of the loss (for k's bias only just), and every entry takes part.
pub(crate) fn slope_is_gradient(mut decoder: Decoder, case: &str) {
    let (batch, loss) = batch();
    let mut activations = Activations::default();
    let mut value = |decoder: &Decoder| -> f64 {
        decoder.forward(&batch, &mut activations).unwrap();
        let logprobs = decoder.logprobs(&mut activations, &loss.rows, &loss.targets);
        logprobs
            .iter()
            .zip(&loss.weights)
            .map(|(&logprob, &weight)| f64::from(logprob) * f64::from(weight))
            .sum()
    };
    let (_, gradients) = loss.run(&decoder, &batch, &mut Activations::default());
    let parameters = decoder.trainable().to_vec();
    for entry in decoder.trainable_entries().to_vec() {
        let gradient = &gradients[entry.range.clone()];
        for seed in 0..3 {
            let direction = direction(gradient, seed);
            let step = 5e-3;
            let mut loss_at = |step: f32| {
                let place = &mut decoder.trainable_mut()[entry.range.clone()];
                for ((place, start), direction) in
                    place.iter_mut().zip(&parameters[entry.range.clone()]).zip(&direction)
                {
                    *place = start + step * direction;
                }
                value(&decoder)
            };
            let (near, far) = (loss_at(step) - loss_at(-step), loss_at(2.0 * step) - loss_at(-2.0 * step));
            let slope = (8.0 * near - far) / (12.0 * f64::from(step));
            loss_at(0.0);
            let expected: f64 =
                gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
            assert!(
                (slope - expected).abs() < 1e-3 * expected.abs().max(0.5),
                "{case}: {}: slope {slope}, gradient {expected}",
                entry.name
            );
        }
    }
}

/// The unit vector along the gradient plus a unit vector of noise.
fn direction(gradient: &[f32], seed: u64) -> Vec<f32> {
    let unit = |values: Vec<f32>| -> Vec<f32> {
        let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.into_iter().map(|value| value / norm).collect()
    };
    let noise = unit(noise(100 + seed).take(gradient.len()).collect());
    unit(gradient.to_vec()).iter().zip(noise).map(|(gradient, noise)| gradient + 0.8 * noise).collect()
}

#[test]
fn buffers_carry_nothing_from_batch_to_batch() {
    let decoder = decoder("Qwen3ForCausalLM", true);
    let (large, large_loss) = batch();
    let (mut small, mut small_loss) = (Batch::default(), Loss::default());
    let rows = small.push_sequence(&tokens(5, 9));
    small_loss.push_sequence(&small, rows, 9);

    let mut activations = Activations::default();
    let first = large_loss.run(&decoder, &large, &mut activations);
    let fresh = small_loss.run(&decoder, &small, &mut Activations::default());
    assert_eq!(small_loss.run(&decoder, &small, &mut activations), fresh);
    assert_eq!(large_loss.run(&decoder, &large, &mut activations), first);
}

#[test]
fn gradients_add_up() {
    let decoder = decoder("LlamaForCausalLM", false);
    let (batch, loss) = batch();
    let mut activations = Activations::default();
    let (_, once) = loss.run(&decoder, &batch, &mut activations);
    let mut twice = once.clone();
    decoder.backward(&batch, &mut activations, &loss.rows, &loss.targets, &loss.weights, &mut twice);
    let expected: Vec<f32> = once.iter().map(|gradient| 2.0 * gradient).collect();
    assert!(relative_error(&twice, &expected) < 1e-6);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let decoder = decoder("Qwen2ForCausalLM", true);
    let (batch, loss) = batch();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| loss.run(&decoder, &batch, &mut Activations::default()))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_seed_fixes_the_random_parameters() {
    let random = |seed| Decoder::random(config("Qwen2ForCausalLM", false), seed).unwrap();
    let decoder = random(5);
    assert_eq!(decoder.parameters(), random(5).parameters());
    assert_ne!(decoder.parameters(), random(6).parameters());
    let layout = decoder.layout();
    let values = |name: &str| &decoder.parameters()[layout.entry(name).unwrap().range.clone()];
    assert!(values("model.norm.weight").iter().all(|&value| value == 1.0));
    assert!(values("model.layers.1.self_attn.k_proj.bias").iter().all(|&value| value == 0.0));
    let embedding = values("model.embed_tokens.weight");
    let deviation =
        (embedding.iter().map(|value| value * value).sum::<f32>() / embedding.len() as f32).sqrt();
    assert!((deviation - 0.2).abs() < 0.03, "standard deviation {deviation}");
}

#[test]
fn what_does_not_fit_the_model_is_an_error() {
    let decoder = decoder("LlamaForCausalLM", true);
    let mut activations = Activations::default();
    let mut batch = Batch::default();
    batch.push_sequence(&[0, VOCAB]);
    let error = decoder.forward(&batch, &mut activations).unwrap_err();
    assert!(matches!(error, Error::TokenOutOfRange { token: VOCAB, .. }), "{error}");
    batch.clear();
    batch.push_sequence(&vec![0; CONTEXT + 1]);
    let error = decoder.forward(&batch, &mut activations).unwrap_err();
    assert!(matches!(error, Error::PositionOutOfRange { .. }), "{error}");
    let mut parameters = decoder.parameters().to_vec();
    parameters.pop();
    let error = Decoder::from_parameters(decoder.config().clone(), parameters).unwrap_err();
    assert!(matches!(error, Error::ParameterCount { .. }), "{error}");
}
