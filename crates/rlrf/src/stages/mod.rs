//! The stages one by one, from file to file.
//!
//! Each keeps the rows that it has finished in `OUT.partial`, a run folder beside its output: interrupted or killed
//! and repeated, it goes on from there. The output itself is written whole at the end, and the folder goes. An output
//! may take the place of its own input: its digest is recorded first, so that a repeat after a kill in between knows it.

mod candidates;
mod feedback_model;
mod reward;
mod training;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rlrf_local::TrainingStage;
use rlrf_method::Table;
use rlrf_method::digest::digest;
use rlrf_method::seam::Policy;
use rlrf_model::Model;
use rlrf_model::folder::{clear_leftovers, refuse_foreign as refuse_foreign_model};
use rlrf_store::{Artifact, RunStore, write_atomically};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Settings;
use crate::config::Config;
use crate::console::{self, Console};
use crate::inputs::{Reader, changed, resolved_configuration, short_digest};
use crate::{model_source, models};

pub(crate) use candidates::{feedback, pairs, refine, refine_demonstrations, sample};
pub(crate) use feedback_model::{train as train_feedback, write_records};
pub(crate) use reward::{pairs as reward_pairs, train as reward_train};
pub(crate) use training::{dpo, grpo, sft};

/// Name of the output in the database of its rows.
const OUTPUT: &str = "output";

/// A stage's settings, and what it has read.
struct Stage {
    command: &'static str,
    config: Config,
    reader: Reader,
}

impl Stage {
    /// `keys` are the settings that decide the output; those of the other stages are ignored.
    fn new(command: &'static str, settings: &Settings, keys: &[&str]) -> Result<Self> {
        let keys = [keys, &["engine"]].concat();
        let config = Config::load_stage(settings.config.as_deref(), &settings.set, &keys)?;
        Ok(Self { command, config, reader: Reader::new(settings.config.as_deref()) })
    }

    fn model(&mut self, folder: &Path) -> Result<Model> {
        let model = models::load(folder)?;
        self.reader.remember_given("model", folder, &model.digest());
        Ok(model)
    }

    /// A model that answers, from a folder or at an endpoint.
    fn policy(&mut self, source: &str, name: Option<&str>) -> Result<Box<dyn Policy>> {
        let policy = model_source::open(source, name, self.config.engine())?;
        self.reader.remember_given("model", Path::new(source), &policy.digest());
        Ok(policy)
    }

    /// The unfinished output `out`, with the rows of an interrupted call of the same command on the same inputs. None
    /// if that call had come to its end, but for cleaning up: then its report is repeated.
    fn begin(&self, out: &Path, json: bool, console: &Console) -> Result<Option<PartialOutput<'_>>> {
        if let Some(option) = self.reader.option_of(out).filter(|option| !self.may_replace(option)) {
            bail!("--out {}: is what --{option} reads; choose another name", out.display());
        }
        let folder = beside(out, "", ".partial")?;
        remove(&finished_folder(out)?)?;
        refuse_foreign(&folder)?;
        let resolved = self.resolved(self.reader.digests())?;
        if let Some(finished) = finished(out, &folder) {
            clean_up(out, &folder)?;
            if finished.body["repeat"] == digest(&resolved).as_str() {
                console.say(&format!("{} is finished already", out.display()));
                report(json, &finished.body["figures"], finished.body["line"].as_str().unwrap_or_default())?;
                return Ok(None);
            }
        }
        let store = match open_rows(&folder, &resolved) {
            Err(error @ rlrf_store::Error::ConfigurationChanged { .. }) => {
                bail!(
                    "{}\nit was left by a command that did not finish: remove that folder to start over",
                    changed(error)
                )
            }
            opened => opened?,
        };
        Ok(Some(PartialOutput { stage: self, out: out.to_path_buf(), folder, store, json }))
    }

    /// Candidates get their feedback and their refinements in place, if one likes.
    fn may_replace(&self, option: &str) -> bool {
        option == "candidates" && ["feedback", "refine"].contains(&self.command)
    }

    fn resolved(&self, inputs: &BTreeMap<String, String>) -> Result<String> {
        resolved_configuration(Some(self.command), &self.config, inputs)
    }
}

/// The record of an output that is in its place already, whose folder of rows a killed process left.
fn finished(out: &Path, folder: &Path) -> Option<Artifact> {
    let recorded = RunStore::open_read_only(folder).ok()?.artifact(OUTPUT).ok()??;
    let present = match out.is_dir() {
        true => models::load_any(out).ok()?.digest(),
        false => short_digest(&fs::read(out).ok()?),
    };
    (present == recorded.digest).then_some(recorded)
}

/// An output on its way: complete or absent under its own name.
struct PartialOutput<'a> {
    stage: &'a Stage,
    out: PathBuf,
    folder: PathBuf,
    store: RunStore,
    json: bool,
}

impl PartialOutput<'_> {
    /// A stage that trains keeps its checkpoint among the rows.
    fn training_stage(&self, name: &str) -> TrainingStage {
        TrainingStage { name: name.into(), iteration: 0, checkpoint: self.folder.join("checkpoint") }
    }

    /// Nothing is to come: leaves no folder behind, unless it holds something to go on from.
    fn abandon(self) -> Result<()> {
        let Self { folder, store, .. } = self;
        drop(store);
        if holds_no_rows(&folder) { remove(&folder) } else { Ok(()) }
    }

    /// Writes the output and reports.
    fn finish_file(self, bytes: &[u8], figures: &impl Serialize, line: &str) -> Result<()> {
        self.record(&short_digest(bytes), figures, line)?;
        write_atomically(&self.out, bytes)?;
        self.finish(figures, line)
    }

    /// Saves a model as the output and reports.
    fn finish_model(self, model: &Model, figures: &impl Serialize, line: &str) -> Result<()> {
        self.record(&model.digest(), figures, line)?;
        clear_leftovers(&self.out)?;
        models::save(model, &self.out)?;
        self.finish(figures, line)
    }

    /// Says what the output will be before it takes its place, which may be that of an input.
    fn record(&self, output: &str, figures: &impl Serialize, line: &str) -> Result<()> {
        let repeated = self.stage.resolved(&self.stage.reader.digests_after(&self.out, output))?;
        let body = json!({ "repeat": digest(&repeated), "figures": figures, "line": line });
        Ok(self.store.record_artifact(OUTPUT, output, &body)?)
    }

    fn finish(self, figures: &impl Serialize, line: &str) -> Result<()> {
        let Self { out, folder, store, json, .. } = self;
        drop(store);
        clean_up(&out, &folder)?;
        report(json, figures, line)
    }
}

/// Renamed before it is removed: a folder removed in part could not be continued.
fn clean_up(out: &Path, folder: &Path) -> Result<()> {
    let finished = finished_folder(out)?;
    fs::rename(folder, &finished).with_context(|| format!("{}: cannot rename", folder.display()))?;
    remove(&finished)
}

/// A name that nobody else gives: it is removed without a question.
fn finished_folder(out: &Path) -> Result<PathBuf> {
    beside(out, ".", ".finished-by-rlrf")
}

/// The folder of rows goes in the end; what a user keeps under its name must not go with it.
pub(crate) fn refuse_foreign(folder: &Path) -> Result<()> {
    let Ok(mut entries) = fs::read_dir(folder) else { return Ok(()) };
    // A process killed at its very beginning leaves a lock and a temporary file.
    let ours = |name: OsString| {
        name.to_str().is_some_and(|name| name.starts_with("run.") || name.starts_with(".run."))
    };
    if entries.any(|entry| entry.is_ok_and(|entry| !ours(entry.file_name())))
        && !folder.join("run.toml").is_file()
    {
        bail!(
            "{}: is needed for this command's own files, but holds others; choose another --out",
            folder.display()
        );
    }
    Ok(())
}

/// Opens a folder of rows, created if need be. A command that failed before it computed anything must not bind the next
/// one to its settings: such a folder begins anew.
pub(crate) fn open_rows(folder: &Path, resolved: &str) -> Result<RunStore, rlrf_store::Error> {
    let open = || RunStore::create_or_open(folder, resolved, &digest(&resolved));
    match open() {
        Err(error @ rlrf_store::Error::ConfigurationChanged { .. }) if holds_no_rows(folder) => {
            fs::remove_dir_all(folder).map_err(|_| error)?;
            open()
        }
        opened => opened,
    }
}

/// Whether nothing was computed yet.
fn holds_no_rows(folder: &Path) -> bool {
    let Ok(store) = RunStore::open_read_only(folder) else { return false };
    Table::ALL.iter().all(|&table| store.count(table, 0).is_ok_and(|count| count == 0))
}

fn beside(out: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    let Some(name) = out.file_name() else { bail!("--out {}: give it a name of its own", out.display()) };
    let mut beside = OsString::from(prefix);
    beside.push(name);
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
    refuse_foreign_model(out).context("--out")
}

/// What was done: one line, or an object with `--json`.
fn report(json: bool, figures: &impl Serialize, line: &str) -> Result<()> {
    if json {
        console::print(&serde_json::to_string_pretty(figures)?)?;
    } else {
        console::print(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stage that has read its candidates.
    fn stage(command: &'static str, file: &Path) -> Stage {
        let mut stage = Stage::new(command, &Settings { config: None, set: Vec::new() }, &[]).unwrap();
        stage.reader.given("candidates", file).unwrap();
        stage
    }

    #[test]
    fn killed_between_its_output_and_the_clean_up_a_stage_is_finished_when_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let (file, rows) = (folder.path().join("c.jsonl"), folder.path().join("c.jsonl.partial"));
        let console = Console::new(true);
        let replace = |command| {
            fs::write(&file, "before").unwrap();
            let stage = stage(command, &file);
            let output = stage.begin(&file, false, &console).unwrap().unwrap();
            output.record(&short_digest(b"after"), &json!({ "judged": 3 }), "3 judged").unwrap();
        };
        replace("feedback");
        assert!(
            stage("feedback", &file).begin(&file, false, &console).unwrap().is_some(),
            "not replaced yet"
        );
        fs::write(&file, "after").unwrap();
        assert!(stage("feedback", &file).begin(&file, false, &console).unwrap().is_none());
        assert!(!rows.exists());
        assert!(stage("feedback", &file).begin(&file, false, &console).unwrap().is_some(), "a new call");

        fs::remove_dir_all(&rows).unwrap();
        replace("feedback");
        fs::write(&file, "after").unwrap();
        let next = stage("refine", &file);
        assert!(next.begin(&file, false, &console).unwrap().is_some(), "another command begins");
    }

    #[test]
    fn no_other_input_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.jsonl");
        fs::write(&file, "before").unwrap();
        for command in ["pairs", "sample"] {
            let stage = stage(command, &file);
            let message = stage.begin(&file, false, &Console::new(true)).err().unwrap().to_string();
            assert!(message.contains("c.jsonl: is what --candidates reads"), "{message}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_the_users_is_never_taken_for_ours() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("c.jsonl");
        fs::write(&out, "before").unwrap();
        for name in ["c.jsonl.partial", "c.jsonl.finished"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("thesis"), "").unwrap();
        }
        let message =
            stage("refine", &out).begin(&out, false, &Console::new(true)).err().unwrap().to_string();
        assert!(message.contains("c.jsonl.partial: is needed"), "{message}");
        assert!(folder.path().join("c.jsonl.finished/thesis").exists());
    }
}
