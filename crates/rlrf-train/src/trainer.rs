//! The loop that all objectives share.

use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use rlrf_kernels::gradients::norm;
use rlrf_model::{Adapter, Decoder};

use crate::checkpoint::{self, Found, Progress, Vectors};
use crate::fingerprint::Fingerprint;
use crate::optimizer::zeros;
use crate::{
    Error, Lanes, Objective, Optimizer, Result, Schedule, StepMetrics, TrainingConfig, TrainingControl,
    TrainingSummary,
};

/// Minimises `objective` by AdamW, changing `decoder` in place: all its parameters, or fresh adapters where the
/// configuration has `lora`, which then stay attached for the caller to merge ([`Decoder::merge`]). Adapters that are
/// attached before are merged first.
///
/// Holds gradients and two moments of what is trained, 12 bytes per parameter (16 where they are few, see [`Lanes`]), beside the weights
/// and the activations of a microbatch. If
/// the control names a checkpoint folder, the run resumes from it when it was written by the same run (same
/// configuration, data and starting model), and otherwise says so and starts afresh; the caller removes it with
/// [`remove_checkpoint`](crate::remove_checkpoint) once the trained model is safe.
///
/// Errors: [`Error::Config`]; [`Error::NonFinite`], with `decoder` and checkpoint as they were before the step;
/// [`Error::Interrupted`]; [`Error::Checkpoint`]; the model's. After an error `decoder` is partly trained, or,
/// with `lora`, as it was.
pub fn train(
    decoder: &mut Decoder,
    objective: &dyn Objective,
    config: &TrainingConfig,
    control: &mut dyn TrainingControl,
) -> Result<TrainingSummary> {
    config.validate()?;
    if objective.is_empty() {
        return Err(Error::NoExamples);
    }
    // Adapters of an earlier training are part of the model by now.
    decoder.merge();
    if let Some(lora) = &config.lora {
        decoder.attach(Adapter::new(lora.clone(), decoder.layout(), config.seed)?);
    }
    let outcome = run(decoder, objective, config, control);
    if outcome.is_err() {
        decoder.detach();
    }
    outcome
}

fn run(
    decoder: &mut Decoder,
    objective: &dyn Objective,
    config: &TrainingConfig,
    control: &mut dyn TrainingControl,
) -> Result<TrainingSummary> {
    let mut trainer = Trainer::new(decoder, objective, config, control);
    let resumed_from = trainer.resume(control);
    let mut last_step = None;
    while trainer.progress.step < trainer.schedule.total_steps {
        let metrics = trainer.step()?;
        trainer.report(&metrics, control);
        last_step = Some(metrics);
        let finished = trainer.progress.step == trainer.schedule.total_steps;
        let interrupted = control.stop_requested() && !finished;
        if interrupted || finished || trainer.checkpoint_is_due() {
            trainer.check_parameters()?;
        }
        if interrupted || (trainer.checkpoint_is_due() && !finished) {
            trainer.save_checkpoint(control)?;
        }
        if interrupted {
            let (step, total_steps) = (trainer.progress.step, trainer.schedule.total_steps);
            return Err(Error::Interrupted { step, total_steps });
        }
    }
    let progress = trainer.progress;
    Ok(TrainingSummary {
        steps: progress.step,
        tokens: progress.tokens,
        mean_loss: progress.loss_sum / progress.step as f64,
        warnings: progress.warnings,
        resumed_from,
        last_step,
    })
}

struct Trainer<'a> {
    decoder: &'a mut Decoder,
    objective: &'a dyn Objective,
    config: &'a TrainingConfig,
    schedule: Schedule,
    optimizer: Optimizer,
    /// Zero between steps.
    gradients: Vec<f32>,
    lanes: Lanes,
    order: EpochOrder,
    progress: Progress,
    /// Present where there is a place for checkpoints.
    fingerprint: Option<Fingerprint>,
}

impl<'a> Trainer<'a> {
    fn new(
        decoder: &'a mut Decoder,
        objective: &'a dyn Objective,
        config: &'a TrainingConfig,
        control: &dyn TrainingControl,
    ) -> Self {
        let fingerprint =
            control.checkpoint_folder().map(|_| Fingerprint::new(config, objective, decoder.parameters()));
        Self {
            schedule: config.learning_rate_schedule(config.total_steps(objective.len())),
            optimizer: Optimizer::new(decoder.trainable_entries(), config),
            gradients: zeros(decoder.trainable().len()),
            lanes: Lanes::new(config.computation(), config.tokens_per_microbatch),
            order: EpochOrder::new(config.seed, objective.len()),
            progress: Progress::default(),
            fingerprint,
            decoder,
            objective,
            config,
        }
    }

    fn resume(&mut self, control: &mut dyn TrainingControl) -> Option<u64> {
        let (folder, fingerprint) = (control.checkpoint_folder()?, self.fingerprint.as_ref()?);
        let vectors = Vectors {
            parameters: self.decoder.trainable_mut(),
            first_moment: &mut self.optimizer.first_moment,
            second_moment: &mut self.optimizer.second_moment,
        };
        match checkpoint::load(folder, fingerprint, vectors) {
            Found::Nothing => None,
            Found::Resumed(progress) => {
                self.optimizer.step = progress.step;
                self.progress = progress;
                let (step, total_steps) = (self.progress.step, self.schedule.total_steps);
                control.on_notice(&format!("training goes on after step {step} of {total_steps}"));
                Some(step)
            }
            Found::Unusable(reason) => {
                control.on_notice(&format!("training starts afresh, the checkpoint is of no use: {reason}"));
                None
            }
        }
    }

    fn step(&mut self) -> Result<StepMetrics> {
        let started = Instant::now();
        let indices = self.order.batch(self.progress.step, self.config.batch_size);
        let loss =
            self.objective.loss_and_gradients(self.decoder, indices, &mut self.lanes, &mut self.gradients)?;
        self.check_finite("the loss", loss.loss)?;
        let gradient_norm = norm(&self.gradients);
        self.check_finite("the gradient norm", gradient_norm)?;
        let learning_rate = self.schedule.learning_rate(self.progress.step);
        let gradients = &mut self.gradients;
        self.optimizer.update(self.decoder.trainable_mut(), gradients, gradient_norm, learning_rate);
        self.progress.step += 1;
        self.progress.loss_sum += loss.loss;
        self.progress.tokens += loss.tokens;
        self.progress.warnings += u64::from(loss.warning.is_some());
        Ok(StepMetrics {
            step: self.progress.step,
            total_steps: self.schedule.total_steps,
            loss: loss.loss,
            learning_rate,
            gradient_norm,
            tokens: loss.tokens,
            tokens_per_second: loss.tokens as f64 / started.elapsed().as_secs_f64(),
            preference: loss.preference,
            policy: loss.policy,
            reward: loss.reward,
            warning: loss.warning,
        })
    }

    fn check_finite(&self, quantity: &'static str, value: f64) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let learning_rate = self.schedule.learning_rate(self.progress.step);
        Err(Error::NonFinite { quantity, value, step: self.progress.step + 1, learning_rate })
    }

    fn report(&self, metrics: &StepMetrics, control: &mut dyn TrainingControl) {
        control.on_step(metrics);
        if let Some(warning) = metrics.warning.as_ref().filter(|_| self.progress.warnings == 1) {
            control.on_notice(&format!("step {}: {warning}", metrics.step));
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        self.fingerprint.is_some()
            && self.config.checkpoint_every > 0
            && self.progress.step.is_multiple_of(self.config.checkpoint_every)
    }

    /// A checkpoint must never keep parameters that the next step would refuse.
    fn check_parameters(&self) -> Result<()> {
        // Without a way out of the loop over a chunk, which keeps it in vector registers.
        let finite = |chunk: &[f32]| chunk.iter().fold(true, |finite, value| finite & value.is_finite());
        let broken = self.decoder.trainable().par_chunks(1 << 16).find_first(|chunk| !finite(chunk));
        let Some(&value) = broken.and_then(|chunk| chunk.iter().find(|value| !value.is_finite())) else {
            return Ok(());
        };
        let step = self.progress.step;
        let learning_rate = self.schedule.learning_rate(step - 1);
        Err(Error::NonFinite {
            quantity: "a parameter after the update",
            value: value.into(),
            step,
            learning_rate,
        })
    }

    fn save_checkpoint(&self, control: &dyn TrainingControl) -> Result<()> {
        let (Some(folder), Some(fingerprint)) = (control.checkpoint_folder(), &self.fingerprint) else {
            return Ok(());
        };
        let vectors = Vectors {
            parameters: self.decoder.trainable(),
            first_moment: &self.optimizer.first_moment,
            second_moment: &self.optimizer.second_moment,
        };
        checkpoint::save(folder, fingerprint, &self.progress, vectors)
    }
}

/// The order of examples: a shuffle per epoch that depends on the seed and the epoch alone, so that any step can
/// be the first one after a resumption.
struct EpochOrder {
    seed: u64,
    epoch: Option<u64>,
    indices: Vec<usize>,
}

impl EpochOrder {
    fn new(seed: u64, examples: usize) -> Self {
        Self { seed, epoch: None, indices: (0..examples).collect() }
    }

    /// The examples of step `step`, from 0.
    fn batch(&mut self, step: u64, batch_size: usize) -> &[usize] {
        let steps_per_epoch = self.indices.len().div_ceil(batch_size) as u64;
        let epoch = step / steps_per_epoch;
        if self.epoch != Some(epoch) {
            let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
            generator.set_stream(epoch);
            self.indices.sort_unstable();
            self.indices.shuffle(&mut generator);
            self.epoch = Some(epoch);
        }
        let start = (step % steps_per_epoch) as usize * batch_size;
        &self.indices[start..self.indices.len().min(start + batch_size)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_each_example_once_in_another_order() {
        let mut order = EpochOrder::new(7, 10);
        let mut epoch = |first: u64| -> Vec<usize> {
            (first..first + 3).flat_map(|step| order.batch(step, 4).to_vec()).collect()
        };
        let (first, second) = (epoch(0), epoch(3));
        assert_ne!(first, second);
        for mut indices in [first, second.clone()] {
            indices.sort_unstable();
            assert_eq!(indices, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(EpochOrder::new(7, 10).batch(4, 4), &second[4..8]);
    }
}
