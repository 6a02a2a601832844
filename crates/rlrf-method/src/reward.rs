//! Rewards of many responses, each computed once and kept as a row.

use std::collections::HashMap;

use serde_json::json;

use crate::committer::{Committer, read_row};
use crate::digest::digest;
use crate::error::{Error, Result};
use crate::instruction::Message;
use crate::row::{Row, RowStore, Table};
use crate::seam::{Progress, Reward, RewardRequest};

/// Responses to one instruction that are to be scored; the same text may occur again.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredResponses<'a> {
    /// Id of the instruction; names the rows.
    pub instruction: &'a str,
    /// The conversation.
    pub messages: &'a [Message],
    /// The responses.
    pub responses: Vec<&'a str>,
}

/// The reward of every response, in the order of `scored`; none for one that the reward model cannot read whole.
///
/// A reward is kept under the digest of everything that decides it: the model, the conversation, the response. What the
/// store holds is not computed again, and responses with the same text are computed once. `stage` names the stage in the
/// progress, `iteration` the rows.
///
/// # Errors
/// A failure of model or store, or the user's interruption; whatever was finished is committed.
pub fn rewards(
    reward: &mut dyn Reward,
    scored: &[ScoredResponses<'_>],
    stage: &str,
    iteration: u32,
    store: &mut dyn RowStore,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Option<f64>>>> {
    let model = reward.digest();
    let key = |messages: &[Message], response: &str| digest(&("reward", &model, messages, response));
    let keys: Vec<Vec<String>> = scored
        .iter()
        .map(|group| group.responses.iter().map(|response| key(group.messages, response)).collect())
        .collect();
    let mut known: HashMap<&str, Option<Option<f64>>> = HashMap::new();
    let mut requests: Vec<RewardRequest<'_>> = Vec::new();
    // Where each response of a request came from: its group, and its place there.
    let mut places: Vec<Vec<(usize, usize)>> = Vec::new();
    for (group, keys) in keys.iter().enumerate() {
        let mut missing = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            if known.contains_key(key.as_str()) {
                continue;
            }
            let committed = store.get(Table::Rewards, key)?;
            let committed =
                committed.map(|mut body| read_row(Table::Rewards, key, body["reward"].take())).transpose()?;
            if committed.is_none() {
                missing.push((group, place));
            }
            known.insert(key, committed);
        }
        if !missing.is_empty() {
            let responses = missing.iter().map(|&(_, place)| scored[group].responses[place]).collect();
            requests.push(RewardRequest { messages: scored[group].messages, responses });
            places.push(missing);
        }
    }
    let missing: usize = places.iter().map(Vec::len).sum();
    progress.begin(stage, known.len() as u64, (known.len() - missing) as u64);
    let mut committer = Committer::new(store);
    let computed = reward.rewards(&requests, &mut |request, rewards| {
        progress.advance(rewards.len() as u64, 0);
        for (&(group, place), reward) in places[request].iter().zip(rewards) {
            let key = &keys[group][place];
            known.insert(key, Some(reward));
            let row = Row {
                key: key.clone(),
                iteration,
                instruction: scored[group].instruction.to_string(),
                position: u32::try_from(place).unwrap_or(u32::MAX),
                body: json!({ "reward": reward, "response": scored[group].responses[place] }),
            };
            committer.push(Table::Rewards, row)?;
        }
        if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    });
    committer.flush()?;
    progress.end();
    computed?;
    let found = |key: &String| {
        let reward = known.get(key.as_str()).copied().flatten();
        reward.ok_or_else(|| Error::Backend(format!("{stage}: a reward did not come back")))
    };
    keys.iter().map(|keys| keys.iter().map(found).collect()).collect()
}
