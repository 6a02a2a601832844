//! The learning rate over a run: linear warm-up, then constant, linear or cosine decay.
//!
//! Same values as transformers' `get_cosine_schedule_with_warmup` and its relatives; in particular, with any
//! warm-up the first step has learning rate 0.

use serde::{Deserialize, Serialize};

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleShape {
    /// Stays at the peak.
    Constant,
    /// Straight line to the floor.
    Linear,
    /// Half a cosine to the floor.
    Cosine,
}

/// A schedule of `total_steps` steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub shape: ScheduleShape,
    /// The learning rate at the end of the warm-up.
    pub peak: f64,
    /// Fraction of the peak at which the decay ends.
    pub floor: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of the update number `step`, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / decay_steps as f64).min(1.0);
        let factor = match self.shape {
            ScheduleShape::Constant => return self.peak,
            ScheduleShape::Linear => 1.0 - progress,
            ScheduleShape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: ScheduleShape, floor: f64) -> Schedule {
        Schedule { shape, peak: 2.0, floor, warmup_steps: 4, total_steps: 12 }
    }

    #[test]
    fn warms_up_from_zero_and_decays_to_the_floor() {
        let cosine = schedule(ScheduleShape::Cosine, 0.0);
        let rates: Vec<f64> = [0, 1, 4, 8, 12, 20].iter().map(|&step| cosine.learning_rate(step)).collect();
        for (rate, expected) in rates.iter().zip([0.0, 0.5, 2.0, 1.0, 0.0, 0.0]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
        assert!((schedule(ScheduleShape::Cosine, 0.1).learning_rate(12) - 0.2).abs() < 1e-12);
        assert!((schedule(ScheduleShape::Linear, 0.0).learning_rate(6) - 1.5).abs() < 1e-12);
        assert_eq!(schedule(ScheduleShape::Constant, 0.0).learning_rate(11), 2.0);
    }
}
