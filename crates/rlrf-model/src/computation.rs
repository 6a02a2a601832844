//! How a forward and its backward are computed.

use rlrf_kernels::matmul::Operands;
use serde::{Deserialize, Serialize};

/// What the operands of matrix products, those of attention among them, are rounded to. Parameters, gradients, sums, norms,
/// softmax and losses are f32 either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As they are, but where [`Operands::f32`] are in tiles.
    #[default]
    F32,
    /// Weights and activations enter products as bf16, and what a forward keeps for its backward is bf16: faster
    /// where the processor multiplies bf16, and with half the activations' memory.
    Bf16,
}

impl Precision {
    /// The operands of products.
    pub(crate) fn operands(self) -> Operands {
        match self {
            Self::F32 => Operands::f32(),
            Self::Bf16 => Operands::Bf16,
        }
    }
}

/// How a forward and its backward are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Computation {
    /// Of matrix products and of kept activations.
    pub precision: Precision,
    /// Keep only the input of each layer and compute the rest again in the backward: the same gradients to the bit in
    /// f32 (in AMX tiles but for the head's, by rounding), a third more operations, and activations of one layer in place of all.
    pub recompute: bool,
}

/// How weights are held for generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// As the model has them, but where [`Operands::f32`] are in tiles.
    #[default]
    F32,
    /// Rounded to bf16, as are the activations that meet them: two bytes a weight.
    Bf16,
    /// 8 bits with one scale per output channel; the activations that meet them in 8 bits with one scale per 64: a
    /// byte a weight.
    Int8,
}

impl WeightFormat {
    /// The operands of products.
    pub(crate) fn operands(self) -> Operands {
        match self {
            Self::F32 => Operands::f32(),
            Self::Bf16 => Operands::Bf16,
            Self::Int8 => Operands::Int8,
        }
    }
}
