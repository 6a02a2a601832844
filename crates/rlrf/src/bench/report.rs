//! What a measurement says, with all that it depends on.

use serde_json::{Value, json};

use crate::bench::arguments::{Precision, Subject};
use crate::bench::machine;
use crate::bench::stopwatch::{Laps, median};

/// One measurement.
pub(crate) struct Report {
    workload: &'static str,
    model: String,
    precision: Precision,
    unit: &'static str,
    rate: f64,
    laps: Laps,
    settings: Value,
    details: Value,
    peak_rss_mib: Option<f64>,
}

impl Report {
    /// A measurement in which each repetition did `amount` of `unit` (without its "per second").
    pub(crate) fn new(
        workload: &'static str,
        subject: &Subject,
        (amount, unit): (f64, &'static str),
        laps: Laps,
        settings: Value,
    ) -> Self {
        Self {
            workload,
            model: subject.model.display().to_string(),
            precision: subject.precision,
            unit,
            rate: amount / median(&laps.seconds),
            laps,
            settings,
            details: Value::Null,
            peak_rss_mib: machine::peak_rss_mib(),
        }
    }

    /// The same, with more to tell.
    pub(crate) fn with_details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// For machines; rates and memory under the names that the scripts in `bench/peers` use, too.
    pub(crate) fn json(&self) -> Value {
        json!({
            "workload": self.workload,
            "software": concat!("rlrf ", env!("CARGO_PKG_VERSION")),
            "model": self.model,
            "precision": self.precision,
            "unit": format!("{}/s", self.unit),
            "rate": self.rate,
            "seconds": self.laps.seconds,
            "seconds_median": median(&self.laps.seconds),
            "peak_rss_mib": self.peak_rss_mib,
            "threads": rayon::current_num_threads(),
            "cpu": machine::cpu_model(),
            "others_cores": self.laps.others_cores,
            "settings": self.settings,
            "details": self.details,
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let Self { workload, rate, unit, .. } = self;
        let mut lines = vec![format!(
            "{workload}: {rate:.1} {unit}/s; {:.3} s a repetition, median of {}, on {} threads",
            median(&self.laps.seconds),
            self.laps.seconds.len(),
            rayon::current_num_threads()
        )];
        if let Some(peak) = self.peak_rss_mib {
            lines.push(format!("peak memory: {peak:.0} MiB"));
        }
        if let Some(others) = self.laps.others_cores {
            lines.push(format!("other processes kept {others:.2} cores busy meanwhile"));
        }
        for row in self.details.as_array().into_iter().flatten() {
            lines.push(row.to_string());
        }
        lines.join("\n")
    }
}
