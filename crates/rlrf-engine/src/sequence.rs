//! One list of tokens on its way through the engine: a prompt, a sample's text, or its verdict.

use rlrf_kernels::softmax::softmax;
use rlrf_model::Tokenizer;

use crate::blocks::{BLOCK_TOKENS, BlockId};
use crate::sampler::{Drawn, Sampler};
use crate::stop::StopFinder;
use crate::{Error, FinishReason, Generation, Request, Result};

/// What the logits after a sequence's last token are for.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The first token of every sample of the request.
    Prompt,
    /// The next token of the text.
    Text,
    /// The options of the choice after this text.
    Verdict(Generation),
}

/// Tokens, of which the first `computed` are in the blocks of `chain`.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Index of the request.
    pub(crate) request: usize,
    /// Index of the sample in its request; 0 for a prompt.
    pub(crate) sample: usize,
    pub(crate) stage: Stage,
    pub(crate) tokens: Vec<u32>,
    pub(crate) computed: usize,
    pub(crate) chain: Vec<BlockId>,
    logprobs: Vec<f32>,
    stop: StopFinder,
}

/// What was read off one row of logits.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Of a prompt: the first token of each sample; empty if no token is to be drawn.
    FirstTokens(Vec<Drawn>),
    /// Of a text: its next token.
    NextToken(Drawn),
    /// After a forced prefix: the probabilities of the options.
    Options(Vec<f32>),
}

/// What ends texts, beside the request itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits<'e> {
    pub(crate) tokenizer: &'e Tokenizer,
    pub(crate) end_tokens: &'e [u32],
    pub(crate) context: usize,
}

impl Sequence {
    /// The prompt of a request.
    pub(crate) fn prompt(index: usize, request: &Request) -> Self {
        Self {
            request: index,
            sample: 0,
            stage: Stage::Prompt,
            tokens: request.prompt.clone(),
            computed: 0,
            chain: Vec::new(),
            logprobs: Vec::new(),
            stop: StopFinder::default(),
        }
    }

    /// A sample that goes on from this computed prompt; the caller counts it as a holder of the chain.
    pub(crate) fn fork(&self, sample: usize) -> Self {
        Self {
            request: self.request,
            sample,
            stage: Stage::Text,
            tokens: self.tokens.clone(),
            computed: self.computed,
            chain: self.chain.clone(),
            logprobs: Vec::new(),
            stop: StopFinder::default(),
        }
    }

    /// Tokens that are not in the cache yet.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Blocks that a chain over the first `len` tokens lacks.
    pub(crate) fn missing_blocks(&self, len: usize) -> usize {
        len.div_ceil(BLOCK_TOKENS).saturating_sub(self.chain.len())
    }

    /// Tokens drawn so far.
    fn drawn(&self) -> usize {
        self.logprobs.len()
    }

    /// Reads what the stage wants off the logits after the last token.
    pub(crate) fn read(&self, logits: &[f32], request: &Request, sampler: &mut Sampler) -> Result<Reading> {
        let mut draw = |stream: u64| {
            let drawn = sampler.draw(logits, &request.sampling, stream, self.drawn());
            drawn.ok_or(Error::NotFinite { length: self.tokens.len() })
        };
        Ok(match (&self.stage, &request.choice) {
            (Stage::Prompt, _) if request.sampling.max_new_tokens == 0 => Reading::FirstTokens(Vec::new()),
            (Stage::Prompt, _) => {
                Reading::FirstTokens(request.streams.iter().copied().map(draw).collect::<Result<_>>()?)
            }
            (Stage::Verdict(_), Some(choice)) => {
                let mut options: Vec<f32> =
                    choice.options.iter().map(|&option| logits[option as usize]).collect();
                if options.iter().any(|logit| !logit.is_finite()) {
                    return Err(Error::NotFinite { length: self.tokens.len() });
                }
                softmax(&mut options);
                Reading::Options(options)
            }
            _ => Reading::NextToken(draw(request.streams[self.sample])?),
        })
    }

    /// Takes the next token of the text; none if the text is to end at once. If this ends the sample: its generation.
    pub(crate) fn accept(
        &mut self,
        drawn: Option<Drawn>,
        request: &Request,
        limits: Limits<'_>,
    ) -> Result<Option<Generation>> {
        let Some(generation) = self.extend_text(drawn, request, limits)? else { return Ok(None) };
        let Some(choice) = &request.choice else { return Ok(Some(generation)) };
        let kept = request.prompt.len() + generation.tokens.len();
        self.tokens.truncate(kept);
        self.tokens.extend_from_slice(&choice.prefix);
        // Where all tokens are in the cache, the last is computed again: it is its logits that are wanted.
        self.computed = self.computed.min(kept).min(self.tokens.len() - 1);
        self.stage = Stage::Verdict(generation);
        Ok(None)
    }

    /// Takes the probabilities of the options: the sample has ended. `None` if no verdict was due.
    pub(crate) fn conclude(&mut self, probabilities: Vec<f32>) -> Option<Generation> {
        match std::mem::replace(&mut self.stage, Stage::Text) {
            Stage::Verdict(generation) => Some(Generation { choice: Some(probabilities), ..generation }),
            Stage::Prompt | Stage::Text => None,
        }
    }

    /// Takes the next token. If it ends the text: the generation, still without its verdict.
    fn extend_text(
        &mut self,
        drawn: Option<Drawn>,
        request: &Request,
        limits: Limits<'_>,
    ) -> Result<Option<Generation>> {
        let (longest, mut finish) = request.length_limit(limits.context);
        if let Some(Drawn { token, logprob }) = drawn {
            self.logprobs.push(logprob);
            if limits.end_tokens.contains(&token) {
                finish = FinishReason::EndToken;
            } else {
                self.tokens.push(token);
                let text_tokens = &self.tokens[request.prompt.len()..];
                if let Some(stopped) =
                    self.stop.push(text_tokens, &request.sampling.stop, limits.tokenizer)?
                {
                    let tokens = text_tokens[..stopped.kept].to_vec();
                    let logprobs = self.logprobs[..stopped.kept].to_vec();
                    let (text, finish) = (stopped.text, FinishReason::Stop);
                    return Ok(Some(Generation { tokens, text, logprobs, finish, choice: None }));
                }
                if self.drawn() < longest {
                    return Ok(None);
                }
            }
        }
        let tokens = self.tokens[request.prompt.len()..].to_vec();
        let text = limits.tokenizer.decode(&tokens)?;
        let logprobs = self.logprobs.clone();
        Ok(Some(Generation { tokens, text, logprobs, finish, choice: None }))
    }
}
