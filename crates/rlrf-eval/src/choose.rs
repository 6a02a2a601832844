//! Asking a model to choose: probabilities in place of a reply, kept like the responses of [`respond`](crate::respond()).

use std::collections::HashMap;

use rlrf_method::committer::{Committer, read_row, write_row};
use rlrf_method::digest::digest;
use rlrf_method::seam::{ChoiceRequest, Policy};
use rlrf_method::{Error, Result, Row, Table};
use serde::{Deserialize, Serialize};

use crate::respond::Context;

/// A row of [`Table::Feedback`].
#[derive(Serialize, Deserialize)]
struct Choice {
    kind: String,
    /// None in the one row that says that the model does not tell.
    probabilities: Option<Vec<f64>>,
}

/// The probabilities of each question's options, or none if `model` does not tell them. Questions have their ids with
/// them, which name the rows.
///
/// What the store holds is not asked again; that the model does not tell is kept, too.
///
/// # Errors
/// A failure of model or store; a question that does not fit the model's context (ask [`Policy::fits`] before); the
/// user's interruption. Whatever was finished is committed.
pub fn choose(
    context: &mut Context<'_>,
    stage: &str,
    iteration: u32,
    model: &mut dyn Policy,
    questions: &[(String, ChoiceRequest)],
) -> Result<Option<Vec<Vec<f64>>>> {
    let model_digest = model.digest();
    let silent = digest(&("no choice", &model_digest));
    if questions.is_empty() || context.store.get(Table::Feedback, &silent)?.is_some() {
        return Ok(questions.is_empty().then(Vec::new));
    }
    let keys: Vec<String> =
        questions.iter().map(|(_, request)| digest(&("choice", &model_digest, request))).collect();
    let mut known: HashMap<&str, Option<Vec<f64>>> = HashMap::new();
    let mut missing: Vec<usize> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        if !known.contains_key(key.as_str()) {
            let committed = context.store.get(Table::Feedback, key)?;
            let committed =
                committed.map(|body| read_row::<Choice>(Table::Feedback, key, body)).transpose()?;
            let probabilities = committed.and_then(|choice| choice.probabilities);
            if probabilities.is_none() {
                missing.push(index);
            }
            known.insert(key, probabilities);
        }
    }
    let requests: Vec<ChoiceRequest> = missing.iter().map(|&index| questions[index].1.clone()).collect();
    let row = |key: &str, instruction: String, probabilities: Option<&Vec<f64>>| -> Result<Row> {
        let choice = Choice { kind: stage.into(), probabilities: probabilities.cloned() };
        let body = write_row(Table::Feedback, key, &choice)?;
        Ok(Row { key: key.to_string(), iteration, instruction, position: 0, body })
    };
    let progress = context.progress;
    progress.begin(
        &format!("{stage} M_{iteration}"),
        known.len() as u64,
        (known.len() - missing.len()) as u64,
    );
    let mut committer = Committer::new(context.store);
    let told = if requests.is_empty() {
        Ok(true)
    } else {
        model.choose(&requests, &mut |request, probabilities| {
            let index = missing[request];
            let instruction = format!("{stage}/{}", questions[index].0);
            committer.push(Table::Feedback, row(&keys[index], instruction, Some(&probabilities))?)?;
            known.insert(&keys[index], Some(probabilities));
            progress.advance(1, 0);
            if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        })
    };
    if matches!(told, Ok(false)) {
        committer.push(Table::Feedback, row(&silent, stage.to_string(), None)?)?;
    }
    committer.flush()?;
    progress.end();
    if !told? {
        return Ok(None);
    }
    let chosen = questions.iter().zip(&keys).map(|((id, _), key)| {
        let probabilities = known.get(key.as_str()).cloned().flatten();
        probabilities.ok_or_else(|| Error::Backend(format!("{stage}: no choice came back for {id}")))
    });
    chosen.collect::<Result<Vec<_>>>().map(Some)
}
