//! Seconds of each repetition, and how quiet the machine was meanwhile.

use std::time::Instant;

use anyhow::Result;

use crate::bench::arguments::Repetitions;
use crate::bench::machine::Load;

/// Measures from the end of the warm-up on.
pub(crate) struct Stopwatch {
    load: Load,
    last: Instant,
    seconds: Vec<f64>,
}

/// What a stopwatch showed.
pub(crate) struct Laps {
    /// Seconds of each repetition.
    pub(crate) seconds: Vec<f64>,
    /// Cores that other processes kept busy, where that is known.
    pub(crate) others_cores: Option<f64>,
}

impl Stopwatch {
    /// The first repetition begins now.
    pub(crate) fn start() -> Self {
        Self { load: Load::now(), last: Instant::now(), seconds: Vec::new() }
    }

    /// A repetition has ended, and the next begins.
    pub(crate) fn lap(&mut self) {
        let now = Instant::now();
        self.seconds.push((now - self.last).as_secs_f64());
        self.last = now;
    }

    /// The last repetition has ended.
    pub(crate) fn stop(self) -> Laps {
        Laps { others_cores: self.load.others_cores(), seconds: self.seconds }
    }
}

/// Times `work`, which is given the number of the repetition, counted through warm-up and measurement.
pub(crate) fn time(repetitions: &Repetitions, mut work: impl FnMut(usize) -> Result<()>) -> Result<Laps> {
    let warmup = repetitions.warmup;
    for repetition in 0..warmup {
        work(repetition)?;
    }
    let mut stopwatch = Stopwatch::start();
    for repetition in warmup..warmup + repetitions.repeat.get() {
        work(repetition)?;
        stopwatch.lap();
    }
    Ok(stopwatch.stop())
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => f64::NAN,
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
