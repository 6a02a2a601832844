//! Log-probabilities under the model before training, each computed once and kept in the store.

use rlrf_method::digest::digest;
use rlrf_method::seam::Progress;
use rlrf_method::{Error, Result, Row, RowStore, Table};
use rlrf_model::{Decoder, Model, Precision};
use rlrf_train::{ResponseTree, TrainingConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::tokens::backend;

/// Instructions whose reference log-probabilities are computed and committed together.
const CHUNK: usize = 32;

/// What is computed of trees: log-probabilities by completion or by token, under their name in the keys of rows.
pub(super) type Computed<T> =
    (&'static str, fn(&Decoder, &[ResponseTree<'_>], usize, Precision) -> rlrf_train::Result<Vec<T>>);

/// The reference model `M_t`, which is the policy before its training.
pub(super) struct Reference<'a> {
    pub(super) model: &'a Model,
    pub(super) training: &'a TrainingConfig,
    pub(super) iteration: u32,
}

impl Reference<'_> {
    /// The log-probabilities of each tree, whose instruction stands beside it.
    pub(super) fn logprobs<T: Clone + Serialize + DeserializeOwned>(
        &self,
        (name, compute): Computed<T>,
        trees: &[(ResponseTree<'_>, &str)],
        store: &mut dyn RowStore,
        progress: &dyn Progress,
    ) -> Result<Vec<T>> {
        let (reference, precision) = (self.model.digest(), self.training.precision);
        let keys: Vec<String> = trees
            .iter()
            .map(|(tree, _)| {
                let key = (name, &reference, tree.prompt, &tree.completions);
                if precision == Precision::F32 { digest(&key) } else { digest(&(key, precision)) }
            })
            .collect();
        let mut known: Vec<Option<T>> = Vec::with_capacity(trees.len());
        for key in &keys {
            let row = store.get(Table::RefLogprobs, key)?;
            known.push(row.map(|body| read(key, body["logprobs"].clone())).transpose()?);
        }
        let missing: Vec<usize> = (0..trees.len()).filter(|&index| known[index].is_none()).collect();
        progress.begin(
            &format!("reference M_{}", self.iteration),
            trees.len() as u64,
            (trees.len() - missing.len()) as u64,
        );
        for chunk in missing.chunks(CHUNK) {
            let of_chunk: Vec<ResponseTree<'_>> = chunk.iter().map(|&index| trees[index].0.clone()).collect();
            let rows: u64 = of_chunk.iter().map(|tree| tree.rows() as u64).sum();
            let budget = self.training.tokens_per_microbatch;
            let logprobs = compute(&self.model.decoder, &of_chunk, budget, precision).map_err(backend)?;
            let mut committed = Vec::new();
            for (&index, logprobs) in chunk.iter().zip(logprobs) {
                let row = Row {
                    key: keys[index].clone(),
                    iteration: self.iteration,
                    instruction: trees[index].1.to_string(),
                    position: 0,
                    body: json!({ "model": reference, "precision": precision, "logprobs": logprobs }),
                };
                committed.push((Table::RefLogprobs, row));
                known[index] = Some(logprobs);
            }
            store.commit(&committed)?;
            progress.advance(chunk.len() as u64, rows);
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
        }
        progress.end();
        Ok(known.into_iter().flatten().collect())
    }
}

fn read<T: DeserializeOwned>(key: &str, logprobs: serde_json::Value) -> Result<T> {
    serde_json::from_value(logprobs).map_err(|error| Error::Row {
        table: Table::RefLogprobs.name(),
        key: key.to_string(),
        message: error.to_string(),
    })
}
