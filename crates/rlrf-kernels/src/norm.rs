//! Root-mean-square normalisation (Zhang and Sennrich, 2019), with the residual add of a decoder block.

/// `y = x * r * weight` with `r = 1/sqrt(mean(x^2) + eps)` per row of length `weight.len()`; keeps `r` per row.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) { todo!() }
/// `residual += delta`, then [`rms_norm`] of it.
pub fn add_rms_norm(residual: &mut [f32], delta: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) { todo!() }
/// Adds the input gradient into `dx` and the weight gradient into `dweight` (None: frozen).
pub fn rms_norm_backward(dy: &[f32], x: &[f32], weight: &[f32], inv_rms: &[f32], dx: &mut [f32], dweight: Option<&mut [f32]>) { todo!() }
