//! From the method's messages to a model's tokens.

use rlrf_method::digest::digest;
use rlrf_method::pairs::TrainedCandidate;
use rlrf_method::seam::Generated;
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

/// What is wrong with a conversation that leaves no room for an answer in the model's context; none if it does.
///
/// # Errors
/// The chat template refuses it.
pub fn too_long(model: &Model, messages: &[Message]) -> Result<Option<String>> {
    let (tokens, context) =
        (prompt_tokens(model, messages)?.len(), model.decoder.config().max_position_embeddings);
    Ok((tokens >= context).then(|| {
        format!("its prompt has {tokens} tokens, which leaves no room in the model's context of {context}")
    }))
}

/// Refuses the tokens of a response that are not those of its text in the model's vocabulary: another model drew them.
///
/// # Errors
/// They are not.
pub fn refuse_other_tokens(model: &Model, response: &Generated) -> Result<()> {
    let Generated { text, tokens, .. } = response;
    // A decoder skips what it does not know.
    let known = tokens.iter().all(|&token| (token as usize) < model.decoder.config().vocab_size);
    if tokens.is_empty() || known && model.tokenizer.decode(tokens).is_ok_and(|decoded| decoded == *text) {
        return Ok(());
    }
    let begin: String = text.chars().take(40).collect();
    Err(Error::Backend(format!(
        "the `tokens` of the response {begin:?}... are not those of its text in this model's vocabulary: train the model \
         that drew them, or take `tokens` out of the file"
    )))
}

/// The tokens of a candidate as a response: as drawn where they are known; with the end of turn if it came to its end.
pub(crate) fn candidate_tokens(model: &Model, candidate: &TrainedCandidate) -> Result<Vec<u32>> {
    if candidate.tokens.is_empty() && !candidate.text.is_empty() {
        let mut tokens = model.chat.response(&model.tokenizer, &candidate.text).map_err(backend)?;
        if !candidate.complete {
            tokens.pop();
        }
        return Ok(tokens);
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
