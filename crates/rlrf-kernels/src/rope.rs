//! Rotary position embedding (Su et al., 2021) in the half-rotated layout of Hugging Face.

/// Cosines and sines of every position, `[positions, dim/2]` each.
#[derive(Debug, Clone)]
pub struct RopeTable { /* cos, sin, half */ }
impl RopeTable {
    /// From the inverse frequencies (`dim/2` of them, scaling already applied), the number of positions, and
    /// the attention factor that multiplies both cos and sin (1 unless the scaling says otherwise).
    pub fn new(inverse_frequencies: &[f32], positions: usize, attention_factor: f32) -> Self { todo!() }
    /// Number of positions.
    pub fn positions(&self) -> usize { todo!() }
    /// Rotates `x: [T, heads, dim]` in place, row `t` by `positions[t]`.
    pub fn rotate(&self, x: &mut [f32], positions: &[u32], heads: usize) { todo!() }
    /// The inverse rotation: the backward of [`RopeTable::rotate`].
    pub fn rotate_back(&self, dx: &mut [f32], positions: &[u32], heads: usize) { todo!() }
}
