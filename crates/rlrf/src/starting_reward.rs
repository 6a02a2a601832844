//! The reward model that a run starts from, with the pairs that it learns and those that it is measured on.

use anyhow::{Result, anyhow, bail};
use rlrf_method::digest::{digest, stream};
use rlrf_method::pairs::PreferenceGroup;
use rlrf_model::Model;

use crate::config::{Config, HeldOut, NewModelConfig, RewardConfig};
use crate::inputs::{Reader, RunInputs};
use crate::models;
use crate::overlap::Trained;
use crate::starting_model::{check_new, make_new, written_demonstrations};

/// A reward model before its training.
pub(crate) struct StartingReward {
    origin: RewardOrigin,
    section: RewardConfig,
    /// Decides the score head and the order of pairs.
    pub(crate) seed: u64,
    /// What it learns; nothing where it is used as it is.
    pub(crate) preferences: Vec<PreferenceGroup>,
    /// What it is measured on.
    pub(crate) held_out: Vec<PreferenceGroup>,
}

enum RewardOrigin {
    Loaded(Box<Model>),
    New(NewModelConfig),
    Policy,
}

impl StartingReward {
    /// Reads and checks what the section names; `trained` gets the questions that the model will learn from.
    pub(crate) fn read(
        config: &Config,
        reader: &mut Reader,
        inputs: &RunInputs,
        trained: &mut Trained,
    ) -> Result<Self> {
        let section = config.reward.clone();
        let seed = section.seed.unwrap_or(config.seed);
        let origin = match (&section.model, &section.new, section.from_policy) {
            (Some(folder), ..) => {
                let model = models::load_any(&reader.path(folder))?;
                reader.remember("reward.model", &model.digest());
                if !model.is_reward() && !section.is_trained() {
                    bail!(
                        "configuration: reward.model = {folder:?} is a language model, whose score head would be random: \
                         name a reward model, or what it learns (`reward.files`, `reward.demonstrations`)"
                    );
                }
                RewardOrigin::Loaded(Box::new(model))
            }
            (None, Some(new), _) => {
                check_new("reward", new)?;
                RewardOrigin::New(new.clone())
            }
            (None, None, true) => RewardOrigin::Policy,
            (None, None, false) => bail!(
                "configuration: candidates are to be scored by a reward model (score.reward_weight = {}), but there is \
                 none: set `reward.model` (a model folder), `reward.new`, or `reward.from_policy = true`",
                config.score.reward_weight
            ),
        };
        if !matches!(origin, RewardOrigin::Loaded(_)) && !section.is_trained() {
            bail!(
                "configuration: a new reward model has a random score head: name what it learns, `reward.files` or \
                 `reward.demonstrations = true`"
            );
        }
        let mut preferences = Vec::new();
        for file in &section.files {
            preferences.extend(reader.preferences(file)?);
        }
        if section.demonstrations {
            let written = written_demonstrations(config, seed, reader, inputs, trained)?.preferences;
            if written.is_empty() {
                bail!(
                    "configuration: reward.demonstrations = true, but no pair is written: set \
                     demonstrations.per_problem.preferences and mistakes to at least 1"
                );
            }
            preferences.extend(written);
        }
        let (preferences, held_out) = held_out(&section.held_out, preferences, seed, reader)?;
        for group in &preferences {
            trained.add(&group.messages, &format!("a preference pair (prompt {})", group.instruction));
        }
        Ok(Self { origin, section, seed, preferences, held_out })
    }

    /// The questions of a file of held-out pairs; a share that is held out comes from what is learnt, and is told apart there.
    pub(crate) fn questions_of_held_out_file(&self) -> Vec<String> {
        match &self.section.held_out {
            HeldOut::File(_) => {
                let asked = self.held_out.iter().filter_map(|group| group.messages.last());
                asked.map(|message| message.content.clone()).collect()
            }
            HeldOut::Share(_) => Vec::new(),
        }
    }

    /// Identity of everything that decides the model; `policy` is that of the policy's starting model.
    pub(crate) fn digest(&self, policy: &str) -> String {
        let origin = match &self.origin {
            RewardOrigin::Loaded(model) => digest(&("loaded", model.digest())),
            RewardOrigin::New(new) => digest(&("new", new)),
            RewardOrigin::Policy => digest(&("policy", policy)),
        };
        let learnt = |PreferenceGroup { messages, candidates, pairs, margins, .. }: &PreferenceGroup| {
            let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
            digest(&(messages, texts, pairs, margins))
        };
        let learnt: Vec<String> = self.preferences.iter().map(learnt).collect();
        let training = (!learnt.is_empty()).then(|| self.section.settings(0));
        digest(&("starting reward", origin, self.seed, learnt, training))
    }

    /// The model before its training; `policy` is `M_0`.
    pub(crate) fn make(&self, policy: &Model) -> Result<Model> {
        let base = match &self.origin {
            RewardOrigin::Loaded(model) => (**model).clone(),
            RewardOrigin::Policy => policy.clone(),
            RewardOrigin::New(new) => {
                let texts = self.preferences.iter().flat_map(|group| {
                    let prompts = group.messages.iter().map(|message| message.content.clone());
                    prompts.chain(group.candidates.iter().map(|candidate| candidate.text.clone()))
                });
                make_new(new, texts, self.seed)?
            }
        };
        Ok(base.into_reward(stream(self.seed, "score head", "", 0))?)
    }

    /// How it is trained in the stage of this name.
    pub(crate) fn settings(&self, stage: &str) -> rlrf_local::RewardTrainingConfig {
        self.section.settings(stream(self.seed, stage, "", 0))
    }
}

/// The pairs to be learnt, and those that are not. A share is drawn instruction by instruction: all pairs of one are on the
/// same side, and no other instruction's matter for it.
pub(crate) fn held_out(
    held_out: &HeldOut,
    preferences: Vec<PreferenceGroup>,
    seed: u64,
    reader: &mut Reader,
) -> Result<(Vec<PreferenceGroup>, Vec<PreferenceGroup>)> {
    let share = match held_out {
        HeldOut::File(file) => return Ok((preferences, reader.preferences(file)?)),
        HeldOut::Share(share) => *share,
    };
    let before = preferences.len();
    let (held_out, learnt): (Vec<_>, Vec<_>) = preferences.into_iter().partition(|group| {
        let drawn = stream(seed, "held out", &group.instruction, 0);
        (drawn as f64) < share * (u64::MAX as f64)
    });
    if learnt.is_empty() && before > 0 {
        return Err(anyhow!(
            "reward.held_out = {share} leaves no pair to learn: there are pairs of {before} prompts"
        ));
    }
    Ok((learnt, held_out))
}

#[cfg(test)]
mod tests {
    use rlrf_method::preference_file::read_preferences;

    use super::*;

    #[test]
    fn a_share_of_the_instructions_is_held_out_and_none_is_on_both_sides() {
        let lines: String = (0..4000)
            .map(|n| {
                let (prompt, chosen) = (n / 2, n);
                format!("{{\"prompt\": \"q{prompt}\", \"chosen\": \"a{chosen}\", \"rejected\": \"b\"}}\n")
            })
            .collect();
        let preferences = read_preferences("p.jsonl", lines.as_bytes()).unwrap();
        let split = |seed| {
            held_out(&HeldOut::Share(0.25), preferences.clone(), seed, &mut Reader::new(None)).unwrap()
        };
        let (learnt, out) = split(1);
        assert_eq!(learnt.len() + out.len(), 2000);
        assert!((420..580).contains(&out.len()), "{}", out.len());
        assert!(out.iter().all(|group| group.pairs.len() == 2 && !learnt.contains(group)));
        assert_eq!(split(1), (learnt, out.clone()));
        assert_ne!(split(2).1, out);
        let all = held_out(&HeldOut::Share(0.0), preferences.clone(), 1, &mut Reader::new(None)).unwrap();
        assert_eq!(all, (preferences, Vec::new()));
    }
}
