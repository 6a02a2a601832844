//! Killed at any moment, and repeated, a run ends in the same bytes and computes no committed row twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_method::{Row, RowStore, Table};
use rlrf_store::RunStore;
use serde_json::Value;

use crate::folder::Folder;

const KILLS: usize = 20;
const KILLS_PER_RUN: usize = 4;
const ITERATIONS: u32 = 2;

/// Everything of a finished run that its inputs decide.
#[derive(Debug, PartialEq)]
struct Outcome {
    models: BTreeMap<PathBuf, Vec<u8>>,
    rows: Vec<(Table, Vec<Row>)>,
    summary: Value,
}

impl Outcome {
    fn of(folder: &Folder, run: &str) -> Self {
        let root = folder.path(run);
        let models = folder.tree(&format!("{run}/models")).into_iter();
        let store = RunStore::open_read_only(&root).unwrap();
        assert_eq!(store.computed_twice().unwrap(), 0, "{run}: a committed row was computed again");
        let mut rows = Vec::new();
        for table in Table::ALL {
            for iteration in 0..=ITERATIONS {
                rows.push((table, store.rows(table, iteration).unwrap()));
            }
        }
        let mut summary: Value =
            serde_json::from_slice(&folder.read(&format!("{run}/summary.json"))).unwrap();
        summary.as_object_mut().unwrap().remove("timings").unwrap();
        assert!(folder.tree(&format!("{run}/checkpoints")).is_empty(), "{run}: a checkpoint was left");
        Self {
            models: models
                .map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_path_buf(), bytes))
                .collect(),
            rows,
            summary,
        }
    }

    /// Says what differs: a whole outcome would fill the screen.
    fn assert_same(&self, expected: &Self, run: &str) {
        let names = |outcome: &Self| outcome.models.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(expected), "{run}");
        for (path, bytes) in &self.models {
            assert!(bytes == &expected.models[path], "{run}: {} differs", path.display());
        }
        for ((table, rows), (_, expected)) in self.rows.iter().zip(&expected.rows) {
            assert_eq!(rows.len(), expected.len(), "{run}: rows of {}", table.name());
            for (row, expected) in rows.iter().zip(expected) {
                assert_eq!(row, expected, "{run}: {}", table.name());
            }
        }
        assert_eq!(self.summary, expected.summary, "{run}");
    }
}

/// Moments mean something only while the runs have the processor to themselves.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The run that nobody disturbed, and how long it took.
static UNDISTURBED: LazyLock<(Outcome, Duration)> = LazyLock::new(|| {
    let folder = Folder::new();
    folder.write_inputs();
    let started = Instant::now();
    folder.run(&["run", "rlrf.toml", "--out", "run"]).expect_success();
    let duration = started.elapsed();
    let outcome = Outcome::of(&folder, "run");
    let count =
        |table: Table| outcome.rows.iter().filter(|(t, _)| *t == table).map(|(_, rows)| rows.len()).sum();
    let counts: [usize; 9] = Table::ALL.map(count);
    // The run has no reward model, and its aspects are fixed.
    let used = |table: Table| !matches!(table, Table::AspectChoices | Table::Rewards);
    assert!(Table::ALL.map(used) == counts.map(|count| count > 0), "rows of each table: {counts:?}");
    (outcome, duration)
});

/// Starts the run in the background, its standard error in a file.
fn start(folder: &Folder, run: &str, threads: &str) -> Child {
    let log = File::create(folder.path("stderr")).unwrap();
    let mut command = folder.command(&["run", "rlrf.toml", "--out", run, "--threads", threads]);
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The last line that a process in the background wrote: the stage before the one that it was in.
fn last_line(folder: &Folder) -> String {
    let log = String::from_utf8(folder.read("stderr")).unwrap();
    log.lines().last().and_then(|line| line.split(':').next()).unwrap_or("the start").to_string()
}

#[test]
fn killed_at_twenty_moments_it_ends_in_the_same_bytes() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (expected, duration) = &*UNDISTURBED;
    let folder = Folder::new();
    folder.write_inputs();
    let mut generator = ChaCha8Rng::seed_from_u64(20);
    let mut kills = 0;
    let mut stages = BTreeSet::new();
    for number in 0..3 * KILLS {
        let run = format!("run-{number}");
        for _ in 0..KILLS_PER_RUN {
            let threads = generator.random_range(1..=3).to_string();
            let mut child = start(&folder, &run, &threads);
            std::thread::sleep(duration.mul_f64(generator.random_range(0.01..0.45)));
            let finished = child.try_wait().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            if let Some(status) = finished {
                assert!(status.success(), "{}", String::from_utf8_lossy(&folder.read("stderr")));
                break;
            }
            kills += 1;
            stages.insert(last_line(&folder));
        }
        folder.run(&["run", "rlrf.toml", "--out", &run]).expect_success();
        Outcome::of(&folder, &run).assert_same(expected, &run);
        if kills >= KILLS {
            break;
        }
    }
    assert!(kills >= KILLS, "only {kills} kills hit a process that was at work");
    assert!(stages.len() >= 6, "the kills hit too few stages: {stages:?}");
}

#[test]
fn interrupted_by_the_user_it_says_so_and_goes_on() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (expected, _) = &*UNDISTURBED;
    let folder = Folder::new();
    folder.write_inputs();
    let mut child = start(&folder, "run", "2");
    while !String::from_utf8(folder.read("stderr")).unwrap().contains("sample M_0") {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without sampling");
        std::thread::sleep(Duration::from_millis(2));
    }
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let status = child.wait().unwrap();
    let said = String::from_utf8(folder.read("stderr")).unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; everything finished so far is kept: repeat the command"), "{said}");
    folder.run(&["run", "rlrf.toml", "--out", "run"]).expect_success();
    Outcome::of(&folder, "run").assert_same(expected, "after the interruption");
}

#[test]
fn nohup_lets_it_go_on_to_its_end() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    folder.write_inputs();
    let command = folder.command(&["run", "rlrf.toml", "--out", "run"]);
    let mut nohup = Command::new("nohup");
    nohup.arg(command.get_program()).args(command.get_args()).stdout(Stdio::null());
    if let Some(directory) = command.get_current_dir() {
        nohup.current_dir(directory);
    }
    let mut child = nohup.stderr(File::create(folder.path("stderr")).unwrap()).spawn().unwrap();
    while !String::from_utf8(folder.read("stderr")).unwrap().contains("sample M_0") {
        assert_eq!(child.try_wait().unwrap(), None, "it ended without sampling");
        std::thread::sleep(Duration::from_millis(2));
    }
    let signalled = Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&folder.read("stderr")));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (expected, _) = &*UNDISTURBED;
    let folder = Folder::new();
    folder.write_inputs();
    for threads in ["1", "2"] {
        folder.run(&["run", "rlrf.toml", "--out", threads, "--threads", threads]).expect_success();
        Outcome::of(&folder, threads).assert_same(expected, threads);
    }
}
