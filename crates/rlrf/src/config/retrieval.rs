//! Where the feedback's reference knowledge is looked up.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetrievalConfig {
    /// Folder of an index (`rlrf index build`).
    pub(crate) index: PathBuf,
    /// Passages for an instruction, at most.
    #[serde(default = "three")]
    pub(crate) passages: usize,
    /// Whether passages take the place of an instruction's own reference, too.
    #[serde(default)]
    pub(crate) always: bool,
}

fn three() -> usize {
    3
}

impl RetrievalConfig {
    pub(super) fn validate(&self) -> Result<()> {
        if self.passages == 0 {
            bail!("configuration: feedback.retrieval.passages = 0: must be at least 1");
        }
        Ok(())
    }
}
