//! The models that a run has before its first iteration: each made once, or taken over.

use anyhow::{Context, Result};
use rlrf_local::{LocalReward, TrainingStage};
use rlrf_method::digest::stream;
use rlrf_model::Model;

use super::{POLICY, REWARD_EVALUATION, Run};
use crate::file_lock::FileLock;
use crate::models;
use crate::starting_model::{FineTuning, StartingModel};
use crate::starting_reward::StartingReward;

impl Run<'_> {
    /// The policy or the feedback model before the first iteration.
    pub(super) fn start_tuned(&mut self, name: &str, starting: StartingModel) -> Result<Model> {
        let stage = self.stage(&format!("sft {name}"), 0);
        self.start(name, &starting.digest(&stage.name), &stage, |run| {
            let seed = starting.seed;
            let (mut model, sft) = starting.make()?;
            if name == POLICY {
                run.refuse_long_instructions(&model)?;
            }
            if let Some(FineTuning { section, demonstrations }) = sft {
                let settings = section.settings(stream(seed, &stage.name, "", 0));
                let (store, console) = (&mut run.store, run.console);
                rlrf_local::fine_tune(&mut model, &demonstrations, &settings, &stage, store, console)?;
            }
            Ok(model)
        })
    }

    /// The reward model, measured on the pairs held out.
    pub(super) fn start_reward(
        &mut self,
        starting: &StartingReward,
        policy: &Model,
        policy_digest: &str,
    ) -> Result<Model> {
        let stage = self.stage("reward model", 0);
        let model = self.start("reward", &starting.digest(policy_digest), &stage, |run| {
            let mut model = starting.make(policy)?;
            if !starting.preferences.is_empty() {
                let settings = starting.settings(&stage.name);
                let (store, console) = (&mut run.store, run.console);
                let preferences = &starting.preferences;
                rlrf_local::fit_reward(&mut model, preferences, &settings, &stage, store, console)?;
            }
            Ok(model)
        })?;
        if !starting.held_out.is_empty() && self.store.artifact(REWARD_EVALUATION)?.is_none() {
            let mut context = rlrf_eval::Context { store: &mut self.store, progress: self.console };
            let mut reward = LocalReward::new(&model);
            let outcome =
                rlrf_eval::reward::evaluate(&mut context, &mut reward, "held-out pairs", &starting.held_out)?;
            self.console.say(rlrf_report::evaluation_table(&outcome.evaluation).trim_end());
            let body = serde_json::to_value(&outcome.evaluation)?;
            self.store.record_artifact(REWARD_EVALUATION, "", &body)?;
        }
        self.keep_timings()?;
        Ok(model)
    }

    /// A model before the first iteration, made now if neither the run nor what it shares with others has it yet.
    fn start(
        &mut self,
        name: &str,
        digest: &str,
        stage: &TrainingStage,
        make: impl FnOnce(&mut Self) -> Result<Model>,
    ) -> Result<Model> {
        if let Some(finished) = self.finished_model(name, stage)? {
            return Ok(finished);
        }
        let Some(folder) = self.shared_models else {
            let mut model = make(self)?;
            self.finish_model(name, &mut model, stage)?;
            return Ok(model);
        };
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create", folder.display()))?;
        // Another command on the same comparison may be making it: it is made once.
        let _making = FileLock::wait(&folder.join(format!("{digest}.lock")), self.console)?;
        let shared = folder.join(digest);
        let is_made = shared.exists();
        let mut model = if is_made { models::load_any(&shared)? } else { make(self)? };
        self.finish_model(name, &mut model, stage)?;
        if !is_made {
            models::save(&model, &shared)?;
        }
        Ok(model)
    }
}
