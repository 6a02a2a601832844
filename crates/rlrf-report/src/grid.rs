//! Methods side by side over several seeds: what each gained, whether that is beyond noise, and what it cost.

use rlrf_eval::Evaluation;
use rlrf_eval::evaluation::is_headline;
use rlrf_eval::statistics::{mean, student_interval};
use serde::{Deserialize, Serialize};

use crate::summary::Summary;

/// One run of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridRun {
    /// Its method, by the name that the grid gives it.
    pub method: String,
    /// Its seed.
    pub seed: u64,
    /// Its figures; training curves and traces are left to its own report.
    pub summary: Summary,
}

/// Methods, each with its runs, as `compare.json` holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Name of the comparison.
    pub name: String,
    /// Names of the methods, in the order of the grid; the first is what the others are compared with.
    pub methods: Vec<String>,
    /// Runs that the grid will have in the end.
    pub planned: usize,
    /// The runs finished so far.
    pub runs: Vec<GridRun>,
    /// Runs finished in the same place that are not of this grid as it is now; no figure is of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<GridRun>,
}

/// A mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its 95% interval by Student's t over the seeds; none for one seed.
    pub interval: Option<[f64; 2]>,
    /// Seeds.
    pub seeds: usize,
}

impl Estimate {
    /// Of one value a seed; none of no value.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        (!values.is_empty()).then(|| Self {
            mean: mean(values),
            interval: student_interval(values),
            seeds: values.len(),
        })
    }

    /// Whether the interval leaves out zero: a difference beyond the noise of seeds.
    #[must_use]
    pub fn is_beyond_noise(&self) -> Option<bool> {
        self.interval.map(|[low, high]| low > 0.0 || high < 0.0)
    }
}

/// A set and its headline metric, measured in the runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// The set.
    pub set: String,
    /// The metric.
    pub metric: String,
}

impl Grid {
    /// The runs of one method.
    pub fn of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a GridRun> {
        self.runs.iter().filter(move |run| run.method == method)
    }

    /// The sets with their headline metrics, in the order of the first run.
    #[must_use]
    pub fn measures(&self) -> Vec<Measure> {
        let mut measures: Vec<Measure> = Vec::new();
        for evaluation in self.runs.iter().flat_map(|run| &run.summary.evaluations) {
            let headlines = evaluation.metrics.keys().filter(|m| is_headline(&evaluation.benchmark, m));
            for metric in headlines {
                let measure = Measure { set: evaluation.set.clone(), metric: metric.clone() };
                if !measures.contains(&measure) {
                    measures.push(measure);
                }
            }
        }
        measures
    }

    /// The greatest number of iterations.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        let measured = self.runs.iter().flat_map(|run| &run.summary.evaluations).map(|e| e.iteration);
        let searched = self.runs.iter().flat_map(|run| &run.summary.iterations).map(|i| i.iteration + 1);
        measured.chain(searched).max().unwrap_or_default()
    }

    /// The measure of `M_t` of a method.
    #[must_use]
    pub fn value(&self, method: &str, measure: &Measure, iteration: u32) -> Option<Estimate> {
        self.figure(method, |run| value(run, measure, iteration))
    }

    /// Change of the measure from `M_0` to `M_t`.
    #[must_use]
    pub fn change(&self, method: &str, measure: &Measure, iteration: u32) -> Option<Estimate> {
        self.figure(method, |run| Some(value(run, measure, iteration)? - value(run, measure, 0)?))
    }

    /// By how much the change of the first method is greater than that of `method`, paired by seed.
    #[must_use]
    pub fn advantage(&self, method: &str, measure: &Measure, iteration: u32) -> Option<Estimate> {
        let change = |run: &GridRun| Some(value(run, measure, iteration)? - value(run, measure, 0)?);
        let first = self.methods.first()?;
        let differences: Vec<f64> = self
            .of(method)
            .filter_map(|run| {
                let other = self.of(first).find(|other| other.seed == run.seed)?;
                Some(change(other)? - change(run)?)
            })
            .collect();
        Estimate::of(&differences)
    }

    /// Any figure of a method's runs.
    #[must_use]
    pub fn figure(&self, method: &str, figure: impl Fn(&GridRun) -> Option<f64>) -> Option<Estimate> {
        let values: Vec<f64> = self.of(method).filter_map(figure).collect();
        Estimate::of(&values)
    }
}

fn value(run: &GridRun, measure: &Measure, iteration: u32) -> Option<f64> {
    let is_it = |e: &&Evaluation| e.set == measure.set && e.iteration == iteration;
    run.summary.evaluations.iter().find(is_it)?.metrics.get(&measure.metric).copied()
}

/// What an iteration of a run found, as figures that tables show.
impl GridRun {
    fn iteration(&self, number: u32) -> Option<&rlrf_method::summary::IterationSummary> {
        self.summary.iterations.iter().find(|iteration| iteration.iteration == number)
    }

    /// Instructions that some candidate of this iteration solved; none where nobody knows what is right.
    #[must_use]
    pub fn solved(&self, iteration: u32) -> Option<f64> {
        let found = self.iteration(iteration)?;
        let solved = found.reflection.solved_by_sample + found.reflection.solved_by_refinement_only;
        found.sampled_right.map(|_| solved as f64)
    }

    /// Instructions that no sample but a refinement solved; none where nothing was refined, or nobody knows what is right.
    #[must_use]
    pub fn solved_by_refinement_only(&self, iteration: u32) -> Option<f64> {
        let found = self.iteration(iteration)?;
        (found.refined > 0 && found.sampled_right.is_some())
            .then_some(found.reflection.solved_by_refinement_only as f64)
    }

    /// Reflection gain, as a share.
    #[must_use]
    pub fn reflection_gain(&self, iteration: u32) -> Option<f64> {
        self.iteration(iteration)?.reflection.gain()
    }

    /// Candidates of all iterations.
    #[must_use]
    pub fn candidates(&self) -> Option<f64> {
        Some(self.summary.iterations.iter().map(|i| (i.sampled + i.refined) as f64).sum())
    }

    /// Tokens of all candidates.
    #[must_use]
    pub fn candidate_tokens(&self) -> Option<f64> {
        Some(self.summary.iterations.iter().map(|i| i.candidate_tokens as f64).sum())
    }

    /// Preference pairs of all iterations.
    #[must_use]
    pub fn pairs(&self) -> Option<f64> {
        Some(self.summary.iterations.iter().map(|i| i.pairs as f64).sum())
    }

    /// Judgements of all iterations.
    #[must_use]
    pub fn judgements(&self) -> Option<f64> {
        Some(self.summary.iterations.iter().map(|i| i.feedback as f64).sum())
    }

    /// Seconds of the stages that this run did itself.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        Some(self.summary.timings.iter().map(|timing| timing.seconds).sum())
    }

    /// KL(M_t || M_0), nats per response.
    #[must_use]
    pub fn kl(&self, iteration: u32) -> Option<f64> {
        self.summary.divergences.iter().find(|d| d.iteration == iteration).map(|d| d.kl)
    }

    /// Mean length of the answers of `M_t` on a set, in tokens.
    #[must_use]
    pub fn length(&self, set: &str, iteration: u32) -> Option<f64> {
        let is_it = |e: &&Evaluation| e.set == set && e.iteration == iteration;
        self.summary.evaluations.iter().find(is_it)?.metrics.get("mean_tokens").copied()
    }
}
