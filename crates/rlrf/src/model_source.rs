//! Where the models come from that a benchmark measures or asks.

use std::path::Path;

use anyhow::{Result, bail};
use rlrf_engine::EngineOptions;
use rlrf_local::LocalPolicy;
use rlrf_method::seam::Policy;

use crate::models;

/// Opens the model that `source` names, a folder in Hugging Face layout.
pub(crate) fn open(source: &str, name: Option<&str>, engine: EngineOptions) -> Result<Box<dyn Policy>> {
    if let Some(name) = name {
        bail!("{source}: is a folder, and holds one model: leave out its name {name:?}");
    }
    Ok(Box::new(LocalPolicy::owning(models::load(Path::new(source))?, engine)?))
}
