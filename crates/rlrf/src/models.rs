//! Models of a run before its first iteration: loaded, or made new, then fine-tuned on demonstrations.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rlrf_method::demonstration::Demonstration;
use rlrf_method::digest::stream;
use rlrf_model::preset::{Preset, SPECIAL_TOKENS};
use rlrf_model::{Model, Tokenizer};

use crate::config::NewModelConfig;

/// Loads a model folder.
pub(crate) fn load(folder: &Path) -> Result<Model> {
    Ok(Model::load(folder)?)
}

/// A new model; its tokenizer is trained on the text of the demonstrations that it will learn from.
pub(crate) fn new(config: &NewModelConfig, demonstrations: &[Demonstration], seed: u64) -> Result<Model> {
    if demonstrations.is_empty() {
        bail!("configuration: a new model needs `sft` with demonstrations: its tokenizer is trained on them");
    }
    let texts = demonstrations
        .iter()
        .flat_map(|d| d.prompt.iter().map(|m| m.content.clone()).chain([d.completion.clone()]));
    let tokenizer = Tokenizer::train_bpe(texts, config.vocab_size, &SPECIAL_TOKENS)?;
    let preset = Preset::by_name(&config.preset)?;
    let shape = preset.config(tokenizer.vocab_size())?;
    Ok(Model::new_random(shape, tokenizer, stream(seed, "weights", &config.preset, 0))?)
}

/// Saves a model and gives its digest.
pub(crate) fn save(model: &Model, folder: &Path) -> Result<String> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("{}: cannot create", parent.display()))?;
    }
    model.save(folder)?;
    Ok(model.digest())
}
