//! A model whose responses are kept as they come: what was paid for once is never asked for again.

use std::collections::HashMap;

use crate::committer::{Committer, read_row, write_row};
use crate::error::Result;
use crate::instruction::Message;
use crate::iteration::generation_key;
use crate::row::{Row, RowStore, SharedStore, Table};
use crate::seam::{ChoiceRequest, ChoiceSink, Generated, GenerationRequest, GenerationSink, Policy};

/// Responses of `policy`, kept under the digest of everything that decides them.
pub struct KeptPolicy<'a, 's> {
    /// Who is asked for what is not there.
    pub policy: &'a mut (dyn Policy + 'a),
    /// Where the responses are kept.
    pub store: SharedStore<'s>,
    /// Iteration of the loop that asks.
    pub iteration: u32,
    /// What the responses are for: names their rows.
    pub stage: &'static str,
}

impl Policy for KeptPolicy<'_, '_> {
    fn digest(&self) -> String {
        self.policy.digest()
    }

    fn fits(&self, messages: &[Message]) -> Result<bool> {
        self.policy.fits(messages)
    }

    fn generate(&mut self, requests: &[GenerationRequest], sink: &mut GenerationSink<'_>) -> Result<()> {
        let model = self.policy.digest();
        let mut missing: Vec<GenerationRequest> = Vec::new();
        // Of each stream of each missing request: its key.
        let mut keys: Vec<Vec<String>> = Vec::new();
        // Who waits for a key: index of the request, and of its stream.
        let mut waiting: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        for (index, request) in requests.iter().enumerate() {
            let (mut streams, mut own) = (Vec::new(), Vec::new());
            for (sample, &stream) in request.streams.iter().enumerate() {
                let key = generation_key(&model, &request.messages, &request.sampling, stream);
                if let Some(body) = self.store.get(Table::Generations, &key)? {
                    sink(index, sample, read_row(Table::Generations, &key, body)?)?;
                    continue;
                }
                let waiters = waiting.entry(key.clone()).or_default();
                waiters.push((index, sample));
                if waiters.len() == 1 {
                    streams.push(stream);
                    own.push(key);
                }
            }
            if !streams.is_empty() {
                missing.push(GenerationRequest { streams, ..request.clone() });
                keys.push(own);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (stage, iteration) = (self.stage, self.iteration);
        let mut committer = Committer::new(&mut self.store);
        let generated = self.policy.generate(&missing, &mut |request, stream, generated: Generated| {
            let key = &keys[request][stream];
            let mut body = write_row(Table::Generations, key, &generated)?;
            body["kind"] = stage.into();
            let (key, instruction) = (key.clone(), stage.to_string());
            let row = Row { key: key.clone(), iteration, instruction, position: 0, body };
            committer.push(Table::Generations, row)?;
            let waiters = waiting.get(&key).into_iter().flatten();
            waiters.copied().try_for_each(|(index, sample)| sink(index, sample, generated.clone()))
        });
        committer.flush()?;
        generated
    }

    fn choose(&mut self, requests: &[ChoiceRequest], sink: &mut ChoiceSink<'_>) -> Result<bool> {
        self.policy.choose(requests, sink)
    }
}
