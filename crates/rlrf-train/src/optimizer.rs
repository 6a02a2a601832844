//! AdamW over all parameters of a model.

use std::ops::Range;

use rayon::prelude::*;
use rlrf_kernels::adamw::AdamW;
use rlrf_model::ParameterEntry;

use crate::TrainingConfig;

/// Moments of AdamW, and the parts of the flat vector that decay or do not.
#[derive(Debug, Clone)]
pub struct Optimizer {
    /// First moment, as long as what is trained.
    pub first_moment: Vec<f32>,
    /// Second moment, as long as what is trained.
    pub second_moment: Vec<f32>,
    /// Updates done.
    pub step: u64,
    regions: Vec<(Range<usize>, bool)>,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    max_grad_norm: f64,
}

impl Optimizer {
    /// Fresh state for these tensors, which lie one behind the other.
    pub fn new(entries: &[ParameterEntry], config: &TrainingConfig) -> Self {
        let len = entries.last().map_or(0, |entry| entry.range.end);
        Self {
            first_moment: zeros(len),
            second_moment: zeros(len),
            step: 0,
            regions: decay_regions(entries),
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            eps: config.eps as f32,
            weight_decay: config.weight_decay as f32,
            max_grad_norm: config.max_grad_norm,
        }
    }

    /// One update of `parameters` from `gradients`, which become zero, of norm `gradient_norm`, clipped as torch's `clip_grad_norm_` does.
    pub fn update(
        &mut self,
        parameters: &mut [f32],
        gradients: &mut [f32],
        gradient_norm: f64,
        learning_rate: f64,
    ) {
        self.step += 1;
        for (range, decay) in &self.regions {
            let rule = AdamW {
                learning_rate: learning_rate as f32,
                beta1: self.beta1,
                beta2: self.beta2,
                eps: self.eps,
                weight_decay: if *decay { self.weight_decay } else { 0.0 },
                step: self.step,
                gradient_scale: clip_factor(self.max_grad_norm, gradient_norm),
            };
            rule.update(
                &mut parameters[range.clone()],
                &mut gradients[range.clone()],
                &mut self.first_moment[range.clone()],
                &mut self.second_moment[range.clone()],
            );
        }
    }
}

/// Written by all threads: the pages of a large vector are fresh, or to be cleared.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    rayon::iter::repeat_n(0.0, len).collect()
}

/// Neighbouring tensors of the same kind in one region, so that each update runs over long slices.
fn decay_regions(entries: &[ParameterEntry]) -> Vec<(Range<usize>, bool)> {
    let mut regions: Vec<(Range<usize>, bool)> = Vec::new();
    for entry in entries {
        match regions.last_mut() {
            Some((range, decay)) if *decay == entry.decay && range.end == entry.range.start => {
                range.end = entry.range.end;
            }
            _ => regions.push((entry.range.clone(), entry.decay)),
        }
    }
    regions
}

fn clip_factor(max_grad_norm: f64, gradient_norm: f64) -> f32 {
    if max_grad_norm == 0.0 { 1.0 } else { (max_grad_norm / (gradient_norm + 1e-6)).min(1.0) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_only_shrinks() {
        assert_eq!(clip_factor(1.0, 0.5), 1.0);
        assert!((clip_factor(1.0, 4.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_factor(0.0, 4.0), 1.0);
    }
}
