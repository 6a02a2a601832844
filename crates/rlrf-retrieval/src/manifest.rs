//! What an index says about itself.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::analysis::ANALYSIS;
use crate::error::{Error, Result};

/// Version of the index's layout: raised when an older rlrf could not read a new index, or the other way round.
pub(crate) const FORMAT: u32 = 1;

pub(crate) const MANIFEST_FILE: &str = "index.json";

/// The contents of an index in figures; `index.json` in its folder, the last file to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// How text was made into terms.
    pub analysis: String,
    /// Digest of every passage with its title and number, in the order of the corpus, and of the analysis: equal
    /// digests find the same passages for the same query.
    pub digest: String,
    /// Records with text.
    pub documents: u64,
    /// Records without any text; they are left out.
    pub empty_documents: u64,
    /// Passages.
    pub passages: u64,
    /// Text of the passages, in bytes.
    pub text_bytes: u64,
    /// Words that a passage of a text has at most; passages that the corpus brought are as they were.
    pub passage_words: usize,
}

impl Manifest {
    /// Reads the manifest of the index in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let no_index = |cause: String| Error::NoIndex { folder: folder.to_path_buf(), cause };
        let bytes = fs::read(folder.join(MANIFEST_FILE))
            .map_err(|cause| no_index(format!("{MANIFEST_FILE}: {cause}")))?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|cause| no_index(format!("{MANIFEST_FILE}: {cause}")))?;
        let Some(found) = value.get("format").and_then(serde_json::Value::as_u64) else {
            return Err(no_index(format!("{MANIFEST_FILE}: has no field `format`")));
        };
        if found != u64::from(FORMAT) {
            return Err(Error::Version { folder: folder.to_path_buf(), found, expected: FORMAT });
        }
        let manifest: Self = serde_json::from_value(value).map_err(|cause| Error::Damaged {
            folder: folder.to_path_buf(),
            cause: format!("{MANIFEST_FILE}: {cause}"),
        })?;
        if manifest.analysis != ANALYSIS {
            return Err(Error::Damaged {
                folder: folder.to_path_buf(),
                cause: format!("analysis {:?} is unknown, expected {ANALYSIS:?}", manifest.analysis),
            });
        }
        Ok(manifest)
    }
}
