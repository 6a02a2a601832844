//! Whether a judge's probabilities mean what they say.

use rlrf_method::LEVELS;
use rlrf_method::feedback::tempered;

/// Bins of equal width that probabilities are sorted into.
pub const BINS: usize = 10;

/// Judgements whose probability lies above `low` and is at most `high`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    /// Lower bound, itself outside (but for 0).
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Judgements in the bin.
    pub count: u64,
    /// Mean probability.
    pub confidence: f64,
    /// Share that is right.
    pub accuracy: f64,
}

/// The reliability table of judgements (probability, whether right): the bins that hold any, in order.
#[must_use]
pub fn reliability(judged: &[(f64, bool)]) -> Vec<Bin> {
    let edge = |index: usize| index as f64 / BINS as f64;
    let mut bins = Vec::new();
    for index in 0..BINS {
        let (low, high) = (edge(index), edge(index + 1));
        let inside = |probability: f64| {
            (probability > low || index == 0) && (probability <= high || index + 1 == BINS)
        };
        let inside: Vec<_> = judged.iter().filter(|(probability, _)| inside(*probability)).collect();
        if inside.is_empty() {
            continue;
        }
        let count = inside.len() as f64;
        bins.push(Bin {
            low,
            high,
            count: inside.len() as u64,
            confidence: inside.iter().map(|(probability, _)| probability).sum::<f64>() / count,
            accuracy: inside.iter().filter(|(_, right)| *right).count() as f64 / count,
        });
    }
    bins
}

/// Expected calibration error (Naeini et al. 2015; Guo et al. 2017, equation 3): the mean over the judgements of how far
/// their bin's accuracy lies from its mean probability; none of no judgement.
#[must_use]
pub fn expected_calibration_error(bins: &[Bin]) -> Option<f64> {
    let total: u64 = bins.iter().map(|bin| bin.count).sum();
    let gap = |bin: &Bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs();
    (total > 0).then(|| bins.iter().map(gap).sum::<f64>() / total as f64)
}

/// Temperatures that are tried, from the least to 1 / it.
const LEAST_TEMPERATURE: f64 = 0.02;

/// The temperature under which judgements (probabilities of the levels, index of the recorded one) are most likely: what the
/// logits of the levels are to be divided by (temperature scaling, Guo et al. 2017). None of no judgement.
#[must_use]
pub fn fitted_temperature(judged: &[([f64; LEVELS], usize)]) -> Option<f64> {
    // What a judge holds impossible is as unlikely as f32 can tell.
    let floor = f64::from(f32::MIN_POSITIVE);
    let loss = |log_temperature: f64| -> f64 {
        let temperature = log_temperature.exp();
        let of = |(distribution, recorded): &([f64; LEVELS], usize)| {
            -tempered(distribution.map(|probability| probability.max(floor)), temperature)[*recorded].ln()
        };
        judged.iter().map(of).sum()
    };
    if judged.is_empty() {
        return None;
    }
    // The loss is convex in the inverse temperature, so it has one valley: golden-section search.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (LEAST_TEMPERATURE.ln(), -LEAST_TEMPERATURE.ln());
    while high - low > 1e-4 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(left) <= loss(right) {
            high = right;
        } else {
            low = left;
        }
    }
    Some(f64::midpoint(low, high).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fitted_temperature_makes_a_judge_as_sure_as_it_is_right() {
        // 0.99 sure and right 8 times of 10: the odds against each other level are 198, and should be 8.
        let judged: Vec<_> = (0..100)
            .map(|index| ([0.99, 0.005, 0.005], if index % 10 < 8 { 0 } else { 1 + index % 2 }))
            .collect();
        let temperature = fitted_temperature(&judged).unwrap();
        assert!((temperature - 198f64.ln() / 8f64.ln()).abs() < 1e-3, "{temperature}");
        assert!((tempered([0.99, 0.005, 0.005], temperature)[0] - 0.8).abs() < 1e-3);
        assert_eq!(fitted_temperature(&[]), None);
        let impossible = fitted_temperature(&[([1.0, 0.0, 0.0], 1), ([1.0, 0.0, 0.0], 0)]).unwrap();
        assert!(impossible.is_finite() && impossible > 10.0, "{impossible}");
    }

    /// scikit-learn 1.9: `calibration_curve(right, probability, n_bins=10, strategy="uniform")`.
    #[test]
    fn the_table_is_scikit_learns() {
        let probabilities = [0.05, 0.1, 0.34, 0.38, 0.55, 0.6, 0.61, 0.7, 0.93, 0.97, 0.99, 1.0];
        let right = [false, false, true, false, true, false, true, true, true, true, false, true];
        let judged: Vec<(f64, bool)> = probabilities.into_iter().zip(right).collect();
        let bins = reliability(&judged);
        let accuracies: Vec<f64> = bins.iter().map(|bin| bin.accuracy).collect();
        let confidences: Vec<f64> = bins.iter().map(|bin| bin.confidence).collect();
        let expected_accuracies = [0.0, 0.5, 0.5, 1.0, 0.75];
        let expected_confidences = [0.075, 0.36, 0.575, 0.655, 0.9725];
        let near =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(&accuracies, &expected_accuracies), "{accuracies:?}");
        assert!(near(&confidences, &expected_confidences), "{confidences:?}");
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 12);
        // The weighted mean of the gaps, from the same call.
        assert!((expected_calibration_error(&bins).unwrap() - 0.18).abs() < 1e-12);
    }

    #[test]
    fn the_error_is_0_of_probabilities_that_hold_and_their_size_where_all_is_wrong() {
        let quarter: Vec<(f64, bool)> = (0..100).map(|index| (0.75, index % 4 != 0)).collect();
        assert_eq!(expected_calibration_error(&reliability(&quarter)), Some(0.0));
        assert_eq!(expected_calibration_error(&reliability(&[(1.0, false)])), Some(1.0));
        assert_eq!(expected_calibration_error(&reliability(&[])), None);
        assert_eq!(reliability(&[(0.0, true), (1.0, true)]).len(), 2);
    }
}
