//! All parameters of a model in one flat vector, with a layout that names its parts.
//!
//! Gradients, AdamW moments and checkpoints are vectors of the same length under the same layout.

use std::ops::Range;

/// One named tensor in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterEntry {
    /// The Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its shape, `[out, in]` for weights.
    pub shape: Vec<usize>,
    /// Its place in the flat vector.
    pub range: Range<usize>,
    /// Whether weight decay applies (matrices yes; norms and biases no).
    pub decay: bool,
}

/// Where every tensor of a model lies. (The decoder keeps further private index structures per layer.)
#[derive(Debug, Clone)]
pub struct Layout { /* entries: Vec<ParameterEntry>, per-layer ranges, len */ }
impl Layout {
    /// The layout of a model of this configuration.
    pub fn new(config: &crate::ModelConfig) -> Self { todo!() }
    /// Every tensor, in order of its place.
    pub fn entries(&self) -> &[ParameterEntry] { todo!() }
    /// Length of the flat vector.
    pub fn len(&self) -> usize { todo!() }
}
