//! Levels that were given against levels that are recorded.

use rlrf_method::LEVELS;

/// Counts of recorded levels (rows) by given levels (columns).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfusionMatrix(pub [[u64; LEVELS]; LEVELS]);

impl ConfusionMatrix {
    /// Of pairs (recorded, given) of levels, 1 to [`LEVELS`].
    #[must_use]
    pub fn of(levels: impl IntoIterator<Item = (u8, u8)>) -> Self {
        let mut matrix = Self::default();
        for (recorded, given) in levels {
            matrix.0[usize::from(recorded) - 1][usize::from(given) - 1] += 1;
        }
        matrix
    }

    fn recorded(&self, level: usize) -> u64 {
        self.0[level].iter().sum()
    }

    fn given(&self, level: usize) -> u64 {
        self.0.iter().map(|row| row[level]).sum()
    }

    /// Share of the records given level `column` among those recorded at level `row`, both from 0.
    #[must_use]
    pub fn rate(&self, row: usize, column: usize) -> Option<f64> {
        share(self.0[row][column], self.recorded(row))
    }

    /// Of the records that were given a level (from 0), the share recorded at it; none if none was given it.
    #[must_use]
    pub fn precision(&self, level: usize) -> Option<f64> {
        share(self.0[level][level], self.given(level))
    }

    /// Of the records at a level (from 0), the share that was given it; none if none is at it.
    #[must_use]
    pub fn recall(&self, level: usize) -> Option<f64> {
        self.rate(level, level)
    }

    /// Cohen's kappa with quadratic weights (Cohen 1968): 1 less the mean squared distance of the levels over that of
    /// levels paired by chance. None where chance has no distance, all levels being one.
    #[must_use]
    pub fn quadratic_weighted_kappa(&self) -> Option<f64> {
        let total = (0..LEVELS).map(|level| self.recorded(level)).sum::<u64>() as f64;
        let (mut observed, mut expected) = (0.0, 0.0);
        for row in 0..LEVELS {
            for column in 0..LEVELS {
                let distance = (row.abs_diff(column) as f64).powi(2);
                observed += distance * self.0[row][column] as f64;
                expected += distance * self.recorded(row) as f64 * self.given(column) as f64 / total;
            }
        }
        (expected > 0.0).then(|| 1.0 - observed / expected)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: [u8; 12] = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3];
    const GIVEN: [u8; 12] = [1, 2, 1, 2, 2, 3, 1, 3, 3, 3, 2, 1];

    /// scikit-learn 1.9: `cohen_kappa_score(recorded, given, weights="quadratic")`, `precision_recall_fscore_support`,
    /// `confusion_matrix`.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let matrix = ConfusionMatrix::of(RECORDED.into_iter().zip(GIVEN));
        assert_eq!(matrix.0, [[2, 1, 0], [1, 2, 1], [1, 1, 3]]);
        let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-12;
        assert!(near(matrix.quadratic_weighted_kappa(), 0.5), "{:?}", matrix.quadratic_weighted_kappa());
        for (level, (precision, recall)) in
            [(0.5, 2.0 / 3.0), (0.5, 0.5), (0.75, 0.6)].into_iter().enumerate()
        {
            assert!(
                near(matrix.precision(level), precision) && near(matrix.recall(level), recall),
                "{level}"
            );
        }
        let rows: f64 = (0..LEVELS).filter_map(|column| matrix.rate(2, column)).sum();
        assert!((rows - 1.0).abs() < 1e-12);
    }

    #[test]
    fn kappa_is_1_of_equal_levels_0_of_chance_and_below_0_of_opposite_ones() {
        let kappa =
            |pairs: &[(u8, u8)]| ConfusionMatrix::of(pairs.iter().copied()).quadratic_weighted_kappa();
        assert_eq!(kappa(&[(1, 1), (2, 2), (3, 3)]), Some(1.0));
        assert_eq!(kappa(&[(1, 1), (1, 3), (3, 1), (3, 3)]), Some(0.0));
        assert_eq!(kappa(&[(1, 3), (3, 1)]), Some(-1.0));
    }

    #[test]
    fn what_nothing_tells_about_has_no_figure() {
        let one = ConfusionMatrix::of([(2, 2), (2, 2)]);
        assert_eq!((one.quadratic_weighted_kappa(), one.recall(0), one.precision(2)), (None, None, None));
        assert_eq!(ConfusionMatrix::default().quadratic_weighted_kappa(), None);
    }
}
