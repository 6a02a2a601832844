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

/// The 97.5% quantiles of Student's t distribution for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604,
    2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555,
    2.0518, 2.0484, 2.0452, 2.0423,
];

/// The 95% interval of the mean of a few independent values, such as one a seed, by Student's t distribution; none of
/// fewer than two. Beyond 31 values the normal distribution's quantile stands in, 0.08 too small at most.
#[must_use]
pub fn student_interval(values: &[f64]) -> Option<[f64; 2]> {
    let freedom = values.len().checked_sub(1).filter(|&freedom| freedom > 0)?;
    let mean = mean(values);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom as f64;
    let quantile = STUDENT.get(freedom - 1).copied().unwrap_or(1.96);
    let half = quantile * (variance / values.len() as f64).sqrt();
    Some([mean - half, mean + half])
}

/// The two-sided p-value of McNemar's exact test: of `n = first + second` items on which two evaluations disagree, the
/// chance of a split at least as uneven as this one if each were as likely to be the better. 1 without disagreement.
#[must_use]
pub fn mcnemar(first: u64, second: u64) -> f64 {
    let (total, fewer) = (first + second, first.min(second));
    // The logarithm of C(n, i) / 2^n, from one i to the next.
    let mut log_term = -(total as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for i in 0..=fewer {
        tail += log_term.exp();
        log_term += ((total - i) as f64 / (i + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The mean of paired differences with its 95% interval and two-sided p-value, all by bootstrap over the pairs.
#[must_use]
pub fn paired(differences: &[f64]) -> Option<([f64; 2], f64)> {
    let mean_of = |sample: &[usize]| {
        Some(sample.iter().map(|&item| differences[item]).sum::<f64>() / sample.len() as f64)
    };
    let mut found = resampled(differences.len(), mean_of);
    found.sort_unstable_by(f64::total_cmp);
    let below = found.iter().filter(|&&mean| mean <= 0.0).count();
    let above = found.iter().filter(|&&mean| mean >= 0.0).count();
    let p = 2.0 * (below.min(above) + 1) as f64 / (found.len() + 1) as f64;
    Some(([quantile(&found, 0.025)?, quantile(&found, 0.975)?], p.min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_seeds_have_a_wide_interval() {
        // R: t.test(c(1, 2, 4))$conf.int
        let [low, high] = student_interval(&[1.0, 2.0, 4.0]).unwrap();
        assert!((low + 1.461_250).abs() < 1e-4 && (high - 6.127_917).abs() < 1e-4, "{low} {high}");
        assert_eq!(student_interval(&[3.0, 3.0]), Some([3.0, 3.0]));
        assert_eq!(student_interval(&[3.0]), None);
    }

    /// The mean of 40 right in 100 resampled is binomial: its quantiles are 31 and 50 of 100 (scipy's
    /// `binom.ppf([0.025, 0.975], 100, 0.4)`).
    #[test]
    fn the_interval_of_a_share_is_that_of_the_binomial() {
        let values: Vec<f64> = (0..100).map(|item| f64::from(u8::from(item < 40))).collect();
        let [low, high] = interval(&values);
        assert!((low - 0.31).abs() < 0.011 && (high - 0.50).abs() < 0.011, "{low} {high}");
        assert_eq!(interval(&values), [low, high], "the same scores, the same interval");
    }

    #[test]
    fn the_interval_of_a_mean_is_the_normal_one_for_many_items() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let [low, high] = interval(&values);
        let half = 1.96 * 288.67 / 1000f64.sqrt();
        assert!((low - (499.5 - half)).abs() < 1.0 && (high - (499.5 + half)).abs() < 1.0, "{low} {high}");
        assert_eq!(interval(&[2.5]), [2.5, 2.5]);
        assert_eq!(bootstrap(0, |_| Some(1.0)), None);
        assert_eq!(bootstrap(3, |_| None), None);
    }

    /// R's `binom.test(min, n)$p.value`, and sums by hand.
    #[test]
    fn mcnemar_is_exact() {
        for (first, second, expected) in [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (0, 5, 0.0625),
            (1, 9, 0.021_484_375),
            (5, 5, 1.0),
            (2, 10, 0.038_574_218_75),
        ] {
            assert!(
                (mcnemar(first, second) - expected).abs() < 1e-12,
                "{first} {second}: {}",
                mcnemar(first, second)
            );
            assert_eq!(mcnemar(first, second), mcnemar(second, first));
        }
        assert!(mcnemar(4000, 6000) < 1e-80 && mcnemar(50_000, 50_000) == 1.0);
    }

    #[test]
    fn paired_differences_are_sure_where_they_all_agree() {
        let (interval, p) = paired(&[1.0; 20]).unwrap();
        assert!(interval == [1.0, 1.0] && p < 0.001, "{interval:?} {p}");
        let balanced: Vec<f64> = (0..100).map(|item| if item % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let ([low, high], p) = paired(&balanced).unwrap();
        assert!(low < 0.0 && high > 0.0 && p > 0.8, "{low} {high} {p}");
        assert!(paired(&[]).is_none());
    }
}
