//! How the caller of a training run watches and steers it.

use std::path::Path;

use crate::StepMetrics;

/// What a caller wants to hear of, and where the run may keep its checkpoint. `()` wants nothing.
pub trait TrainingControl {
    /// Folder for the checkpoint, if the run is to survive an interruption. A checkpoint of the same run found there is resumed.
    fn checkpoint_folder(&self) -> Option<&Path> {
        None
    }
    /// Whether to stop after the step at hand; the run then writes its checkpoint and returns
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    fn stop_requested(&self) -> bool {
        false
    }
    /// After every optimizer step.
    fn on_step(&mut self, _metrics: &StepMetrics) {}
    /// Something that the user should read: resumed, checkpoint ignored, degenerate training (once per run).
    fn on_notice(&mut self, _message: &str) {}
}

impl TrainingControl for () {}
