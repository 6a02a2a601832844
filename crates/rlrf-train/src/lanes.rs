//! How the microbatches of a step pass through the model: one after the other with all threads or, where little is trained (a small
//! model, adapters) or nothing, in two lanes at once: threads then wait less for each other, and one whose lane is done helps the other.

use std::ops::Range;

use rlrf_kernels::gradients::add_and_clear;
use rlrf_model::{Activations, Computation, Precision};

use crate::Result;
use crate::optimizer::zeros;
use crate::packing::pack;

/// Trained parameters up to which a second lane's gradients cost little.
const FEW: usize = 8 << 20;

/// Buffers for microbatches, reused from step to step.
#[derive(Debug)]
pub struct Lanes {
    budget: usize,
    /// Of each lane.
    activations: [Activations; 2],
    /// Of the second lane; zero between steps.
    gradients: Vec<f32>,
}

impl Lanes {
    /// At most about `tokens_per_microbatch` tokens pass through the model at once, both lanes together.
    pub fn new(computation: Computation, tokens_per_microbatch: usize) -> Self {
        let activations = || Activations::new(computation);
        Self {
            budget: tokens_per_microbatch,
            activations: [activations(), activations()],
            gradients: Vec::new(),
        }
    }

    /// Tokens that pass through the model at once at most, a single larger tree aside.
    pub fn tokens_per_microbatch(&self) -> usize {
        self.budget
    }

    /// Buffers for a pass that has no gradients.
    pub fn activations(&mut self) -> &mut Activations {
        &mut self.activations[0]
    }

    /// Cuts a list of trees of these `rows` into microbatches, and has `pass` run each: `pass(trees, activations, gradients)` adds its
    /// gradients; they end up in `gradients`, to the bit the same for any number of threads. Returns what the passes return, in
    /// the order of the trees, or the first error.
    pub fn each<T: Send>(
        &mut self,
        rows: &[usize],
        gradients: &mut [f32],
        pass: impl Fn(Range<usize>, &mut Activations, &mut [f32]) -> Result<T> + Sync,
    ) -> Result<Vec<(Range<usize>, T)>> {
        let work = |runs: &[Range<usize>], activations: &mut Activations, gradients: &mut [f32]| {
            let pass = |run: &Range<usize>| Ok((run.clone(), pass(run.clone(), activations, gradients)?));
            runs.iter().map(pass).collect::<Result<Vec<_>>>()
        };
        let [first_activations, second_activations] = &mut self.activations;
        let runs = (gradients.len() <= FEW).then(|| pack_for_two(rows, self.budget)).flatten();
        let Some(runs) = runs else {
            return work(&pack(rows.iter().copied(), self.budget), first_activations, gradients);
        };
        if self.gradients.len() != gradients.len() {
            self.gradients = zeros(gradients.len());
        }
        let (first, second) = runs.split_at(runs.len().div_ceil(2));
        let second_gradients = &mut self.gradients[..];
        let (first, second) = rayon::join(
            || work(first, first_activations, gradients),
            || work(second, second_activations, second_gradients),
        );
        let (mut results, second) = (first?, second?);
        results.extend(second);
        add_and_clear(gradients, &mut self.gradients);
        Ok(results)
    }
}

/// Times as many tokens as in training pass through the model at once where no backward follows: little is kept of them.
const FORWARD_ONLY: usize = 4;

/// Cuts a list of trees of these `rows` into microbatches, and has `pass` run each, in two lanes where there are trees for both. No
/// backward may follow. Returns what the passes return, in the order of the trees, or the first error.
pub(crate) fn forward_each<T: Send>(
    rows: &[usize],
    tokens_per_microbatch: usize,
    precision: Precision,
    pass: impl Fn(Range<usize>, &mut Activations) -> Result<Vec<T>> + Sync,
) -> Result<Vec<T>> {
    let runs = pack_for_two(rows, FORWARD_ONLY * tokens_per_microbatch)
        .unwrap_or_else(|| pack(rows.iter().copied(), tokens_per_microbatch));
    let work = |runs: &[Range<usize>]| -> Result<Vec<T>> {
        let mut activations = Activations::forward_only(precision);
        let mut results = Vec::new();
        for run in runs {
            results.extend(pass(run.clone(), &mut activations)?);
        }
        Ok(results)
    };
    let (first, second) = runs.split_at(runs.len().div_ceil(2));
    let (first, second) = rayon::join(|| work(first), || work(second));
    let mut results = first?;
    results.extend(second?);
    Ok(results)
}

/// The runs of two lanes, the first half for the first: of nearly equal length, two for each budget. None where there is only one, or
/// where trees are so large that two at once would be a quarter over the budget.
fn pack_for_two(rows: &[usize], budget: usize) -> Option<Vec<Range<usize>>> {
    let runs = pack_evenly(rows, budget);
    let (first, second) = runs.split_at(runs.len().div_ceil(2));
    let longest =
        |runs: &[Range<usize>]| runs.iter().map(|run| rows[run.clone()].iter().sum::<usize>()).max();
    (longest(first)? + longest(second)? <= budget + budget / 4).then_some(runs)
}

/// [`pack`] into runs of nearly equal length, two for each budget where the trees allow it.
fn pack_evenly(rows: &[usize], budget: usize) -> Vec<Range<usize>> {
    let total: usize = rows.iter().sum();
    let runs = 2 * total.div_ceil(budget).max(1);
    let mut most = total.div_ceil(runs).max(1);
    loop {
        let packed = pack(rows.iter().copied(), most);
        if packed.len() <= runs || most >= budget {
            return packed;
        }
        most = (most + most / 16 + 1).min(budget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lanes_keep_to_the_budget_or_are_one() {
        assert_eq!(pack_for_two(&[10; 8], 100), Some(vec![0..4, 4..8]));
        assert_eq!(pack_for_two(&[60, 60], 100), Some(vec![0..1, 1..2]));
        assert_eq!(pack_for_two(&[100, 100], 100), None);
        assert_eq!(pack_for_two(&[70], 100), None);
        assert_eq!(pack_for_two(&[], 100), None);
    }

    #[test]
    fn runs_are_nearly_equal_and_within_the_budget() {
        assert_eq!(pack_evenly(&[10; 8], 100), [0..4, 4..8]);
        assert_eq!(pack_evenly(&[10; 9], 45), [0..3, 3..6, 6..9]);
        assert_eq!(pack_evenly(&[7, 7], 100), [0..1, 1..2]);
        assert_eq!(pack_evenly(&[30, 1, 1], 10), [0..1, 1..3]);
        assert!(pack_evenly(&[], 10).is_empty());
        let rows: Vec<usize> = (0..100).map(|i| 30 + i * 7919 % 100).collect();
        let runs = pack_evenly(&rows, 1024);
        let sums: Vec<usize> = runs.iter().map(|run| rows[run.clone()].iter().sum()).collect();
        assert!(sums.iter().all(|sum| *sum <= 1024), "{sums:?}");
        assert!(runs.len() <= 2 * rows.iter().sum::<usize>().div_ceil(1024), "{sums:?}");
        assert!(runs.iter().flat_map(Clone::clone).eq(0..100));
    }
}
