//! `tokenizer.json`, through the `tokenizers` crate.

/// Text to token ids and back.
#[derive(Debug, Clone)]
pub struct Tokenizer { }
impl Tokenizer {
    /// Tokenises data: special tokens in it stay plain text.
    pub fn encode(&self, text: &str) -> crate::Result<Vec<u32>> { todo!() }
    /// Tokenises a template's own text: special tokens are recognised; none is added.
    pub fn encode_markup(&self, text: &str) -> crate::Result<Vec<u32>> { todo!() }
    /// Text of token ids, special tokens left out.
    pub fn decode(&self, tokens: &[u32]) -> crate::Result<String> { todo!() }
    /// Id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> { todo!() }
    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize { todo!() }
    /// Splits `prefix + option` for each option into the tokens that all share and one distinguishing token
    /// each: how a verdict such as "\nLevel: " + {"1","2","3"} is read off the logits in one step.
    /// Error if the options do not differ in exactly one token.
    pub fn choice(&self, prefix: &str, options: &[&str]) -> crate::Result<(Vec<u32>, Vec<u32>)> { todo!() }
}
