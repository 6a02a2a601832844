//! What can go wrong with a generation.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of [`crate::EngineOptions`] is out of range.
    #[error("engine option {field} = {value}: must be at least {minimum}")]
    Option {
        /// Which option.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The smallest value allowed.
        minimum: usize,
    },
    /// A reward model generates nothing.
    #[error("the model is a reward model: it scores responses and writes none; give a language model")]
    RewardModel,
    /// A value of [`crate::Sampling`] is out of range.
    #[error("sampling {field} = {value}: must be {expected}")]
    Sampling {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A prompt without a token gives the model nothing to continue.
    #[error("the prompt has no tokens: give at least one (the begin-of-sequence token will do)")]
    EmptyPrompt,
    /// A token id that the model does not have.
    #[error(
        "{place} holds token {token}, but the model's vocabulary has {vocab_size} tokens: was it encoded with another tokenizer?"
    )]
    Token {
        /// Where the token stands.
        place: &'static str,
        /// The token.
        token: u32,
        /// `vocab_size` of the model.
        vocab_size: usize,
    },
    /// A choice without options.
    #[error("the choice has no options: give at least one token")]
    EmptyChoice,
    /// The prompt leaves no room in the model's context.
    #[error(
        "the prompt has {prompt} tokens{}, which leaves no room for a new token in the model's context of {context}: shorten the prompt",
        if *prefix > 0 { format!(" and the forced prefix of its choice {prefix}") } else { String::new() }
    )]
    Context {
        /// Length of the prompt.
        prompt: usize,
        /// Length of the forced prefix.
        prefix: usize,
        /// `max_position_embeddings` of the model.
        context: usize,
    },
    /// One sequence alone may outgrow the cache.
    #[error(
        "one sample may need {needed} tokens of cache ({prompt} of them the prompt), but the cache holds {capacity}: raise cache_tokens, or lower max_new_tokens"
    )]
    Cache {
        /// Tokens that the longest sequence of the request may reach.
        needed: usize,
        /// Length of the prompt.
        prompt: usize,
        /// Tokens that the cache holds (`cache_tokens`, in whole blocks).
        capacity: usize,
    },
    /// The model computed infinities or not-a-numbers.
    #[error(
        "the model's logits are not finite after {length} tokens: its weights are damaged or its training diverged"
    )]
    NotFinite {
        /// Tokens of the sequence, prompt included.
        length: usize,
    },
    /// What is wrong with one request, by its index.
    #[error("request {request}: {cause}")]
    Request {
        /// Index into the requests given.
        request: usize,
        /// What is wrong.
        cause: Box<Error>,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Model(#[from] rlrf_model::Error),
}

impl Error {
    /// Names the request in the error.
    pub(crate) fn of_request(self, request: usize) -> Self {
        Self::Request { request, cause: Box::new(self) }
    }
}
