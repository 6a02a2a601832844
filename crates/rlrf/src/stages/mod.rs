//! The stages one by one, from file to file.
//!
//! Each keeps the rows that it has finished in `OUT.partial`, a run folder beside its output: interrupted or killed
//! and repeated, it goes on from there. The output itself is written whole at the end, and the folder goes.

mod candidates;
mod evaluation;
mod training;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rlrf_local::TrainingStage;
use rlrf_method::Table;
use rlrf_method::digest::digest;
use rlrf_model::Model;
use rlrf_store::{RunStore, write_atomically};
use serde::Serialize;

use crate::arguments::Settings;
use crate::config::Config;
use crate::inputs::{Reader, resolved_configuration};
use crate::models;

pub(crate) use candidates::{feedback, pairs, refine, sample};
pub(crate) use evaluation::eval;
pub(crate) use training::{dpo, sft};

/// A stage's settings, and what it has read.
struct Stage {
    command: &'static str,
    config: Config,
    reader: Reader,
}

impl Stage {
    fn new(command: &'static str, settings: &Settings) -> Result<Self> {
        let config = Config::load(settings.config.as_deref(), &settings.set)?;
        Ok(Self { command, config, reader: Reader::new(settings.config.as_deref()) })
    }

    fn model(&mut self, folder: &Path) -> Result<Model> {
        let model = models::load(folder)?;
        self.reader.remember("model", &model.digest());
        Ok(model)
    }

    /// The unfinished output `out`, with the rows of an interrupted call of the same command on the same inputs.
    fn begin(&self, out: &Path) -> Result<PartialOutput> {
        let folder = beside(out, ".partial")?;
        remove(&beside(out, ".finished")?)?;
        let resolved = resolved_configuration(Some(self.command), &self.config, &self.reader)?;
        let open = || RunStore::create_or_open(&folder, &resolved, &digest(&resolved));
        let store = match open() {
            Err(rlrf_store::Error::ConfigurationChanged { .. }) if holds_no_rows(&folder) => {
                remove(&folder)?;
                open()?
            }
            Err(error @ rlrf_store::Error::ConfigurationChanged { .. }) => {
                bail!(
                    "{error}\nit was left by a command that did not finish: remove that folder to start over"
                )
            }
            opened => opened?,
        };
        Ok(PartialOutput { out: out.to_path_buf(), folder, store })
    }
}

/// An output on its way: complete or absent under its own name.
struct PartialOutput {
    out: PathBuf,
    folder: PathBuf,
    store: RunStore,
}

impl PartialOutput {
    /// A stage that trains keeps its checkpoint among the rows.
    fn training_stage(&self, name: &str) -> TrainingStage {
        TrainingStage { name: name.into(), iteration: 0, checkpoint: self.folder.join("checkpoint") }
    }

    fn finish_file(self, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.out, bytes)?;
        self.remove()
    }

    /// Saves a model as the output; gives its digest.
    fn finish_model(self, model: &Model) -> Result<String> {
        models::clear_leftovers(&self.out)?;
        let digest = models::save(model, &self.out)?;
        self.remove()?;
        Ok(digest)
    }

    /// Renamed before it is removed: a folder removed in part could not be continued.
    fn remove(self) -> Result<()> {
        let Self { out, folder, store } = self;
        drop(store);
        let finished = beside(&out, ".finished")?;
        fs::rename(&folder, &finished).with_context(|| format!("{}: cannot rename", folder.display()))?;
        remove(&finished)
    }
}

/// Whether nothing was computed yet: a command that failed at once must not bind the next one to its settings.
fn holds_no_rows(folder: &Path) -> bool {
    let Ok(store) = RunStore::open_read_only(folder) else { return false };
    Table::ALL.iter().all(|&table| store.count(table, 0).is_ok_and(|count| count == 0))
}

fn beside(out: &Path, suffix: &str) -> Result<PathBuf> {
    let Some(name) = out.file_name() else { bail!("--out {}: give it a name of its own", out.display()) };
    let mut beside = OsString::from(name);
    beside.push(suffix);
    Ok(out.with_file_name(beside))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("{}: cannot remove", folder.display()))?;
    }
    Ok(())
}

/// Before any time is spent: the output will be a file.
fn expect_file(out: &Path) -> Result<()> {
    if out.is_dir() {
        bail!("--out {}: is a folder; give the name of a file", out.display());
    }
    Ok(())
}

/// Before any time is spent: the output will be a model folder, and takes the place of nothing else.
fn expect_model_folder(out: &Path) -> Result<()> {
    let foreign = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some() && !out.join("config.json").is_file(),
        Err(_) => out.exists(),
    };
    if foreign {
        bail!("--out {}: exists and is not a model folder; choose another name", out.display());
    }
    Ok(())
}

/// What was done: one line, or an object with `--json`.
fn report(json: bool, figures: &impl Serialize, line: &str) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
    } else {
        println!("{line}");
    }
    Ok(())
}
