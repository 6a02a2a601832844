//! A process killed at any moment loses nothing that it committed, and leaves nothing by halves.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rlrf_method::{Row, RowStore, Table};
use rlrf_store::RunStore;
use rusqlite::Connection;
use serde_json::json;

const KILLS: u64 = 10;
/// Set in the process that is to be killed.
const FOLDER: &str = "RLRF_STORE_TEST_FOLDER";
/// One commit writes a row to each.
const TABLES: [Table; 3] = [Table::Generations, Table::Feedback, Table::Pairs];

#[test]
fn a_killed_process_loses_nothing_committed() {
    // The test runs its own binary once more, as the process to kill.
    if let Some(folder) = std::env::var_os(FOLDER) {
        commit_until_killed(Path::new(&folder));
    }

    let folder = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        let delay = Duration::from_micros(RandomState::new().hash_one(kill) % 60_000);
        let acknowledged = kill_after(delay, folder.path());

        let run = open(folder.path());
        let committed = run.count(TABLES[0], 1).unwrap();
        // Of the commit under way, the process may have died after the write and before the message.
        assert!(
            committed == acknowledged || committed == acknowledged + 1,
            "killed after {delay:?}: {acknowledged} commits were acknowledged and {committed} found"
        );
        for table in TABLES {
            let found: Vec<u32> = run.rows(table, 1).unwrap().iter().map(|row| row.position).collect();
            let expected: Vec<u32> = (0..u32::try_from(committed).unwrap()).collect();
            assert_eq!(found, expected, "killed after {delay:?}: {table:?}");
        }
        assert_eq!(run.computed_twice().unwrap(), 0);
        drop(run);
        let check: String = Connection::open(folder.path().join("run.db"))
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }
}

fn open(folder: &Path) -> RunStore {
    RunStore::create_or_open(folder, "seed = 1\n", "digest").unwrap()
}

/// Starts a committing process, kills it `delay` after its first commit, and returns how many commits the run has
/// by the process's own account.
fn kill_after(delay: Duration, folder: &Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_loses_nothing_committed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = None;
    while acknowledged.is_none() {
        acknowledged = next_acknowledged(&mut output).expect("the child ended before its first commit");
    }
    thread::sleep(delay);
    child.kill().unwrap();
    while let Some(number) = next_acknowledged(&mut output) {
        acknowledged = number.or(acknowledged);
    }
    child.wait().unwrap();
    acknowledged.unwrap()
}

/// The number on the next line, if it is not one of the test harness; nothing at the end of the output.
fn next_acknowledged(output: &mut impl BufRead) -> Option<Option<u64>> {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let line = line.strip_suffix('\n')?;
    Some(line.strip_prefix("committed ").map(|number| number.parse().unwrap()))
}

fn commit_until_killed(folder: &Path) -> ! {
    let mut run = open(folder);
    let mut commits = run.count(TABLES[0], 1).unwrap();
    loop {
        let rows = TABLES.map(|table| {
            let key = format!("{} {commits}", table.name());
            let body = json!({"text": "response ".repeat(200)});
            let position = u32::try_from(commits).unwrap();
            (table, Row { key, iteration: 1, instruction: String::new(), position, body })
        });
        run.commit(&rows).unwrap();
        commits += 1;
        // The harness may have left a line unfinished.
        let mut output = std::io::stdout().lock();
        output.write_all(format!("\ncommitted {commits}\n").as_bytes()).unwrap();
        output.flush().unwrap();
    }
}
