//! What is asked of the engine, and what it answers.

use crate::{Error, Result};

/// How to draw tokens. The filters apply in the order of transformers: temperature, top-k, top-p, min-p;
/// each looks at the distribution that the one before left, renormalised. Equal logits rank by token id.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token always (greedy).
    pub temperature: f32,
    /// Keeps the smallest set of most probable tokens whose probabilities add up to at least this; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the tokens at least this fraction as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Length of the text at most, in tokens (the end token included). 0 is for a [`Choice`] straight after the prompt.
    pub max_new_tokens: usize,
    /// The text ends before the first of these strings to appear in it.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    /// The model's own distribution, 256 tokens at most.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, max_new_tokens: 256, stop: Vec::new() }
    }
}

impl Sampling {
    /// The most probable token always.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, max_new_tokens, ..Self::default() }
    }

    /// An error that names the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let require = |holds: bool, field, value: &dyn ToString, expected| {
            if holds { Ok(()) } else { Err(Error::Sampling { field, value: value.to_string(), expected }) }
        };
        require(
            self.temperature.is_finite() && self.temperature >= 0.0,
            "temperature",
            &self.temperature,
            "finite and at least 0",
        )?;
        require(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", &self.top_p, "above 0 and at most 1")?;
        require((0.0..=1.0).contains(&self.min_p), "min_p", &self.min_p, "between 0 and 1")?;
        require(self.stop.iter().all(|stop| !stop.is_empty()), "stop", &"\"\"", "strings that are not empty")
    }
}

/// A verdict read off the logits after the text has ended: `prefix` is forced after the kept tokens of the text, then
/// the distribution over `options` is read in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Tokens forced after the text; may be empty.
    pub prefix: Vec<u32>,
    /// The tokens to choose among.
    pub options: Vec<u32>,
}

/// One prompt and its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Token ids to continue, begin-of-sequence token included where the model wants one.
    pub prompt: Vec<u32>,
    /// One independent sample each: the number of its random stream. Equal streams draw equal random numbers.
    pub streams: Vec<u64>,
    /// How to draw.
    pub sampling: Sampling,
    /// The verdict to read after each sample.
    pub choice: Option<Choice>,
}

impl Request {
    /// Length of the forced prefix.
    pub(crate) fn prefix_len(&self) -> usize {
        self.choice.as_ref().map_or(0, |choice| choice.prefix.len())
    }

    /// How many tokens a sample may draw, and why it ends when it has drawn them, in a valid request.
    pub(crate) fn length_limit(&self, context: usize) -> (usize, FinishReason) {
        let room = context - self.prompt.len() - self.prefix_len();
        match self.sampling.max_new_tokens <= room {
            true => (self.sampling.max_new_tokens, FinishReason::Length),
            false => (room, FinishReason::Context),
        }
    }

    /// Tokens that a sequence of this request may have in the cache at most.
    pub(crate) fn longest_sequence(&self, context: usize) -> usize {
        self.prompt.len() + self.length_limit(context).0 + self.prefix_len()
    }

    /// An error that says what the model cannot do with this request.
    pub(crate) fn validate(&self, vocab_size: usize, context: usize) -> Result<()> {
        self.sampling.validate()?;
        if self.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let known = |place, tokens: &[u32]| match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(Error::Token { place, token, vocab_size }),
            None => Ok(()),
        };
        known("the prompt", &self.prompt)?;
        if let Some(choice) = &self.choice {
            known("the prefix of the choice", &choice.prefix)?;
            known("the options of the choice", &choice.options)?;
            if choice.options.is_empty() {
                return Err(Error::EmptyChoice);
            }
        }
        let (prompt, prefix) = (self.prompt.len(), self.prefix_len());
        if prompt + prefix + self.sampling.max_new_tokens.min(1) > context {
            return Err(Error::Context { prompt, prefix, context });
        }
        Ok(())
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew one of its end tokens.
    EndToken,
    /// A stop string appeared.
    Stop,
    /// `max_new_tokens` were drawn.
    Length,
    /// The model's context is full, less the room that the choice's forced prefix needs.
    Context,
}

/// One finished sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The tokens drawn, without the end token, and without every token that a stop string touches.
    pub tokens: Vec<u32>,
    /// The decoded tokens; where a stop string ended the text, everything before it, to the letter, even if
    /// the stop string began inside a token (such a token is not in `tokens`).
    pub text: String,
    /// The log-probability of each of `tokens` under the model's own distribution (temperature 1, no filters),
    /// then, if the text ended with [`FinishReason::EndToken`], that of the end token: one more than `tokens`.
    pub logprobs: Vec<f32>,
    /// Why the text ended.
    pub finish: FinishReason,
    /// The probabilities of the options of the request's choice, normalised among them.
    pub choice: Option<Vec<f32>>,
}
