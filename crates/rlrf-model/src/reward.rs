//! A language model as a reward model.

use serde_json::Value;

use crate::folder::Named;
use crate::{Error, Head, Model, Result};

impl Model {
    /// Whether the model scores responses and writes none.
    pub fn is_reward(&self) -> bool {
        self.decoder.config().head == Head::Score
    }

    /// The same decoder, tokenizer and template with a fresh score head that `seed` decides; a reward model stays as it
    /// is.
    ///
    /// transformers reads the score at the last token that is not padding. The configuration therefore names a padding
    /// token, and never the end of a turn, whose score is the one that counts.
    ///
    /// # Errors
    /// No token of the tokenizer can pad.
    pub fn into_reward(mut self, seed: u64) -> Result<Self> {
        if self.is_reward() {
            return Ok(self);
        }
        let padding = self.padding_token()?;
        self.decoder.merge();
        self.decoder = self.decoder.with_score_head(padding, seed)?;
        // An adapter beside the weights would be one of the language model.
        self.adapter = None;
        Ok(self)
    }

    /// The configured padding token, else the beginning of text or the unknown token, as long as it does not end a turn.
    fn padding_token(&self) -> Result<u32> {
        let config = self.decoder.config();
        let named = Named::new(&self.files, &self.folder)?;
        let configured = |name: &str| {
            let id = config.original(&format!("{name}_id")).and_then(Value::as_u64);
            id.and_then(|id| u32::try_from(id).ok()).or_else(|| self.tokenizer.id(&named.token(name)?))
        };
        ["pad_token", "bos_token", "unk_token"]
            .into_iter()
            .filter_map(configured)
            .find(|&id| id != self.chat.end_of_turn() && (id as usize) < config.vocab_size)
            .ok_or_else(|| {
                let problem = "a reward model needs a padding token that does not end a turn; name one";
                Error::field(&self.folder.join("config.json"), "pad_token_id", problem)
            })
    }
}
