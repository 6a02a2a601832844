//! A sample of numbers in a few figures.

use serde::{Deserialize, Serialize};

/// Mean, ends and quartiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The mean.
    pub mean: f64,
    /// The least.
    pub minimum: f64,
    /// A quarter is at most this.
    pub lower_quartile: f64,
    /// Half is at most this.
    pub median: f64,
    /// Three quarters are at most this.
    pub upper_quartile: f64,
    /// The greatest.
    pub maximum: f64,
}

impl Distribution {
    /// Of `values`; none of none. Quantiles are interpolated between the two nearest values.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let quantile = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            minimum: values[0],
            lower_quartile: quantile(0.25),
            median: quantile(0.5),
            upper_quartile: quantile(0.75),
            maximum: values[last],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.quantile([3, 1, 4, 1, 5, 9], [0.25, 0.5, 0.75])`.
    #[test]
    fn quartiles_are_numpys() {
        let found = Distribution::of(vec![3.0, 1.0, 4.0, 1.0, 5.0, 9.0]).unwrap();
        assert_eq!((found.lower_quartile, found.median, found.upper_quartile), (1.5, 3.5, 4.75));
        assert_eq!((found.minimum, found.maximum), (1.0, 9.0));
        assert!((found.mean - 23.0 / 6.0).abs() < 1e-12);
        assert_eq!(Distribution::of(vec![2.0]).unwrap().upper_quartile, 2.0);
        assert_eq!(Distribution::of(Vec::new()), None);
    }
}
