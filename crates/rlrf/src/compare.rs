//! `rlrf compare`: a grid of methods and seeds, each a run of its own, that share whatever is common to them.
//!
//! The runs lie in the folder of the comparison, `METHOD-seed-N` each, beside the starting models in `models/`. They are made one
//! after the other, seed by seed, so that an unfinished comparison already compares; a run takes over rows of the
//! earlier runs of its seed. Repeated, the command goes on where it was; a run of the same configuration that `compare.json`
//! holds is not made again, even where its folder is gone.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rlrf_report::{Grid, GridRun, Summary, grid_html, grid_table};
use rlrf_store::write_atomically;
use serde::Deserialize;

use crate::arguments::GridOptions;
use crate::config::{Config, describe};
use crate::console::{self, Console};
use crate::file_lock::FileLock;
use crate::run::{PreparedRun, Shared};

/// A grid file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GridFile {
    /// Name of the comparison; its folder is `runs/NAME`.
    name: String,
    /// The configuration that all runs begin with.
    config: PathBuf,
    /// Seeds of every method that names none.
    seeds: Vec<u64>,
    /// Settings of all runs, as `--set` takes them.
    #[serde(default)]
    set: Vec<String>,
    /// The methods; the first is what the others are compared with.
    methods: Vec<GridMethod>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GridMethod {
    /// Its name in tables.
    name: String,
    /// Its settings, beside those of all.
    #[serde(default)]
    set: Vec<String>,
    /// Its seeds, in place of those of all.
    seeds: Option<Vec<u64>>,
}

impl GridFile {
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot read the grid", path.display()))?;
        let grid: Self = toml::from_str(&text).map_err(|error| describe(path, &text, &error))?;
        let bad = |message: String| anyhow!("{}: {message}", path.display());
        if grid.methods.is_empty() {
            return Err(bad("`methods` is empty: name at least one".into()));
        }
        let mut names = HashSet::new();
        for name in grid.methods.iter().map(|method| &method.name).chain([&grid.name]) {
            if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
                return Err(bad(format!("name = {name:?}: must be a plain folder name")));
            }
        }
        for method in &grid.methods {
            if !names.insert(&method.name) {
                return Err(bad(format!("the method {:?} is given twice", method.name)));
            }
            let mut seeds = HashSet::new();
            for seed in grid.seeds_of(method) {
                if !seeds.insert(seed) {
                    return Err(bad(format!("the method {:?} has the seed {seed} twice", method.name)));
                }
            }
            if seeds.is_empty() {
                return Err(bad(format!("the method {:?} has no seed: name `seeds`", method.name)));
            }
        }
        Ok(grid)
    }

    fn seeds_of<'a>(&'a self, method: &'a GridMethod) -> &'a [u64] {
        method.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// Method and seed of every run, in the order in which they are made.
    fn runs(&self) -> Vec<(&GridMethod, u64)> {
        let mut seeds: Vec<u64> = self.seeds.clone();
        for seed in self.methods.iter().flat_map(|method| self.seeds_of(method)) {
            if !seeds.contains(seed) {
                seeds.push(*seed);
            }
        }
        let of_seed = |seed: u64| {
            self.methods
                .iter()
                .filter(move |method| self.seeds_of(method).contains(&seed))
                .map(move |m| (m, seed))
        };
        seeds.into_iter().flat_map(of_seed).collect()
    }
}

pub(crate) fn compare(options: &GridOptions, json: bool, console: &Console) -> Result<()> {
    let file = GridFile::read(&options.grid)?;
    for name in &options.only {
        if file.methods.iter().all(|method| &method.name != name) {
            let names: Vec<&str> = file.methods.iter().map(|method| method.name.as_str()).collect();
            bail!("--only {name}: no such method; there are {}", names.join(", "));
        }
    }
    let runs = file.runs();
    for seed in &options.seeds {
        if runs.iter().all(|(_, other)| other != seed) {
            bail!("--seed {seed}: no run of the grid has this seed");
        }
    }
    let wanted = |method: &GridMethod, seed: u64| {
        (options.only.is_empty() || options.only.contains(&method.name))
            && (options.seeds.is_empty() || options.seeds.contains(&seed))
    };
    let out = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&file.name));
    let config = options.grid.parent().unwrap_or(Path::new("")).join(&file.config);
    let prepare = |method: &GridMethod, seed: u64| {
        PreparedRun::read(&config, &settings(&file, method, seed, options))
            .with_context(|| format!("method {:?}", method.name))
    };
    // What is wrong with any of them shows before the first begins; with one that is not asked for, never.
    console.say("checking the methods");
    let mut digests = HashMap::new();
    for method in &file.methods {
        let seeds = file.seeds_of(method);
        let is_wanted = seeds.iter().any(|seed| wanted(method, *seed));
        // Seeds change nothing but the seed.
        let prepared = match prepare(method, seeds[0]) {
            Err(error) if is_wanted => return Err(error),
            prepared => prepared.ok(),
        };
        for &seed in seeds {
            let config = Config::load(Some(&config), &settings(&file, method, seed, options)).ok();
            let digest = prepared.as_ref().zip(config).map(|(prepared, config)| prepared.digest_of(&config));
            digests.insert((method.name.clone(), seed), digest.transpose()?);
        }
    }
    let planned: Vec<PlannedRun> = runs
        .iter()
        .map(|(method, seed)| PlannedRun {
            method: method.name.clone(),
            seed: *seed,
            digest: digests.remove(&(method.name.clone(), *seed)).flatten(),
        })
        .collect();
    let record = GridRecord { file: &file, out: &out, planned: &planned, console };
    let mut grid = record.write(None)?;
    for (number, (method, seed)) in runs.iter().enumerate() {
        let is_made = grid.runs.iter().any(|run| run.method == method.name && run.seed == *seed);
        if is_made || !wanted(method, *seed) {
            continue;
        }
        let earlier = grid.runs.iter().filter(|run| run.seed == *seed);
        let shared = Shared {
            models: Some(out.join("models")),
            runs: earlier
                .map(|run| run_folder(&out, &run.method, *seed))
                .filter(|folder| folder.join("run.db").exists())
                .collect(),
        };
        let folder = run_folder(&out, &method.name, *seed);
        console.say(&format!("run {} of {}: {}", number + 1, runs.len(), folder.display()));
        let summary = prepare(method, *seed)?.execute(&folder, &shared, console)?;
        let finished = GridRun { method: method.name.clone(), seed: *seed, summary: trimmed(summary) };
        grid = record.write(Some(finished))?;
    }
    if json {
        console::print(&serde_json::to_string_pretty(&grid)?)?;
    } else {
        let page = out.join("compare.html");
        console::print(&format!("{}page: {}", grid_table(&grid), page.display()))?;
    }
    Ok(())
}

/// A run that the grid has, made or not.
struct PlannedRun {
    method: String,
    seed: u64,
    /// Of its configuration, method and seed included; none if that cannot be read.
    digest: Option<String>,
}

/// `compare.json`: the figures of every run that was finished in this folder, whoever made it and wherever its folder is.
struct GridRecord<'a> {
    file: &'a GridFile,
    out: &'a Path,
    planned: &'a [PlannedRun],
    console: &'a Console,
}

impl GridRecord<'_> {
    /// Adds a run; writes the record, and tables of what is of the planned configurations, which it returns. Several commands
    /// may do so at once.
    fn write(&self, finished: Option<GridRun>) -> Result<Grid> {
        std::fs::create_dir_all(self.out)
            .with_context(|| format!("{}: cannot create", self.out.display()))?;
        let _lock = FileLock::wait(&self.out.join("compare.lock"), self.console)?;
        let path = self.out.join("compare.json");
        let mut known = match std::fs::read(&path) {
            Ok(bytes) => {
                let grid = serde_json::from_slice::<Grid>(&bytes).with_context(|| {
                    format!(
                        "{}: not a comparison of this version: move it away to begin anew",
                        path.display()
                    )
                })?;
                [grid.runs, grid.other].concat()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("{}: cannot read", path.display())),
        };
        if let Some(finished) = finished {
            let digest = &finished.summary.configuration_digest;
            known.retain(|run| &run.summary.configuration_digest != digest);
            known.push(finished);
        }
        let mut grid = Grid {
            name: self.file.name.clone(),
            methods: self.file.methods.iter().map(|method| method.name.clone()).collect(),
            planned: self.planned.len(),
            runs: Vec::new(),
            other: Vec::new(),
        };
        for PlannedRun { method, seed, digest } in self.planned {
            let is_it = |summary: &Summary| Some(&summary.configuration_digest) == digest.as_ref();
            let place = known.iter().position(|run| is_it(&run.summary));
            let in_folder = || finished_run(&run_folder(self.out, method, *seed)).filter(is_it).map(trimmed);
            let summary = place.map(|place| known.remove(place).summary).or_else(in_folder);
            grid.runs.extend(summary.map(|summary| GridRun { method: method.clone(), seed: *seed, summary }));
        }
        grid.other = known;
        let json = serde_json::to_string_pretty(&grid)? + "\n";
        write_atomically(&path, json.as_bytes()).context("compare.json")?;
        write_atomically(self.out.join("compare.md"), grid_table(&grid).as_bytes()).context("compare.md")?;
        write_atomically(self.out.join("compare.html"), grid_html(&grid).as_bytes())
            .context("compare.html")?;
        Ok(grid)
    }
}

/// What the run in this folder found, if it came to its end.
fn finished_run(folder: &Path) -> Option<Summary> {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).ok()?).ok()
}

fn run_folder(out: &Path, method: &str, seed: u64) -> PathBuf {
    out.join(run_name(method, seed))
}

fn run_name(method: &str, seed: u64) -> String {
    format!("{method}-seed-{seed}")
}

/// Of one run: those of all, then the method's, then the command line's.
fn settings(file: &GridFile, method: &GridMethod, seed: u64, options: &GridOptions) -> Vec<String> {
    let name = format!("name={:?}", run_name(&method.name, seed));
    [&file.set, &method.set, &options.set]
        .into_iter()
        .flatten()
        .cloned()
        .chain([format!("seed={seed}"), name])
        .collect()
}

/// Curves and traces stay with the run's own report.
fn trimmed(summary: Summary) -> Summary {
    Summary { training: Vec::new(), traces: Vec::new(), ..summary }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<GridFile> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("compare.toml");
        std::fs::write(&path, text)?;
        GridFile::read(&path)
    }

    #[test]
    fn runs_go_seed_by_seed() {
        let grid = read(
            "name = 'g'\nconfig = 'c'\nseeds = [1, 2]\nmethods = [{ name = 'a' }, { name = 'b', seeds = [2, 5] }]",
        )
        .unwrap();
        let runs: Vec<(&str, u64)> =
            grid.runs().iter().map(|(method, seed)| (method.name.as_str(), *seed)).collect();
        assert_eq!(runs, [("a", 1), ("a", 2), ("b", 2), ("b", 5)]);
    }

    #[test]
    fn garbage_is_refused_by_name() {
        let good = "name = 'g'\nconfig = 'c'\nseeds = [1]\n";
        for (text, expected) in [
            ("name = 'g'", "missing field `config`"),
            ("name = 'g'\nconfig = 'c'\nseeds = [1]\nmethods = []", "`methods` is empty"),
            ("name = 'g'\nconfig = 'c'\nseeds = []\nmethods = [{ name = 'a' }]", "\"a\" has no seed"),
            ("name = 'g'\nconfig = 'c'\nseeds = [1, 1]\nmethods = [{ name = 'a' }]", "seed 1 twice"),
            (&format!("{good}methods = [{{ name = 'a' }}, {{ name = 'a' }}]"), "\"a\" is given twice"),
            (&format!("{good}methods = [{{ name = '../a' }}]"), "plain folder name"),
            (
                &format!("{good}methods = [{{ name = 'a', sets = [] }}]"),
                "compare.toml:4: unknown field `sets`",
            ),
        ] {
            let message = format!("{:#}", read(text).unwrap_err());
            assert!(message.contains(expected), "{message} does not contain {expected}");
        }
    }
}
