//! Chat templates (Jinja, as in Hugging Face) that never let message text become control tokens.

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatMessage<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// The text; data, never markup.
    pub content: &'a str,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate { }
impl ChatTemplate {
    /// Token ids of the conversation with the generation prompt appended: what the model continues. Contents
    /// are trimmed and tokenised apart from the template's own text, with special tokens disabled.
    pub fn prompt(&self, tokenizer: &crate::Tokenizer, messages: &[ChatMessage<'_>]) -> crate::Result<Vec<u32>> { todo!() }
    /// Token ids of a response as the model would have written it: the text, then the end-of-turn token.
    pub fn response(&self, tokenizer: &crate::Tokenizer, text: &str) -> crate::Result<Vec<u32>> { todo!() }
    /// The token that ends an assistant turn.
    pub fn end_of_turn(&self) -> u32 { todo!() }
}
