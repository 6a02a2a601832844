//! The win rate that would be seen if both models' responses were as long.

/// Precision of the prior on the length's weight: N(0, 1), which keeps few comparisons from being explained by length alone.
const LENGTH_PRIOR: f64 = 1.0;

/// On the bias: only keeps it finite where one model wins everything.
const BIAS_PRIOR: f64 = 1e-6;

/// The length-controlled win rate of A, from `(outcome, length of A - length of B)` of each comparison, an outcome being 1
/// for a win, 0.5 for a tie and 0 for a loss. None of no comparisons.
///
/// A logistic model `P(A wins) = σ(bias + weight · tanh(z))`, with `z` the length difference over its standard deviation,
/// is fitted by penalised maximum likelihood; the win rate is its prediction at `z = 0`, `σ(bias)`. After AlpacaEval 2
/// (Dubois et al. 2024, "Length-Controlled AlpacaEval"), without its term for the difficulty of an instruction, which needs
/// verdicts on many other models.
#[must_use]
pub fn length_controlled_win_rate(comparisons: &[(f64, f64)]) -> Option<f64> {
    if comparisons.is_empty() {
        return None;
    }
    let deviation = standard_deviation(comparisons.iter().map(|(_, difference)| *difference));
    let scale = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
    let observed: Vec<(f64, f64)> =
        comparisons.iter().map(|(outcome, difference)| (*outcome, (difference * scale).tanh())).collect();
    let (mut bias, mut weight) = (0.0f64, 0.0f64);
    // Newton's method; the objective is strictly convex. Steps are bounded: far out the curvature vanishes.
    for _ in 0..100 {
        let (mut gradient_bias, mut gradient_weight) = (BIAS_PRIOR * bias, LENGTH_PRIOR * weight);
        let (mut bias_bias, mut bias_weight, mut weight_weight) = (BIAS_PRIOR, 0.0, LENGTH_PRIOR);
        for (outcome, length) in &observed {
            let predicted = logistic(bias + weight * length);
            let curvature = predicted * (1.0 - predicted);
            gradient_bias += predicted - outcome;
            gradient_weight += (predicted - outcome) * length;
            bias_bias += curvature;
            bias_weight += curvature * length;
            weight_weight += curvature * length * length;
        }
        let determinant = bias_bias * weight_weight - bias_weight * bias_weight;
        let step_bias = (weight_weight * gradient_bias - bias_weight * gradient_weight) / determinant;
        let step_weight = (bias_bias * gradient_weight - bias_weight * gradient_bias) / determinant;
        bias -= step_bias.clamp(-1.0, 1.0);
        weight -= step_weight.clamp(-1.0, 1.0);
        if step_bias.abs().max(step_weight.abs()) < 1e-9 {
            break;
        }
    }
    Some(logistic(bias))
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Of a sample; 0 of fewer than two values.
fn standard_deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    if count < 2.0 { 0.0 } else { (squares / (count - 1.0)).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sample of a judge whose preference for A has this bias and weight of length; outcomes are probabilities.
    fn sample(bias: f64, weight: f64, differences: &[f64]) -> Vec<(f64, f64)> {
        let scale = 1.0 / standard_deviation(differences.iter().copied());
        differences.iter().map(|d| (logistic(bias + weight * (d * scale).tanh()), *d)).collect()
    }

    #[test]
    fn without_a_difference_of_lengths_it_is_the_win_rate() {
        let found = length_controlled_win_rate(&[(1.0, 0.0), (1.0, 0.0), (0.5, 0.0), (0.0, 0.0)]).unwrap();
        assert!((found - 0.625).abs() < 1e-6, "{found}");
        assert_eq!(length_controlled_win_rate(&[]), None);
    }

    #[test]
    fn a_preference_for_length_is_taken_out() {
        // A is the longer one nearly always, by differing amounts, and the judge likes length.
        let differences: Vec<f64> = (0..2000).map(|i| f64::from((i * 37) % 400) - 50.0).collect();
        for bias in [-0.8f64, 0.0, 0.4] {
            let comparisons = sample(bias, 1.5, &differences);
            let raw = comparisons.iter().map(|(outcome, _)| outcome).sum::<f64>() / 2000.0;
            let found = length_controlled_win_rate(&comparisons).unwrap();
            assert!((found - logistic(bias)).abs() < 0.01, "{found} instead of {}", logistic(bias));
            assert!(raw - found > 0.1, "raw {raw}, controlled {found}");
        }
    }

    #[test]
    fn one_sided_results_stay_finite() {
        let wins: Vec<(f64, f64)> = (0..20).map(|i| (1.0, f64::from(i) - 7.0)).collect();
        assert!(length_controlled_win_rate(&wins).unwrap() > 0.99);
        let losses: Vec<(f64, f64)> = wins.iter().map(|(_, difference)| (0.0, *difference)).collect();
        assert!(length_controlled_win_rate(&losses).unwrap() < 0.01);
        // Length alone explains everything: nothing speaks for either model.
        let separated: Vec<(f64, f64)> =
            (1..=10).flat_map(|i| [(1.0, f64::from(i)), (0.0, -f64::from(i))]).collect();
        let found = length_controlled_win_rate(&separated).unwrap();
        assert!((found - 0.5).abs() < 1e-6, "{found}");
    }

    #[test]
    fn swapping_the_models_mirrors_it() {
        let comparisons = [(1.0, 30.0), (0.0, -5.0), (0.5, 12.0), (1.0, -40.0), (1.0, 3.0)];
        let swapped = comparisons.map(|(outcome, difference)| (1.0 - outcome, -difference));
        let (found, mirrored) = (
            length_controlled_win_rate(&comparisons).unwrap(),
            length_controlled_win_rate(&swapped).unwrap(),
        );
        assert!((found + mirrored - 1.0).abs() < 1e-9, "{found} {mirrored}");
    }
}
