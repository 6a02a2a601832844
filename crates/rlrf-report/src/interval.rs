//! Confidence intervals of shares.

/// The 97.5% quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95% score interval of `correct / total` (Wilson 1927), within `[0, 1]`.
///
/// Unlike the normal approximation it stays sensible for few problems and for shares near 0 and 1. No problems tell
/// nothing: the interval is then `(0, 1)`. More right answers than problems are taken as all right.
#[must_use]
pub fn wilson_interval(correct: u64, total: u64) -> (f64, f64) {
    if total == 0 {
        return (0.0, 1.0);
    }
    let n = total as f64;
    let share = correct.min(total) as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let center = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding must not push the bound past the share itself at 0 and 1.
    ((center - half).clamp(0.0, share), (center + half).clamp(share, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of statsmodels' `proportion_confint(correct, total, method="wilson")`; 81 of 263 is Newcombe's
    /// example (1998, table I), and so are 15 of 148, 0 of 20 and 1 of 29.
    #[test]
    fn known_values() {
        for (correct, total, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (50, 100, 0.4038, 0.5962),
            (20, 20, 0.8389, 1.0),
        ] {
            let (found_low, found_high) = wilson_interval(correct, total);
            assert!((found_low - low).abs() < 5e-5, "{correct}/{total}: low {found_low}, expected {low}");
            assert!(
                (found_high - high).abs() < 5e-5,
                "{correct}/{total}: high {found_high}, expected {high}"
            );
        }
    }

    #[test]
    fn edges() {
        assert_eq!(wilson_interval(0, 0), (0.0, 1.0));
        assert_eq!(wilson_interval(7, 3), wilson_interval(3, 3));
        assert_eq!(wilson_interval(0, 5).0, 0.0);
        assert_eq!(wilson_interval(5, 5).1, 1.0);
    }
}
