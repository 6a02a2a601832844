//! The one way in which benchmarks ask a model, be it the one that is measured or a judge.

use std::collections::HashMap;

use rlrf_method::committer::{Committer, read_row, write_row};
use rlrf_method::config::Sampling;
use rlrf_method::iteration::generation_key;
use rlrf_method::seam::{Generated, GenerationRequest, Policy, Progress};
use rlrf_method::{Error, Message, Result, Row, RowStore, Table};

/// One conversation to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Unique in its stage; names the rows.
    pub id: String,
    /// The conversation; ends with a user's message.
    pub messages: Vec<Message>,
    /// One response for each stream. Another stream is another draw: this is how a reply is asked for once more.
    pub streams: Vec<u64>,
    /// How they are drawn.
    pub sampling: Sampling,
}

/// Tokens of a response; none where the model does not tell them, as endpoints do not.
#[must_use]
pub fn known_length(generated: &Generated) -> Option<u64> {
    let told = !generated.tokens.is_empty() || (generated.text.is_empty() && generated.logprob.is_some());
    told.then_some(generated.tokens.len() as u64)
}

/// Where rows are kept, and who watches.
pub struct Context<'a> {
    /// Keeps what was drawn.
    pub store: &'a mut dyn RowStore,
    /// Watches, and may ask to stop.
    pub progress: &'a dyn Progress,
}

/// [`respond`], with none for a prompt that does not fit the model's context.
///
/// # Errors
/// As [`respond`].
pub fn respond_if_fits(
    context: &mut Context<'_>,
    stage: &str,
    iteration: u32,
    model: &mut dyn Policy,
    mut prompts: Vec<Prompt>,
) -> Result<Vec<Option<Vec<Generated>>>> {
    let fits = prompts.iter().map(|prompt| model.fits(&prompt.messages)).collect::<Result<Vec<_>>>()?;
    let mut each = fits.iter();
    prompts.retain(|_| each.next() == Some(&true));
    let mut responses = respond(context, stage, iteration, model, &prompts)?.into_iter();
    Ok(fits.into_iter().map(|fits| if fits { responses.next() } else { None }).collect())
}

/// The responses of `model` to `prompts`: one `Vec` a prompt, one response a stream, in their order.
///
/// A response is kept under the digest of everything that decides it: the model, the messages, the sampling and the
/// stream. What the store holds is not drawn again, nor is anything drawn twice that two prompts share; all that is
/// missing goes to the model in one call and is committed in small transactions as it comes. A judge's replies are so
/// cached by judge, template, instruction and response.
///
/// `stage` names the stage in the progress and the rows, `iteration` is that of the model that is measured.
///
/// # Errors
/// A failure of model or store; a prompt that does not fit the model's context ([`respond_if_fits`] leaves it out); the
/// user's interruption. Whatever was finished is committed.
pub fn respond(
    context: &mut Context<'_>,
    stage: &str,
    iteration: u32,
    model: &mut dyn Policy,
    prompts: &[Prompt],
) -> Result<Vec<Vec<Generated>>> {
    let digest = model.digest();
    let mut wanted: Vec<Vec<String>> = Vec::with_capacity(prompts.len());
    let mut known: HashMap<String, Option<Generated>> = HashMap::new();
    let mut requests: Vec<GenerationRequest> = Vec::new();
    // Of each request: its prompt, and the key and position of each stream.
    let mut places: Vec<(usize, Vec<(String, u32)>)> = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let mut keys = Vec::with_capacity(prompt.streams.len());
        let (mut streams, mut missing) = (Vec::new(), Vec::new());
        for (position, &stream) in (0u32..).zip(&prompt.streams) {
            let key = generation_key(&digest, &prompt.messages, &prompt.sampling, stream);
            if !known.contains_key(&key) {
                let committed = context.store.get(Table::Generations, &key)?;
                if committed.is_none() {
                    streams.push(stream);
                    missing.push((key.clone(), position));
                }
                let generated = committed.map(|body| read_row(Table::Generations, &key, body)).transpose()?;
                known.insert(key.clone(), generated);
            }
            keys.push(key);
        }
        if !streams.is_empty() {
            requests.push(GenerationRequest {
                messages: prompt.messages.clone(),
                streams,
                sampling: prompt.sampling.clone(),
            });
            places.push((index, missing));
        }
        wanted.push(keys);
    }
    let missing: usize = places.iter().map(|(_, missing)| missing.len()).sum();
    let progress = context.progress;
    progress.begin(&format!("{stage} M_{iteration}"), known.len() as u64, (known.len() - missing) as u64);
    let mut committer = Committer::new(context.store);
    let generated = if requests.is_empty() {
        Ok(())
    } else {
        model.generate(&requests, &mut |request, sample, generated| {
            let (prompt, missing) = &places[request];
            let (key, position) = &missing[sample];
            let mut body = write_row(Table::Generations, key, &generated)?;
            body["kind"] = stage.into();
            progress.advance(1, generated.tokens.len() as u64);
            known.insert(key.clone(), Some(generated));
            committer.push(
                Table::Generations,
                Row {
                    key: key.clone(),
                    iteration,
                    instruction: format!("{stage}/{}", prompts[*prompt].id),
                    position: *position,
                    body,
                },
            )?;
            if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        })
    };
    committer.flush()?;
    progress.end();
    generated?;
    let respond = |(prompt, keys): (&Prompt, Vec<String>)| {
        let each = keys.iter().map(|key| known.get(key).cloned().flatten());
        each.collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::Backend(format!("{stage}: no response came back for {}", prompt.id)))
    };
    prompts.iter().zip(wanted).map(respond).collect()
}
