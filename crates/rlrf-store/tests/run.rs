//! What a run on disk promises.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::fs;
use std::path::Path;

use rlrf_method::{Row, RowStore, Table};
use rlrf_store::{Error, RunStore};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

const CONFIGURATION: &str = "seed = 1\n\n[train]\nbeta = 0.1\n";
const DIGEST: &str = "digest of the configuration";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path) -> Result<RunStore, Error> {
    RunStore::create_or_open(folder, CONFIGURATION, DIGEST)
}

fn row(key: &str, iteration: u32, instruction: &str, position: u32) -> Row {
    let body = json!({"zeta": key, "alpha": [1, 0.1, 1e-300, null], "text": "a\n\"line\" \u{0} é"});
    Row { key: key.into(), iteration, instruction: instruction.into(), position, body }
}

/// The files of a run with their content, without SQLite's shared memory.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn refused(folder: &Path) -> String {
    open(folder).unwrap_err().to_string()
}

#[test]
fn rows_come_back_as_committed_in_the_order_of_their_places() {
    let folder = folder();
    let rows = [
        row("d", 1, "b", 0),
        row("a", 1, "a", 10),
        row("c", 1, "a", 9),
        row("f", 1, "a", 9),
        row("e", 2, "a", 0),
    ];
    let mut run = open(folder.path()).unwrap();
    run.commit(&rows.clone().map(|row| (Table::Pairs, row))).unwrap();
    drop(run);

    let run = open(folder.path()).unwrap();
    let [d, a, c, f, e] = rows;
    assert_eq!(run.get(Table::Pairs, "d").unwrap(), Some(d.body.clone()));
    assert_eq!(run.get(Table::Scores, "d").unwrap(), None);
    assert_eq!(run.rows(Table::Pairs, 1).unwrap(), [c, f, a, d]);
    assert_eq!(run.rows(Table::Pairs, 2).unwrap(), [e]);
    assert_eq!(run.rows(Table::Pairs, 3).unwrap(), []);
    assert_eq!(run.count(Table::Pairs, 1).unwrap(), 4);
}

#[test]
fn fields_of_a_body_keep_their_order() {
    let folder = folder();
    let mut run = open(folder.path()).unwrap();
    run.commit(&[(Table::Scores, row("a", 1, "i", 0))]).unwrap();
    let body = run.get(Table::Scores, "a").unwrap().unwrap();
    assert_eq!(body.to_string(), row("a", 1, "i", 0).body.to_string());
}

#[test]
fn a_commit_that_fails_half_way_leaves_nothing() {
    let folder = folder();
    let mut run = open(folder.path()).unwrap();
    run.commit(&[(Table::Generations, row("before", 1, "i", 0))]).unwrap();
    let other = Connection::open(folder.path().join("run.db")).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON pairs BEGIN SELECT RAISE(ABORT, 'refused by the test'); END",
        )
        .unwrap();

    let rows = [
        (Table::Generations, row("first", 1, "i", 1)),
        (Table::Generations, row("before", 1, "i", 0)),
        (Table::Pairs, row("second", 1, "i", 0)),
    ];
    let message = run.commit(&rows).unwrap_err().to_string();
    assert!(message.contains("refused by the test") && message.contains("run.db"), "{message}");
    assert_eq!(run.get(Table::Generations, "first").unwrap(), None);
    assert_eq!(run.computed_twice().unwrap(), 0);

    other.execute_batch("DROP TRIGGER refuse").unwrap();
    run.commit(&rows).unwrap();
    assert_eq!(run.count(Table::Generations, 1).unwrap(), 2);
    assert_eq!(run.count(Table::Pairs, 1).unwrap(), 1);
}

#[test]
fn a_key_committed_again_is_counted_and_keeps_its_first_body() {
    let folder = folder();
    let mut run = open(folder.path()).unwrap();
    let first = row("a", 1, "i", 0);
    let again = Row { body: json!("another"), ..first.clone() };
    run.commit(&[(Table::Feedback, first.clone()), (Table::Scores, first.clone())]).unwrap();
    assert_eq!(run.computed_twice().unwrap(), 0);
    run.commit(&[(Table::Feedback, again.clone()), (Table::Feedback, again.clone()), (Table::Scores, again)])
        .unwrap();
    assert_eq!(run.computed_twice().unwrap(), 3);
    assert_eq!(run.rows(Table::Feedback, 1).unwrap(), [first]);
}

#[test]
fn rows_are_borrowed_from_other_runs_and_kept() {
    let (lending, borrowing) = (folder(), folder());
    let mut lender = open(lending.path()).unwrap();
    let rows = [row("asked", 0, "a", 3), row("not asked", 0, "a", 4)];
    lender.commit(&rows.clone().map(|row| (Table::Generations, row))).unwrap();
    lender.commit(&[(Table::Metrics, row("figure", 0, "", 0))]).unwrap();
    drop(lender);

    let mut run = open(borrowing.path()).unwrap();
    run.borrow_from(vec![RunStore::open_read_only(lending.path()).unwrap()]);
    assert_eq!(run.get(Table::Generations, "asked").unwrap(), Some(rows[0].body.clone()));
    assert_eq!(run.get(Table::Generations, "asked").unwrap(), Some(rows[0].body.clone()));
    assert_eq!(run.get(Table::Generations, "unknown").unwrap(), None);
    assert_eq!(run.get(Table::Metrics, "figure").unwrap(), None, "a figure belongs to its run");
    drop(run);

    let run = open(borrowing.path()).unwrap();
    assert_eq!(run.rows(Table::Generations, 0).unwrap(), rows[..1]);
    assert_eq!(run.computed_twice().unwrap(), 0);
}

#[test]
fn artifacts_and_events_last() {
    let folder = folder();
    let run = open(folder.path()).unwrap();
    assert_eq!(run.artifact("models/M1").unwrap(), None);
    run.record_artifact("models/M1", "1234", &json!({"steps": 10})).unwrap();
    run.record_artifact("models/M1", "5678", &json!({"steps": 20})).unwrap();
    run.event("started", &json!({})).unwrap();
    run.event("stage finished", &json!({"stage": "sample", "seconds": 1.5})).unwrap();
    drop(run);

    let run = open(folder.path()).unwrap();
    let artifact = run.artifact("models/M1").unwrap().unwrap();
    assert_eq!((artifact.digest.as_str(), artifact.body), ("5678", json!({"steps": 20})));
    let events = run.events().unwrap();
    assert_eq!(
        events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["started", "stage finished"]
    );
    assert_eq!(events[1].body["stage"], "sample");
    assert!(events[0].time <= events[1].time && events[0].time.ends_with('Z'), "{events:?}");
}

#[test]
fn one_process_writes_and_others_read() {
    let folder = folder();
    let mut run = open(folder.path()).unwrap();
    run.commit(&[(Table::Metrics, row("a", 1, "", 0))]).unwrap();
    let message = refused(folder.path());
    assert!(message.contains(&format!("another rlrf (process {})", std::process::id())), "{message}");

    let mut reader = RunStore::open_read_only(folder.path()).unwrap();
    run.commit(&[(Table::Metrics, row("b", 1, "", 1))]).unwrap();
    assert_eq!(reader.count(Table::Metrics, 1).unwrap(), 1, "a reader sees one moment");
    assert_eq!(RunStore::open_read_only(folder.path()).unwrap().count(Table::Metrics, 1).unwrap(), 2);
    assert!(reader.commit(&[(Table::Metrics, row("c", 1, "", 2))]).is_err());
    drop(run);
    open(folder.path()).unwrap();
}

#[test]
fn another_configuration_is_refused_and_the_run_left_as_it_was() {
    let folder = folder();
    drop(open(folder.path()).unwrap());
    let before = content(folder.path());
    let other = "seed = 2\n\n[train]\nbeta = 0.1\nsteps = 5\n";
    let message = RunStore::create_or_open(folder.path(), other, "other").unwrap_err().to_string();
    assert!(message.contains("seed: 1 -> 2\n  train.steps: (absent) -> 5\n"), "{message}");
    assert!(message.contains("--out"), "{message}");
    assert!(content(folder.path()) == before, "a file of the run changed");
    open(folder.path()).unwrap();
}

#[test]
fn an_edited_configuration_file_is_found_out() {
    let folder = folder();
    drop(open(folder.path()).unwrap());
    let edited = CONFIGURATION.replace("0.1", "0.5");
    fs::write(folder.path().join("run.toml"), &edited).unwrap();
    let message = RunStore::create_or_open(folder.path(), &edited, "its digest").unwrap_err().to_string();
    assert!(message.contains("not the configuration that the run began with"), "{message}");

    fs::write(folder.path().join("run.toml"), "seed = ").unwrap();
    let message = refused(folder.path());
    assert!(message.contains("run.toml is not valid TOML") && message.contains("line 1"), "{message}");

    fs::remove_file(folder.path().join("run.toml")).unwrap();
    assert!(refused(folder.path()).contains("restore run.toml"));
}

#[test]
fn a_configuration_that_is_not_toml_creates_no_run() {
    let folder = folder();
    let error = RunStore::create_or_open(folder.path(), "seed = ", DIGEST).unwrap_err();
    assert!(matches!(error, Error::ConfigurationInvalid { .. }), "{error}");
    assert!(matches!(RunStore::open_read_only(folder.path()), Err(Error::NoRun { .. })));
    open(folder.path()).unwrap();
}

#[test]
fn a_crash_between_creation_and_the_first_table_is_no_obstacle() {
    let folder = folder();
    fs::write(folder.path().join("run.toml"), CONFIGURATION).unwrap();
    fs::write(folder.path().join("run.db"), "").unwrap();
    let mut run = open(folder.path()).unwrap();
    run.commit(&[(Table::Scores, row("a", 1, "i", 0))]).unwrap();
}

#[test]
fn a_damaged_database_is_named() {
    let folder = folder();
    let database = folder.path().join("run.db");
    let mut run = open(folder.path()).unwrap();
    let rows: Vec<_> =
        (0..500).map(|number| (Table::Pairs, row(&number.to_string(), 1, "i", number))).collect();
    run.commit(&rows).unwrap();
    drop(run);

    let mut bytes = fs::read(&database).unwrap();
    bytes[4096..].fill(0xA5);
    fs::write(&database, &bytes).unwrap();
    let message = open(folder.path())
        .and_then(|run| run.count(Table::Pairs, 1))
        .expect_err("pages of garbage cannot be read")
        .to_string();
    assert!(message.contains("run.db is damaged") && message.contains("--out"), "{message}");

    fs::write(&database, "these are not the bytes of a database, ".repeat(50)).unwrap();
    let message = refused(folder.path());
    assert!(message.contains("run.db is damaged or not a database"), "{message}");
    assert!(RunStore::open_read_only(folder.path()).is_err());
}

#[test]
fn a_body_that_is_not_json_is_named() {
    let folder = folder();
    let mut run = open(folder.path()).unwrap();
    run.commit(&[(Table::Scores, row("a", 1, "i", 0))]).unwrap();
    let other = Connection::open(folder.path().join("run.db")).unwrap();
    other.execute_batch("UPDATE scores SET body = '{\"cut'").unwrap();
    for message in [
        run.get(Table::Scores, "a").unwrap_err().to_string(),
        run.rows(Table::Scores, 1).unwrap_err().to_string(),
    ] {
        assert!(message.contains("row a of scores is not JSON"), "{message}");
    }
}

#[test]
fn another_schema_version_is_refused_and_the_database_left_as_it_was() {
    let folder = folder();
    drop(open(folder.path()).unwrap());
    let database = folder.path().join("run.db");
    Connection::open(&database).unwrap().execute_batch("PRAGMA user_version = 77").unwrap();
    let before = content(folder.path());
    let message = refused(folder.path());
    assert!(message.contains("schema version 77, but this rlrf reads and writes version 3"), "{message}");
    assert!(content(folder.path()) == before, "a file of the run changed");
    assert!(matches!(
        RunStore::open_read_only(folder.path()),
        Err(Error::SchemaVersion { found: 77, expected: 3, .. })
    ));
}

#[test]
fn a_foreign_database_is_refused_and_left_as_it_was() {
    let folder = folder();
    fs::write(folder.path().join("run.toml"), CONFIGURATION).unwrap();
    let database = folder.path().join("run.db");
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE photographs (name TEXT)").unwrap();
    let before = fs::read(&database).unwrap();
    assert!(refused(folder.path()).contains("not the database of an rlrf run"));
    assert!(fs::read(&database).unwrap() == before, "the database changed");
}

#[test]
fn a_folder_that_cannot_be_created_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("runs").join("first"), file] {
        let message = refused(&path);
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("a file stands where a folder is needed"), "{message}");
    }
}

#[test]
fn reading_what_is_no_run_creates_nothing() {
    let folder = folder();
    let absent = folder.path().join("absent");
    let message = RunStore::open_read_only(&absent).unwrap_err().to_string();
    assert!(message.contains("holds no run (run.toml is missing)"), "{message}");
    assert!(!absent.exists());
}
