//! From a precision on the command line to the settings of the trainer and the engine: the one place that knows what
//! these can do.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use rlrf_engine::EngineOptions;
use rlrf_kernels::matmul::Operands;
use rlrf_model::{LoraConfig, WeightFormat};
use rlrf_train::{ScheduleShape, TrainingConfig};

use crate::bench::arguments::Precision;

/// Settings of a trainer that does what the peers do: constant learning rate, no warm-up, no clipping.
pub(crate) fn training(precision: Precision, lora_rank: Option<NonZeroUsize>) -> Result<TrainingConfig> {
    let precision = match precision {
        Precision::F32 => rlrf_model::Precision::F32,
        Precision::Bf16 => rlrf_model::Precision::Bf16,
        Precision::Int8 => bail!("there is no training in int8; take f32 or bf16"),
    };
    Ok(TrainingConfig {
        precision,
        lora: lora_rank.map(|rank| LoraConfig { rank: rank.get(), ..LoraConfig::default() }),
        schedule: ScheduleShape::Constant,
        warmup_ratio: 0.0,
        learning_rate: 1e-6,
        max_grad_norm: 0.0,
        ..TrainingConfig::default()
    })
}

/// Settings of the engine.
pub(crate) fn engine(precision: Precision) -> EngineOptions {
    let weights = match precision {
        Precision::F32 => WeightFormat::F32,
        Precision::Bf16 => WeightFormat::Bf16,
        Precision::Int8 => WeightFormat::Int8,
    };
    EngineOptions { weights, ..EngineOptions::default() }
}

/// Operands of a matrix product.
pub(crate) fn matmul(precision: Precision) -> Operands {
    match precision {
        Precision::F32 => Operands::f32(),
        Precision::Bf16 => Operands::Bf16,
        Precision::Int8 => Operands::Int8,
    }
}
