//! From a precision on the command line to the settings of the trainer and the engine: the one place that knows what
//! these can do.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use rlrf_engine::EngineOptions;
use rlrf_train::{ScheduleShape, TrainingConfig};

use crate::bench::arguments::Precision;

/// Settings of a trainer that does what the peers do: constant learning rate, no warm-up, no clipping.
pub(crate) fn training(precision: Precision, lora_rank: Option<NonZeroUsize>) -> Result<TrainingConfig> {
    require_f32(precision, "training")?;
    if lora_rank.is_some() {
        bail!("LoRA is not available; leave --lora-rank out");
    }
    Ok(TrainingConfig {
        schedule: ScheduleShape::Constant,
        warmup_ratio: 0.0,
        learning_rate: 1e-6,
        max_grad_norm: 0.0,
        ..TrainingConfig::default()
    })
}

/// Settings of the engine.
pub(crate) fn engine(precision: Precision) -> Result<EngineOptions> {
    require_f32(precision, "generation")?;
    Ok(EngineOptions::default())
}

/// Whether there are matrix products in this precision.
pub(crate) fn matmul(precision: Precision) -> Result<()> {
    require_f32(precision, "the matrix product")
}

fn require_f32(precision: Precision, what: &str) -> Result<()> {
    match precision {
        Precision::F32 => Ok(()),
        Precision::Bf16 => bail!("{what} in bf16 is not available; there is f32"),
        Precision::Int8 => bail!("{what} in int8 is not available; there is f32"),
    }
}
