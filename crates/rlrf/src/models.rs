//! Model folders, read and written.

use std::path::Path;

use anyhow::Result;
use rlrf_model::Model;

use crate::allocator::return_freed_memory;

/// Loads the folder of a language model.
pub(crate) fn load(folder: &Path) -> Result<Model> {
    Ok(return_freed_memory(|| Model::load(folder))?)
}

/// Loads the folder of a reward model.
pub(crate) fn load_reward(folder: &Path) -> Result<Model> {
    Ok(return_freed_memory(|| Model::load_reward(folder))?)
}

/// Loads a model folder, whichever its head.
pub(crate) fn load_any(folder: &Path) -> Result<Model> {
    Ok(return_freed_memory(|| Model::load_any(folder))?)
}

/// Saves a model and gives its digest.
pub(crate) fn save(model: &Model, folder: &Path) -> Result<String> {
    model.save(folder)?;
    Ok(model.digest())
}
