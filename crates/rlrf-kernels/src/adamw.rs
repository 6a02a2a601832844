//! AdamW (Loshchilov and Hutter, 2019) in place, on flat slices.

use rayon::prelude::*;

/// Elements per parallel task.
const CHUNK: usize = 32 * 1024;

/// The constants of one update.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// 1 for the first update.
    pub step: u64,
    /// Multiplies every gradient first (clipping, averaging).
    pub gradient_scale: f32,
}

/// What the inner loop needs, computed once in f64.
#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    decay: f32,
    beta2: f32,
    gradient_weight: f32,
    square_weight: f32,
    step_size: f32,
    root_correction: f32,
    eps: f32,
}

impl AdamW {
    /// One update of `parameters` from `gradients` with moments `m` and `v` (same arithmetic as torch.optim.AdamW). The gradients
    /// become zero, for the next step to add to: while they are in the cache this costs least.
    pub fn update(&self, parameters: &mut [f32], gradients: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        assert!(parameters.len() == gradients.len());
        assert!(parameters.len() == m.len() && parameters.len() == v.len());
        let factors = self.factors();
        parameters
            .par_chunks_mut(CHUNK)
            .zip(gradients.par_chunks_mut(CHUNK))
            .zip(m.par_chunks_mut(CHUNK))
            .zip(v.par_chunks_mut(CHUNK))
            .for_each(|(((parameters, gradients), m), v)| {
                update_chunk(factors, parameters, gradients, m, v);
                gradients.fill(0.0);
            });
    }

    fn factors(&self) -> Factors {
        let learning_rate = f64::from(self.learning_rate);
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let steps = self.step as f64;
        Factors {
            gradient_scale: self.gradient_scale,
            decay: (1.0 - learning_rate * f64::from(self.weight_decay)) as f32,
            beta2: self.beta2,
            gradient_weight: (1.0 - beta1) as f32,
            square_weight: (1.0 - beta2) as f32,
            step_size: (learning_rate / (1.0 - beta1.powf(steps))) as f32,
            root_correction: (1.0 - beta2.powf(steps)).sqrt() as f32,
            eps: self.eps,
        }
    }
}

simd! {
    fn update_chunk(factors: Factors, parameters: &mut [f32], gradients: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((parameter, gradient), m), v) in parameters.iter_mut().zip(gradients).zip(m).zip(v) {
            let gradient = gradient * factors.gradient_scale;
            *m = (gradient - *m).mul_add(factors.gradient_weight, *m);
            *v = (gradient * gradient).mul_add(factors.square_weight, *v * factors.beta2);
            let root = v.sqrt() / factors.root_correction + factors.eps;
            *parameter = (*m / root).mul_add(-factors.step_size, *parameter * factors.decay);
        }
    }
}
