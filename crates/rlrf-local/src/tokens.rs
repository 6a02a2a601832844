//! From the method's messages to a model's tokens.

use rlrf_method::digest::digest;
use rlrf_method::pairs::TrainedCandidate;
use rlrf_method::{Error, Message, Result};
use rlrf_model::{ChatMessage, Model, WeightFormat};

/// An error of the model as one of the method.
pub(crate) fn backend(error: impl std::fmt::Display) -> Error {
    Error::Backend(error.to_string())
}

/// The tokens that the model continues.
pub(crate) fn prompt_tokens(model: &Model, messages: &[Message]) -> Result<Vec<u32>> {
    let messages: Vec<ChatMessage<'_>> =
        messages.iter().map(|m| ChatMessage { role: m.role.name(), content: &m.content }).collect();
    model.chat.prompt(&model.tokenizer, &messages).map_err(backend)
}

/// The tokens of a candidate as a response: as drawn where they are known, with the end of turn if it was ended.
pub(crate) fn candidate_tokens(model: &Model, candidate: &TrainedCandidate) -> Result<Vec<u32>> {
    if candidate.tokens.is_empty() && !candidate.text.is_empty() {
        return model.chat.response(&model.tokenizer, &candidate.text).map_err(backend);
    }
    let mut tokens = candidate.tokens.clone();
    if candidate.complete {
        tokens.push(model.chat.end_of_turn());
    }
    Ok(tokens)
}

/// What decides a model's responses: itself, and how its weights are held.
pub(crate) fn identity(model: &Model, weights: WeightFormat) -> String {
    match weights {
        WeightFormat::F32 => model.digest(),
        rounded => digest(&("weights", model.digest(), rounded)),
    }
}
