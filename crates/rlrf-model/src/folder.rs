//! A model folder: everything that Hugging Face tools expect in it, read and written whole.

use std::path::Path;
use crate::{ChatTemplate, Decoder, Result, Tokenizer};

/// A decoder with its tokenizer, chat template and end tokens.
#[derive(Debug)]
pub struct Model {
    /// The network.
    pub decoder: Decoder,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub chat: ChatTemplate,
    /// Tokens that end a generation (`generation_config.json`, `config.json`, end of turn).
    pub end_tokens: Vec<u32>,
    // the other files of the folder (tokenizer_config.json, ...) as bytes, to be written back
}
impl Model {
    /// Reads a folder; one clear error naming the file (and tensor) if anything is wrong.
    pub fn load(folder: &Path) -> Result<Self> { todo!() }
    /// Writes a folder that transformers loads (f32 safetensors): under a temporary name beside it, synced, then
    /// renamed; an existing folder of that name is replaced only when the new one is whole.
    pub fn save(&self, folder: &Path) -> Result<()> { todo!() }
    /// blake3 digest of configuration, parameters, tokenizer and chat template: the model's identity in run rows.
    pub fn digest(&self) -> String { todo!() }
}
