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

/// Removes what a killed process left beside `folder` while it saved a model there. Only for who holds the run's lock.
pub(crate) fn clear_leftovers(folder: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(());
    };
    let Ok(entries) = std::fs::read_dir(if parent == Path::new("") { Path::new(".") } else { parent }) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let process = found
            .to_str()
            .and_then(|found| found.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".partial"))
            .filter(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()));
        if process.is_some() {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("{}: cannot remove", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Saves a model and gives its digest.
pub(crate) fn save(model: &Model, folder: &Path) -> Result<String> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("{}: cannot create", parent.display()))?;
    }
    model.save(folder)?;
    Ok(model.digest())
}
