//! Draws one token from a row of logits.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rlrf_kernels::softmax::{logsumexp, softmax};

use crate::Sampling;

/// A scaled logit this far below the highest has probability zero in f32.
const NEGLIGIBLE: f32 = -1000.0;

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    /// Under the model's own distribution.
    pub(crate) logprob: f32,
}

/// Buffers that are reused from row to row.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    probabilities: Vec<f32>,
    candidates: Vec<u32>,
}

impl Sampler {
    /// Draws the `index`-th token of a random stream. `None` if the logits are not finite.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        stream: u64,
        index: usize,
    ) -> Option<Drawn> {
        let normaliser = logsumexp(logits);
        if !normaliser.is_finite() {
            return None;
        }
        let best = argmax(logits);
        let token = if sampling.temperature == 0.0 {
            best
        } else {
            self.temper(logits, logits[best as usize], sampling.temperature);
            let uniform = uniform(stream, index);
            if sampling.top_k == 0 && sampling.top_p == 1.0 && sampling.min_p == 0.0 {
                self.draw_from_all(uniform)
            } else {
                self.draw_from_filtered(logits, best, sampling, uniform)
            }
        };
        Some(Drawn { token, logprob: logits[token as usize] - normaliser })
    }

    fn temper(&mut self, logits: &[f32], highest: f32, temperature: f32) {
        self.probabilities.clear();
        self.probabilities
            .extend(logits.iter().map(|logit| ((logit - highest) / temperature).max(NEGLIGIBLE)));
        softmax(&mut self.probabilities);
    }

    /// Inverts the cumulative distribution in the order of token ids.
    fn draw_from_all(&self, uniform: f64) -> u32 {
        invert(self.probabilities.iter().zip(0..).map(|(&probability, token)| (token, probability)), uniform)
    }

    /// Ranks as few tokens as the filters let pass, and inverts the cumulative distribution of these by rank.
    fn draw_from_filtered(&mut self, logits: &[f32], best: u32, sampling: &Sampling, uniform: f64) -> u32 {
        let probabilities = &self.probabilities;
        let probability = |token: u32| probabilities[token as usize];
        let by_rank = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let min_probability = sampling.min_p * probability(best);
        let candidates = &mut self.candidates;
        candidates.clear();
        let mut total = 1.0;
        if sampling.top_k == 0 {
            // Tokens less probable than (1 - top_p) / vocabulary add up to less than 1 - top_p: none of them is
            // in the nucleus. Half of it leaves room for rounding.
            let nucleus_floor = (1.0 - sampling.top_p) / logits.len() as f32 * 0.5;
            let floor = nucleus_floor.max(min_probability);
            candidates.extend((0..logits.len() as u32).filter(|&token| probability(token) >= floor));
        } else {
            candidates.extend(0..logits.len() as u32);
            if sampling.top_k < candidates.len() {
                candidates.select_nth_unstable_by(sampling.top_k - 1, by_rank);
                candidates.truncate(sampling.top_k);
                candidates.sort_unstable_by(by_rank);
            }
            total = candidates.iter().map(|&token| f64::from(probability(token))).sum();
        }
        let nucleus = if sampling.top_p < 1.0 { f64::from(sampling.top_p) * total } else { f64::INFINITY };

        let (mut ranked, mut kept, mut mass) = (0, 0, 0.0);
        while kept < candidates.len() && mass < nucleus {
            if kept == ranked {
                ranked = rank_more(candidates, ranked, by_rank);
            }
            let next = probability(candidates[kept]);
            if next < min_probability {
                break;
            }
            mass += f64::from(next);
            kept += 1;
        }
        invert(candidates[..kept].iter().map(|&token| (token, probability(token))), uniform * mass)
    }
}

/// The first token at which the cumulative probability exceeds `target`; if rounding leaves none, the last one possible.
fn invert(tokens: impl Iterator<Item = (u32, f32)>, target: f64) -> u32 {
    let (mut cumulative, mut last) = (0.0, 0);
    for (token, probability) in tokens {
        if probability > 0.0 {
            cumulative += f64::from(probability);
            last = token;
            if cumulative > target {
                break;
            }
        }
    }
    last
}

/// Extends the sorted beginning of `candidates`, of length `ranked`, to about twice its length; returns the new length.
fn rank_more(
    candidates: &mut [u32],
    ranked: usize,
    by_rank: impl Fn(&u32, &u32) -> std::cmp::Ordering,
) -> usize {
    let rest = &mut candidates[ranked..];
    let more = ranked.max(64).min(rest.len());
    if more < rest.len() {
        rest.select_nth_unstable_by(more, &by_rank);
    }
    rest[..more].sort_unstable_by(by_rank);
    ranked + more
}

/// The token with the highest logit; of equal ones, the lowest id.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// The `index`-th number of a stream, in `[0, 1)`: a function of the two alone, so that it does not matter when it is drawn.
fn uniform(stream: u64, index: usize) -> f64 {
    let mut generator = ChaCha8Rng::seed_from_u64(stream);
    // Two words of 32 bits make one number.
    generator.set_word_pos(2 * index as u128);
    generator.random()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits with ties, from a small generator.
    fn some_logits(len: usize, seed: u64) -> Vec<f32> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| (generator.random_range(-40..40) as f32) / 8.0).collect()
    }

    /// The tokens that the filters keep, by their definitions and a full sort.
    fn kept_by_definition(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
        let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
        let scaled = |token: u32| f64::from(logits[token as usize]) / f64::from(sampling.temperature);
        ranked.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        if sampling.top_k > 0 {
            ranked.truncate(sampling.top_k);
        }
        let highest = scaled(ranked[0]);
        let weight = |token: u32| (scaled(token) - highest).exp();
        let total: f64 = ranked.iter().map(|&token| weight(token)).sum();
        let mut before = 0.0;
        let in_nucleus = ranked.iter().take_while(|&&token| {
            let inside = before < f64::from(sampling.top_p) * total;
            before += weight(token);
            inside
        });
        let likely = in_nucleus.filter(|&&token| weight(token) >= f64::from(sampling.min_p));
        let mut kept: Vec<u32> = likely.copied().collect();
        kept.sort_unstable();
        kept
    }

    fn supports(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
        let mut sampler = Sampler::default();
        let best = argmax(logits);
        sampler.temper(logits, logits[best as usize], sampling.temperature);
        let steps = 50_000;
        let mut drawn: Vec<u32> = (0..steps)
            .map(|step| {
                sampler.draw_from_filtered(logits, best, sampling, f64::from(step) / f64::from(steps))
            })
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    #[test]
    fn filters_keep_exactly_what_they_say() {
        let base = Sampling::default();
        let samplings = [
            Sampling { top_k: 1, ..base.clone() },
            Sampling { top_k: 7, ..base.clone() },
            Sampling { top_k: 100, temperature: 2.0, ..base.clone() },
            Sampling { top_p: 0.001, ..base.clone() },
            Sampling { top_p: 0.6, ..base.clone() },
            Sampling { top_p: 0.93, temperature: 4.0, ..base.clone() },
            Sampling { min_p: 0.07, ..base.clone() },
            Sampling { min_p: 1.0, ..base.clone() },
            Sampling { top_k: 40, top_p: 0.77, ..base.clone() },
            Sampling { top_k: 60, top_p: 0.9, min_p: 0.11, temperature: 1.5, ..base },
        ];
        for sampling in samplings {
            for (len, seed) in [(300, 1), (300, 2), (5, 3), (1, 4)] {
                let logits = some_logits(len, seed);
                assert_eq!(
                    supports(&logits, &sampling),
                    kept_by_definition(&logits, &sampling),
                    "{sampling:?} {len} {seed}"
                );
            }
        }
    }

    #[test]
    fn ranking_in_parts_is_ranking() {
        let by_rank = |a: &u32, b: &u32| (a % 97).cmp(&(b % 97)).then(a.cmp(b));
        let mut candidates: Vec<u32> = (0..1000).map(|index| index * 7919 % 1000).collect();
        let mut sorted = candidates.clone();
        sorted.sort_by(by_rank);
        let mut ranked = 0;
        while ranked < candidates.len() {
            ranked = rank_more(&mut candidates, ranked, by_rank);
            assert_eq!(candidates[..ranked], sorted[..ranked]);
        }
    }

    #[test]
    fn equal_logits_are_taken_by_id() {
        let logits = [1.0, 3.0, 3.0, 0.0, 3.0];
        let greedy = Sampling::greedy(1);
        assert_eq!(Sampler::default().draw(&logits, &greedy, 0, 0).unwrap().token, 1);
        assert_eq!(supports(&logits, &Sampling { top_k: 2, ..Sampling::default() }), [1, 2]);
    }

    #[test]
    fn logits_that_are_not_finite_are_refused() {
        let mut sampler = Sampler::default();
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(sampler.draw(&[0.0, bad, 1.0], &Sampling::default(), 0, 0), None);
        }
    }

    #[test]
    fn a_stream_is_a_function_of_its_index() {
        let forwards: Vec<f64> = (0..50).map(|index| uniform(9, index)).collect();
        let backwards: Vec<f64> = (0..50).rev().map(|index| uniform(9, index)).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
        let mut sequence = ChaCha8Rng::seed_from_u64(9);
        assert!(forwards.iter().all(|&number| number == sequence.random::<f64>()));
    }
}
