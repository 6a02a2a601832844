//! AdamW (Loshchilov and Hutter, 2019) in place, on flat slices.

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
impl AdamW {
    /// One update of `parameters` from `gradients` with moments `m` and `v` (same arithmetic as torch.optim.AdamW).
    pub fn update(&self, parameters: &mut [f32], gradients: &[f32], m: &mut [f32], v: &mut [f32]) { todo!() }
}
