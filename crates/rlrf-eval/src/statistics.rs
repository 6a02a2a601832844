//! How sure a number is: bootstrap intervals, and paired tests between two evaluations of the same items.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Resamples of every bootstrap.
pub const RESAMPLES: usize = 10_000;

/// Seed of every bootstrap: the same scores always have the same interval.
const SEED: u64 = 20;

/// The mean; 0 of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The 95% percentile bootstrap interval of the mean of `values` (Efron and Tibshirani 1993, chapter 13), the values
/// being one an item: the uncertainty that comes from so many items, not from another seed. Of equal values it is empty.
#[must_use]
pub fn interval(values: &[f64]) -> [f64; 2] {
    bootstrap(values.len(), |sample| {
        Some(sample.iter().map(|&item| values[item]).sum::<f64>() / sample.len() as f64)
    })
    .unwrap_or_default()
}

/// The 95% percentile bootstrap interval of any statistic of `items` items. It is given the indices of a resample, and
/// may say that the resample tells nothing; none if that, or no item, is all there is.
#[must_use]
pub fn bootstrap(items: usize, statistic: impl FnMut(&[usize]) -> Option<f64>) -> Option<[f64; 2]> {
    let mut found = resampled(items, statistic);
    found.sort_unstable_by(f64::total_cmp);
    Some([quantile(&found, 0.025)?, quantile(&found, 0.975)?])
}

/// The statistic of each of [`RESAMPLES`] resamples.
fn resampled(items: usize, mut statistic: impl FnMut(&[usize]) -> Option<f64>) -> Vec<f64> {
    let mut generator = ChaCha8Rng::seed_from_u64(SEED);
    let mut sample = vec![0; items];
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..if items == 0 { 0 } else { RESAMPLES } {
        sample.fill_with(|| generator.random_range(0..items));
        found.extend(statistic(&sample));
    }
    found
}

/// Of sorted values, interpolated between the two nearest.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}
