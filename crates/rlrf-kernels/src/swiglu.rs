//! The gated activation of Llama-class feed-forward layers: `silu(gate) * up` (Shazeer, 2020).

/// `y = silu(gate) * up`.
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) { todo!() }
/// Overwrites `dgate` and `dup`.
pub fn swiglu_backward(dy: &[f32], gate: &[f32], up: &[f32], dgate: &mut [f32], dup: &mut [f32]) { todo!() }
