//! Advantages of the samples of one instruction: how much better each is than the others.

/// Keeps the deviation of scores that are all but equal away from 0, as in TRL.
const DEVIATION_FLOOR: f64 = 1e-4;

/// GRPO's advantages: scores less their mean, by their standard deviation (that of a sample, `n - 1`; Shao et al., 2024).
#[must_use]
pub fn standardised(scores: &[f64]) -> Vec<f64> {
    let mean = mean(scores);
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    let deviation = (squares / (scores.len().max(2) - 1) as f64).sqrt() + DEVIATION_FLOOR;
    scores.iter().map(|score| (score - mean) / deviation).collect()
}

/// RLOO's advantages: each score less the mean of the others (Kool et al., 2019; Ahmadian et al., 2024).
#[must_use]
pub fn leave_one_out(scores: &[f64]) -> Vec<f64> {
    let (sum, others) = (scores.iter().sum::<f64>(), (scores.len().max(2) - 1) as f64);
    scores.iter().map(|score| score - (sum - score) / others).collect()
}

fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_their_formulas() {
        let standardised = standardised(&[1.0, 2.0, 3.0, 2.0]);
        let deviation = (2.0f64 / 3.0).sqrt() + 1e-4;
        assert_eq!(standardised, [-1.0 / deviation, 0.0, 1.0 / deviation, 0.0]);
        assert_eq!(leave_one_out(&[1.0, 2.0, 3.0]), [-1.5, 0.0, 1.5]);
    }

    #[test]
    fn equal_scores_have_no_advantage() {
        assert_eq!(standardised(&[2.5; 3]), [0.0; 3]);
        assert_eq!(leave_one_out(&[2.5; 3]), [0.0; 3]);
    }
}
