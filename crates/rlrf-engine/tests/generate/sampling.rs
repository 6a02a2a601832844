//! Frequencies of drawn tokens against the distribution that the options ask for.

use crate::common::{generate, logits_after, prompt, request, stories};
use rlrf_engine::{EngineOptions, Sampling};

const SAMPLES: u64 = 4000;

/// The distribution by the definition: each filter in turn, by a full sort.
fn distribution(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit / sampling.temperature)).collect();
    let highest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut ranked: Vec<(usize, f64)> =
        scaled.iter().map(|logit| (logit - highest).exp()).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    let mut before = 0.0;
    ranked.retain(|(_, weight)| {
        let keep = before < f64::from(sampling.top_p) * total;
        before += weight;
        keep
    });
    ranked.retain(|(_, weight)| *weight >= f64::from(sampling.min_p));
    let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
    let mut probabilities = vec![0.0; logits.len()];
    for (token, weight) in ranked {
        probabilities[token] = weight / total;
    }
    probabilities
}

#[test]
fn frequencies_follow_the_distribution() {
    let model = stories();
    let prompt = prompt(&model, "Once upon a time, there was a little girl");
    let logits = logits_after(&model, &prompt);
    let base = Sampling { max_new_tokens: 1, ..Sampling::default() };
    let samplings = [
        base.clone(),
        Sampling { temperature: 2.0, ..base.clone() },
        Sampling { temperature: 3.0, top_k: 12, ..base.clone() },
        Sampling { temperature: 3.0, top_p: 0.7, ..base.clone() },
        Sampling { temperature: 3.0, min_p: 0.05, ..base.clone() },
        Sampling { temperature: 3.0, top_k: 100, top_p: 0.8, min_p: 0.02, ..base },
    ];
    for sampling in samplings {
        let expected = distribution(&logits, &sampling);
        let requests = [request(prompt.clone(), 0..SAMPLES, sampling.clone())];
        let (generations, _) = generate(&model, EngineOptions::default(), &requests);
        let mut counts = vec![0.0; expected.len()];
        for generation in &generations[0] {
            // A drawn end token is not among the tokens.
            counts[generation.tokens.first().copied().unwrap_or(2) as usize] += 1.0;
        }
        let (mut statistic, mut bins, mut rare) = (0.0, 0.0, (0.0, 0.0));
        for (count, probability) in counts.iter().zip(&expected) {
            assert!(*probability > 0.0 || *count == 0.0, "{sampling:?}: drawn outside of the support");
            let mean = probability * SAMPLES as f64;
            if mean < 5.0 {
                rare = (rare.0 + count, rare.1 + mean);
            } else {
                statistic += (count - mean) * (count - mean) / mean;
                bins += 1.0;
            }
        }
        assert!(bins > 2.0, "{sampling:?}: too peaked to tell");
        if rare.1 > 5.0 {
            statistic += (rare.0 - rare.1) * (rare.0 - rare.1) / rare.1;
            bins += 1.0;
        }
        let freedom: f64 = bins - 1.0;
        assert!(
            statistic < freedom + 4.0 * (2.0 * freedom).sqrt(),
            "{sampling:?}: {statistic} over {freedom}"
        );
    }
}

#[test]
fn a_vanishing_temperature_is_greedy() {
    let model = stories();
    let prompt = prompt(&model, "Lily");
    let cold = Sampling { temperature: 1e-30, ..Sampling::greedy(40) };
    let colder_than_filters = Sampling { top_k: 3, top_p: 0.5, min_p: 0.5, ..cold.clone() };
    let requests = [cold, colder_than_filters, Sampling::greedy(40)]
        .map(|sampling| request(prompt.clone(), [11], sampling));
    let (generations, _) = generate(&model, EngineOptions::default(), &requests);
    assert_eq!(generations[0], generations[2]);
    assert_eq!(generations[1], generations[2]);
}
