//! `rlrf compare`: a grid of methods and seeds, each a run of its own, that share whatever is common to them.
//!
//! The runs lie in the folder of the comparison, `METHOD-seed-N` each, beside the starting models in `models/`. They are made one
//! after the other, seed by seed, so that an unfinished comparison already compares; a run takes over rows of the
//! earlier runs of its seed. Repeated, the command goes on where it was; what `compare.json` says of a finished run of the same
//! configuration is not computed again, even where the run's folder is gone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rlrf_report::{Grid, GridRun, Summary, grid_html, grid_table};
use rlrf_store::write_atomically;
use serde::Deserialize;

use crate::arguments::GridOptions;
use crate::config::describe;
use crate::console::{self, Console};
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
    // What is wrong with any of them shows before the first begins.
    for (method, seed) in runs.iter().filter(|(method, seed)| wanted(method, *seed)) {
        PreparedRun::read(&config, &settings(&file, method, *seed, options))
            .with_context(|| format!("method {:?}", method.name))?;
    }
    let known = known_runs(&out);
    let mut grid = Grid {
        name: file.name.clone(),
        methods: file.methods.iter().map(|method| method.name.clone()).collect(),
        planned: runs.len(),
        runs: Vec::new(),
    };
    for (number, (method, seed)) in runs.iter().enumerate() {
        let folder = out.join(run_name(&method.name, *seed));
        let recorded = known.iter().find(|run| run.method == method.name && run.seed == *seed);
        if !wanted(method, *seed) && recorded.is_none() && !folder.exists() {
            continue;
        }
        let earlier = grid.runs.iter().filter(|run| run.seed == *seed);
        let shared = Shared {
            models: Some(out.join("models")),
            runs: earlier
                .map(|run| out.join(run_name(&run.method, *seed)))
                .filter(|run| run.exists())
                .collect(),
        };
        let mut prepared = PreparedRun::read(&config, &settings(&file, method, *seed, options))?;
        let recorded = recorded.map(|run| &run.summary);
        let summary = match prepared.finished(&folder, recorded)? {
            Some(summary) => summary,
            // A run that is not asked for now is shown if it is there.
            None if !wanted(method, *seed) => continue,
            None => {
                console.say(&format!("run {} of {}: {}", number + 1, runs.len(), folder.display()));
                prepared.execute(&folder, &shared, console)?
            }
        };
        grid.runs.push(GridRun { method: method.name.clone(), seed: *seed, summary: trimmed(summary) });
        write(&grid, &out)?;
    }
    if json {
        console::print(&serde_json::to_string_pretty(&grid)?)?;
    } else {
        let page = out.join("compare.html");
        console::print(&format!("{}page: {}", grid_table(&grid), page.display()))?;
    }
    Ok(())
}

/// The runs that an earlier `compare.json` holds; none where it cannot be read: it is only written, never needed.
fn known_runs(out: &Path) -> Vec<GridRun> {
    let bytes = std::fs::read(out.join("compare.json")).unwrap_or_default();
    serde_json::from_slice::<Grid>(&bytes).map(|grid| grid.runs).unwrap_or_default()
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

fn write(grid: &Grid, out: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(grid)? + "\n";
    write_atomically(out.join("compare.json"), json.as_bytes()).context("compare.json")?;
    write_atomically(out.join("compare.md"), grid_table(grid).as_bytes()).context("compare.md")?;
    write_atomically(out.join("compare.html"), grid_html(grid).as_bytes()).context("compare.html")?;
    Ok(())
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
