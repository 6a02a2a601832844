//! Where the models come from that are measured or asked: a folder, or an endpoint.

use std::path::Path;

use anyhow::{Result, bail};
use rlrf_engine::EngineOptions;
use rlrf_local::LocalPolicy;
use rlrf_method::seam::Policy;
use rlrf_model::Model;
use rlrf_remote::{RemoteOptions, RemotePolicy, base_urls, is_url, served_model};

use crate::console;
use crate::models;

/// Opens the model that `source` names: a folder in Hugging Face layout, or the base address of an endpoint such as
/// `http://127.0.0.1:8000/v1` (several with commas between are servers of the same model).
///
/// `name` is the model's name at the endpoint. Without it the endpoint is asked, and must serve one model only.
pub(crate) fn open(source: &str, name: Option<&str>, engine: EngineOptions) -> Result<Box<dyn Policy>> {
    if is_url(source) {
        return Ok(Box::new(open_endpoint(source, name)?));
    }
    Ok(Box::new(LocalPolicy::owning(open_folder(source, name)?, engine)?))
}

/// The same for an address alone.
pub(crate) fn open_endpoint(source: &str, name: Option<&str>) -> Result<RemotePolicy> {
    let options = RemoteOptions { interrupted: console::interrupted, ..RemoteOptions::default() };
    let servers = base_urls(source)?;
    let name = name.map_or_else(|| served_model(&servers, &options), |name| Ok(name.to_string()))?;
    Ok(RemotePolicy::new(servers, &name, &options)?)
}

/// The same for a folder alone.
pub(crate) fn open_folder(source: &str, name: Option<&str>) -> Result<Model> {
    if let Some(name) = name {
        bail!("{source}: is a folder, and holds one model: leave out its name {name:?}");
    }
    models::load(Path::new(source))
}
