//! The seams: what the loop asks of models, judges, rewards, checkers and trainers, and of whoever watches it.

use serde::{Deserialize, Serialize};

use crate::aspect::Aspect;
use crate::config::Sampling;
use crate::error::Result;
use crate::feedback::{Feedback, FeedbackSource, ParseOutcome};
use crate::instruction::{Instruction, Message};
use crate::row::RowStore;

/// Responses wanted to one conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// The conversation; ends with a user's message.
    pub messages: Vec<Message>,
    /// One response for each stream; a response depends on the model, the messages, the sampling and its stream alone.
    pub streams: Vec<u64>,
    /// How it is drawn.
    pub sampling: Sampling,
}

/// One response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// Its tokens as drawn, without the end token; empty where the model does not tell.
    #[serde(default)]
    pub tokens: Vec<u32>,
    /// Sum of the tokens' log-probabilities, where the model tells.
    pub logprob: Option<f64>,
    /// Whether the model ended it (and not the length limit).
    #[serde(default = "complete")]
    pub complete: bool,
}

/// Responses from elsewhere seldom tell, and are whole as a rule.
fn complete() -> bool {
    true
}

/// Takes a finished response: request index, index of its stream, the response.
pub type GenerationSink<'a> = dyn FnMut(usize, usize, Generated) -> Result<()> + 'a;

/// A question whose answer is one of a few.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceRequest {
    /// The conversation; ends with a user's message.
    pub messages: Vec<Message>,
    /// The answers to choose among, as the model would write them: at least two, all different.
    pub options: Vec<String>,
}

/// Takes the probabilities of a question's options: request index, one probability an option, 1 in all; none where the
/// model's answer begins as none of them, as far as it tells.
pub type ChoiceSink<'a> = dyn FnMut(usize, Vec<f64>) -> Result<()> + 'a;

/// A model that answers: the policy `M_t`.
pub trait Policy {
    /// Identity of everything that decides its responses (weights, tokenizer, chat template).
    fn digest(&self) -> String;
    /// Whether the conversation leaves room for a response in the model's context.
    ///
    /// # Errors
    /// A failure of the model.
    fn fits(&self, messages: &[Message]) -> Result<bool>;
    /// Draws all responses, in any order; stops when the sink returns an error, and returns that.
    ///
    /// # Errors
    /// A prompt that does not fit, or a failure of the model.
    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()>;
    /// The probability that the model's answer begins as each option does rather than as the others, in any order of
    /// requests; stops when the sink returns an error, and returns that. `false`, before the sink was called at all, says
    /// that the model does not tell: ask it with [`Policy::generate`] and read the text.
    ///
    /// # Errors
    /// A prompt that does not fit, or a failure of the model.
    fn choose(&mut self, requests: &[ChoiceRequest], sink: &mut ChoiceSink<'_>) -> Result<bool> {
        let _ = (requests, sink);
        Ok(false)
    }
}

/// One response to be judged on one aspect.
#[derive(Debug, Clone, Copy)]
pub struct JudgeRequest<'a> {
    /// What was asked, with its reference.
    pub instruction: &'a Instruction,
    /// The response.
    pub response: &'a str,
    /// The aspect.
    pub aspect: &'a Aspect,
}

/// Gives feedback: the policy itself, another model, an endpoint, a checker.
pub trait Judge {
    /// Identity of everything that decides its feedback (model, template, sampling).
    fn digest(&self) -> String;
    /// Judges all requests, in any order; stops when the sink returns an error, and returns that. A response that is
    /// too long to be judged gets failed feedback: one of them must not end the stage for all.
    ///
    /// # Errors
    /// A failure of the model.
    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()>;
}

/// Responses to one conversation, to be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardRequest<'a> {
    /// The conversation `x`, without its reference.
    pub messages: &'a [Message],
    /// Distinct responses.
    pub responses: Vec<&'a str>,
}

/// Takes the rewards of a request's responses, in their order; none for one that the model cannot read whole.
pub type RewardSink<'a> = dyn FnMut(usize, Vec<Option<f64>>) -> Result<()> + 'a;

/// A scalar preference score `r(x, y)`; breaks ties between equal aspect scores.
pub trait Reward {
    /// Identity of everything that decides its rewards (weights, tokenizer, chat template).
    fn digest(&self) -> String;
    /// Scores all responses, request by request in any order; stops when the sink returns an error, and returns that. A
    /// reward depends on its conversation and its response alone.
    ///
    /// # Errors
    /// A failure of the model.
    fn rewards(&mut self, requests: &[RewardRequest<'_>], sink: &mut RewardSink<'_>) -> Result<()>;
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Whether the answer is exactly right.
    pub correct: bool,
    /// Whether the response could be read as an answer at all; an unreadable one is wrong and counted.
    pub readable: bool,
    /// The finding as text, naming what is wrong and where.
    pub critique: String,
    /// The finding as a level of the rubric.
    pub level: u8,
}

/// Decides exactly, by a program.
pub trait Checker {
    /// Identity of the rules.
    fn digest(&self) -> String;
    /// Checks one response.
    ///
    /// # Errors
    /// The instruction has no answer, or one that the checker cannot read.
    fn check(&self, instruction: &Instruction, response: &str) -> Result<Check>;
}

/// Fine-tunes the policy: `M_t` to `M_{t+1}`.
pub trait Trainer {
    /// What it learns from: preference pairs, scored samples, demonstrations.
    type Example;
    /// Trains the policy on `examples`, in place.
    ///
    /// # Errors
    /// Training failed or was interrupted; a later call on the same data goes on where it stopped.
    fn train(
        &mut self,
        examples: &[Self::Example],
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<()>;
}

/// A checker as a judge: its finding is the feedback on whatever aspect it is asked for.
pub struct CheckerJudge<'a>(pub &'a dyn Checker);

impl Judge for CheckerJudge<'_> {
    fn digest(&self) -> String {
        self.0.digest()
    }

    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            let check = self.0.check(request.instruction, request.response)?;
            let (aspect, parsed) = (&request.aspect.name, ParseOutcome::Parsed);
            let feedback = Feedback::from_level(aspect, check.critique, check.level, parsed);
            sink(index, Feedback { source: FeedbackSource::Checker, ..feedback })?;
        }
        Ok(())
    }
}

/// Watches a long stage, and may ask it to stop.
pub trait Progress {
    /// A stage of `total` items begins, of which `done` were there already.
    fn begin(&self, stage: &str, total: u64, done: u64);
    /// So many items more are finished, with so many tokens.
    fn advance(&self, items: u64, tokens: u64);
    /// The stage has ended.
    fn end(&self);
    /// Something that the user should read.
    fn notice(&self, message: &str);
    /// Whether the user wants to stop.
    fn interrupted(&self) -> bool;
}
