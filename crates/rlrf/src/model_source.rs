//! Where the models come from that a benchmark measures or asks.

use std::path::Path;

use anyhow::{Result, bail};
use rlrf_engine::EngineOptions;
use rlrf_local::LocalPolicy;
use rlrf_method::seam::Policy;
use rlrf_remote::{RemoteOptions, RemotePolicy, base_urls, is_url, served_model};

use crate::console;
use crate::models;

/// Opens the model that `source` names: a folder in Hugging Face layout, or the base address of an endpoint such as
/// `http://127.0.0.1:8000/v1` (several with commas between are servers of the same model).
///
/// `name` is the model's name at the endpoint. Without it the endpoint is asked, and must serve one model only.
pub(crate) fn open(source: &str, name: Option<&str>, engine: EngineOptions) -> Result<Box<dyn Policy>> {
    if is_url(source) {
        let options = RemoteOptions { interrupted: console::interrupted, ..RemoteOptions::default() };
        let servers = base_urls(source)?;
        let name = name.map_or_else(|| served_model(&servers, &options), |name| Ok(name.to_string()))?;
        return Ok(Box::new(RemotePolicy::new(servers, &name, &options)?));
    }
    if let Some(name) = name {
        bail!("{source}: is a folder, and holds one model: leave out its name {name:?}");
    }
    Ok(Box::new(LocalPolicy::owning(models::load(Path::new(source))?, engine)?))
}
