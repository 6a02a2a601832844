//! `rlrf model new` and `rlrf model info`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rlrf_model::preset::{Preset, SPECIAL_TOKENS};
use rlrf_model::{Model, ModelConfig, Tokenizer};
use serde_json::{Map, Value, json};

use crate::arguments::{ModelInfoOptions, NewModelOptions};
use crate::{console, models};

pub(crate) fn new(options: &NewModelOptions, json: bool) -> Result<()> {
    if options.out.exists() {
        bail!("--out {}: exists already; remove it, or choose another name", options.out.display());
    }
    let mut texts = Vec::new();
    for file in &options.text {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{}: cannot read", file.display()))?;
        texts.extend(text.lines().map(str::to_string));
    }
    if texts.iter().all(|text| text.trim().is_empty()) {
        let files: Vec<String> = options.text.iter().map(|file| file.display().to_string()).collect();
        bail!("{}: holds no text to train the tokenizer on", files.join(", "));
    }
    let tokenizer = Tokenizer::train_bpe(texts.into_iter(), options.vocab_size, &SPECIAL_TOKENS)?;
    let config = match (&options.preset, &options.config) {
        (_, Some(file)) => read_config(file)?.with_vocab_size(tokenizer.vocab_size()),
        (Some(name), None) => Preset::by_name(name)?.config(tokenizer.vocab_size())?,
        (None, None) => unreachable!("clap requires one of the two"),
    };
    let model = Model::new_random(config, tokenizer, options.seed)?;
    models::save(&model, &options.out)?;
    describe(&model, &options.out, json)
}

fn read_config(file: &Path) -> Result<ModelConfig> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}: cannot read", file.display()))?;
    let object: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    Ok(ModelConfig::from_json(object, file)?)
}

pub(crate) fn info(options: &ModelInfoOptions, json: bool) -> Result<()> {
    describe(&models::load_any(&options.model)?, &options.model, json)
}

fn describe(model: &Model, folder: &Path, json: bool) -> Result<()> {
    let config = model.decoder.config();
    let rows = json!({
        "folder": folder.display().to_string(),
        "architecture": config.architecture(),
        "kind": if model.is_reward() { "reward model" } else { "language model" },
        "parameters": config.parameter_count(),
        "memory_weights_bytes": config.parameter_bytes(),
        "memory_training_bytes": config.training_bytes(),
        "cache_bytes_per_token": config.cache_bytes_per_token(),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "attention_heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "context": config.max_position_embeddings,
        "tied_embeddings": config.tie_word_embeddings,
        "chat_template": model.chat.has_template(),
        "end_tokens": model.end_tokens,
        "digest": model.digest(),
    });
    if json {
        return Ok(console::print(&format!("{rows:#}"))?);
    }
    for (name, value) in rows.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if name.ends_with("bytes") => {
                format!("{:.1} MiB", number.as_f64().unwrap_or_default() / 1_048_576.0)
            }
            other => other.to_string(),
        };
        console::print(&format!("{:<22} {value}", name.trim_end_matches("_bytes").replace('_', " ")))?;
    }
    Ok(())
}
