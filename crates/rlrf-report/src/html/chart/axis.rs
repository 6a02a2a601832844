//! A linear axis with round ticks.

use crate::figure::decimal;

/// Far beyond every metric, and far from where differences overflow.
const LARGEST: f64 = 1e100;

/// Values from `low` to `high`, ticks at multiples of `step`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Axis {
    /// The smallest axis with round ends that holds all `values`; they must be finite.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = values
            .map(|value| value.clamp(-LARGEST, LARGEST))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // A constant needs some room about it, more than its own rounding.
        let size = low.abs().max(high.abs());
        if high - low <= 1e-9 * size || high == low {
            let room = if size > 1.0 / LARGEST { size * 0.1 } else { 1.0 };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / 4.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// From `low` to `high`, ticks `step` apart.
    pub(super) fn fixed(low: f64, high: f64, step: f64) -> Self {
        Self { low, high, step }
    }

    /// Where `value` lies, 0 at `low` and 1 at `high`; what lies beyond is drawn at the edge.
    pub(super) fn place(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// The ticks.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|index| self.low + self.step * index as f64).collect()
    }

    /// A tick with as many decimals as the step has.
    pub(super) fn label(&self, value: f64) -> String {
        if self.high.abs().max(self.low.abs()) >= 1e6 || self.step < 1e-4 {
            return format!("{value:.1e}");
        }
        decimal(value, (-self.step.log10().floor()).max(0.0) as usize)
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::around(values.iter().copied());
        axis.ticks().into_iter().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&[0.0, 0.47]), ["0.0", "0.2", "0.4", "0.6"]);
        assert_eq!(labels(&[-12.0, 81.0]), ["-50", "0", "50", "100"]);
        assert_eq!(labels(&[0.61, 0.69]), ["0.60", "0.62", "0.64", "0.66", "0.68", "0.70"]);
        assert_eq!(labels(&[1.0, 9.0]), ["0", "2", "4", "6", "8", "10"]);
    }

    #[test]
    fn any_values_have_an_axis() {
        for values in [
            &[][..],
            &[0.0],
            &[5.0],
            &[-3e-8],
            &[1e12, 1e12 + 1e-4],
            &[f64::MAX, f64::MIN],
            &[5e-324],
            &[2.0, 2.0],
        ] {
            let axis = Axis::around(values.iter().copied());
            assert!(axis.low < axis.high, "{values:?}: {axis:?}");
            assert!((2..=8).contains(&axis.ticks().len()), "{values:?}: {axis:?}");
            for value in values {
                assert!((0.0..=1.0).contains(&axis.place(*value)), "{values:?}: {axis:?}");
            }
        }
    }
}
