//! Model folders, read and written.

use std::path::Path;

use anyhow::Result;
use rlrf_model::Model;

/// Loads a model folder.
pub(crate) fn load(folder: &Path) -> Result<Model> {
    Ok(Model::load(folder)?)
}

/// Saves a model and gives its digest.
pub(crate) fn save(model: &Model, folder: &Path) -> Result<String> {
    model.save(folder)?;
    Ok(model.digest())
}
