//! An index holds what its corpus has, is complete or absent, and finds the same however it was built.

#![allow(clippy::unwrap_used, reason = "a test")]
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use rlrf_method::seam::Progress;
use rlrf_retrieval::{BuildOptions, Error, Index, Manifest, Options, Passage, build};
use serde_json::{Value, json};

/// Stops the work after so many steps.
struct Patience(Cell<u64>);

impl Progress for Patience {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: u64) {
        self.0.set(self.0.get().saturating_sub(1));
    }
    fn end(&self) {}
    fn notice(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        self.0.get() == 0
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn threads(threads: usize) -> BuildOptions {
    BuildOptions { threads, memory_per_thread: 15_000_000, ..BuildOptions::default() }
}

fn built(corpus: &Path, out: &Path) -> Result<Manifest, Error> {
    build(corpus, out, &threads(2), &Patience(Cell::new(u64::MAX)))
}

fn jsonl(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

fn found(index: &Index, query: &str, top: usize, title: Option<&str>) -> Vec<(String, u64, String)> {
    let options = Options { top, title: title.map(String::from) };
    let passages = index.search(query, &options).unwrap();
    passages.into_iter().map(|Passage { title, number, text, .. }| (title, number, text)).collect()
}

fn entry(title: &str, number: u64, text: &str) -> (String, u64, String) {
    (title.into(), number, text.into())
}

/// The paragraphs and questions of the excerpt from XQuAD (CC BY-SA 4.0, licence beside it).
fn excerpt() -> (Vec<Value>, Vec<(String, String)>) {
    let squad: Value = serde_json::from_str(include_str!("data/xquad_excerpt.json")).unwrap();
    let (mut records, mut questions) = (Vec::new(), Vec::new());
    for article in squad["data"].as_array().unwrap() {
        for paragraph in article["paragraphs"].as_array().unwrap() {
            let context = paragraph["context"].as_str().unwrap().to_string();
            for question in paragraph["qas"].as_array().unwrap() {
                questions.push((question["question"].as_str().unwrap().to_string(), context.clone()));
            }
            records.push(json!({ "title": article["title"], "text": context }));
        }
    }
    (records, questions)
}

#[test]
fn the_paragraph_with_the_answer_is_among_five() {
    let (records, questions) = excerpt();
    assert_eq!((records.len(), questions.len()), (40, 230));
    let folder = Folder::new();
    let corpus = folder.write("corpus.jsonl", jsonl(&records));
    let options = BuildOptions { passage_words: 1000, ..threads(2) };
    build(&corpus, &folder.path("index"), &options, &Patience(Cell::new(u64::MAX))).unwrap();
    let index = Index::open(folder.path("index")).unwrap();
    let hit = |(question, context): &&(String, String)| {
        found(&index, question, 5, None).iter().any(|(_, _, text)| text == context)
    };
    let hits = questions.iter().filter(hit).count();
    assert!(hits * 10 >= questions.len() * 9, "only {hits} of {}", questions.len());
}

#[test]
fn what_is_found_does_not_depend_on_threads_or_layout() {
    let (records, questions) = excerpt();
    // Enough copies for several segments and many equal scores.
    let many: Vec<Value> = (0..60)
        .flat_map(|copy| records.iter().map(move |record| (copy, record)))
        .map(|(copy, record)| json!({ "title": format!("{} {copy}", record["title"]), "text": record["text"] }))
        .collect();
    let folder = Folder::new();
    let corpus = folder.write("corpus.jsonl", jsonl(&many));
    let patience = Patience(Cell::new(u64::MAX));
    let options = |count, words| BuildOptions { passage_words: words, ..threads(count) };
    let one = build(&corpus, &folder.path("one"), &options(1, 30), &patience).unwrap();
    let four = build(&corpus, &folder.path("four"), &options(4, 30), &patience).unwrap();
    assert_eq!(one, four);
    let other = build(&corpus, &folder.path("other"), &options(4, 31), &patience).unwrap();
    assert_ne!(one.digest, other.digest);
    let [one, four] = ["one", "four"].map(|name| Index::open(folder.path(name)).unwrap());
    for (question, _) in questions.iter().step_by(7) {
        for (top, title) in [(3, None), (50, None), (4, Some("\"Normans\" 3"))] {
            let options = Options { top, title: title.map(String::from) };
            assert_eq!(one.search(question, &options).unwrap(), four.search(question, &options).unwrap());
        }
    }
}

#[test]
fn long_texts_are_split_and_their_passages_numbered() {
    let folder = Folder::new();
    let corpus = folder.write(
        "corpus.jsonl",
        jsonl(&[
            json!({ "title": "A_page", "text": "One two three. Four five six." }),
            json!({ "id": 1, "title": "A page", "contents": ["Seven eight.", "Nine."] }),
            json!({ "title": "Empty", "text": " " }),
            json!({ "title": "B", "text": "Three bees." }),
        ]),
    );
    let options = BuildOptions { passage_words: 3, ..threads(1) };
    let manifest = build(&corpus, &folder.path("index"), &options, &Patience(Cell::new(u64::MAX))).unwrap();
    assert_eq!((manifest.documents, manifest.empty_documents, manifest.passages), (3, 1, 4));
    let index = Index::open(folder.path("index")).unwrap();
    assert_eq!(
        found(&index, "threes", 5, None),
        [entry("B", 0, "Three bees."), entry("A_page", 0, "One two three.")]
    );
    // On its page every passage is found, those without a word of the query last.
    let page = [
        entry("A page", 2, "Seven eight.\nNine."),
        entry("A_page", 0, "One two three."),
        entry("A_page", 1, "Four five six."),
    ];
    assert_eq!(found(&index, "nine", 5, Some(" a PAGE")), page);
    assert_eq!(found(&index, "nine", 2, Some("a_page")), page[..2]);
    assert_eq!(found(&index, "?!", 1, Some("a page")), page[1..2]);
    assert_eq!(found(&index, "?!", 5, None), []);
    assert_eq!(found(&index, "nine", 5, Some("C")), []);
    assert_eq!(found(&index, "nine", 0, None), []);
    assert!(index.has_page("b").unwrap() && !index.has_page("Empty").unwrap());
}

#[test]
fn the_passages_of_a_factscore_file_stay_as_they_are() {
    let folder = Folder::new();
    let connection = rusqlite::Connection::open(folder.path("enwiki.db")).unwrap();
    connection.execute("CREATE TABLE documents (title PRIMARY KEY, text)", []).unwrap();
    let long = "word ".repeat(400);
    let pages = [
        ("Ada", format!("<s>Ada wrote.</s><s>She died.</s>####SPECIAL####SEPARATOR####<s>{long}</s>")),
        ("Bob", "<s>Bob ran.</s>".to_string()),
        ("Nobody", "<s></s>".to_string()),
    ];
    for (title, text) in pages {
        connection.execute("INSERT INTO documents VALUES (?1, ?2)", (title, text)).unwrap();
    }
    drop(connection);
    let manifest = built(&folder.path("enwiki.db"), &folder.path("index")).unwrap();
    assert_eq!((manifest.documents, manifest.empty_documents, manifest.passages), (2, 1, 3));
    let index = Index::open(folder.path("index")).unwrap();
    let expected = [entry("Ada", 0, "Ada wrote. She died."), entry("Ada", 1, long.trim())];
    assert_eq!(found(&index, "wrote", 5, Some("ada")), expected);
}

#[test]
fn garbage_is_named_and_leaves_nothing() {
    let good = "{\"title\": \"A\", \"text\": \"b\"}\n";
    let cases: [(&[u8], &[&str]); 12] = [
        (b"{\"title\": \"A\", \"text\"", &["corpus.jsonl:2: EOF", "one JSON object a line"]),
        (b"\n[1]", &["corpus.jsonl:3: "]),
        (b"{\"text\": \"b\"}", &["corpus.jsonl:2: has no field `title`"]),
        (b"{\"title\": \" \", \"text\": \"b\"}", &["corpus.jsonl:2: `title` is empty"]),
        (b"{\"title\": 3, \"text\": \"b\"}", &["corpus.jsonl:2: `title` is not text"]),
        (b"{\"title\": \"A\"}", &["corpus.jsonl:2: has no field `text`"]),
        (b"{\"title\": \"A\", \"text\": null}", &["corpus.jsonl:2: has no field `text`"]),
        (b"{\"title\": \"A\", \"text\": 5}", &["corpus.jsonl:2: `text` is neither text nor a list"]),
        (b"{\"title\": \"A\", \"contents\": [1]}", &["corpus.jsonl:2: `contents` is a list of other things"]),
        (b"{\"title\": \"A\", \"text\": \"\", \"contents\": \"\"}", &["corpus.jsonl:2: has both"]),
        (b"{\"title\": \"\xff\"}", &["corpus.jsonl:2: not UTF-8"]),
        (b"\x00\x01", &["corpus.jsonl:2: "]),
    ];
    for (bad, expected) in cases {
        let folder = Folder::new();
        let corpus = folder.write("corpus.jsonl", [good.as_bytes(), bad].concat());
        let message = built(&corpus, &folder.path("index")).unwrap_err().to_string();
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
        assert_eq!(folder.names(), ["corpus.jsonl"], "{message}");
    }
    let folder = Folder::new();
    let message = |corpus: &Path| built(corpus, &folder.path("index")).unwrap_err().to_string();
    assert!(message(&folder.path("absent")).contains("cannot read"));
    assert!(message(folder.0.path()).contains("is a folder"));
    assert!(message(&folder.write("empty", "\n")).contains("holds no text"));
    assert!(message(&folder.write("blank", "{\"title\": \"A\", \"text\": \"\"}")).contains("holds no text"));
    assert!(
        message(&folder.write("bad.db", b"SQLite format 3\0rubbish"))
            .contains("is an SQLite file, but not one of")
    );
    let connection = rusqlite::Connection::open(folder.path("other.db")).unwrap();
    connection.execute("CREATE TABLE pages (title, text)", []).unwrap();
    assert!(message(&folder.path("other.db")).contains("expected a table documents(title, text)"));
    connection.execute("CREATE TABLE documents (title, text)", []).unwrap();
    connection.execute("INSERT INTO documents VALUES ('A', NULL)", []).unwrap();
    assert!(message(&folder.path("other.db")).contains("other.db:1: `text` of this row"));
    assert!(!folder.names().iter().any(|name| name.contains("index")), "{:?}", folder.names());
}

#[test]
fn an_interrupted_build_leaves_nothing_and_a_leftover_is_no_obstacle() {
    let folder = Folder::new();
    let (records, _) = excerpt();
    let corpus = folder.write("corpus.jsonl", jsonl(&records));
    let stopped = build(&corpus, &folder.path("index"), &threads(2), &Patience(Cell::new(20)));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(folder.names(), ["corpus.jsonl"]);
    // What a killed build leaves: files of Tantivy, its lock, and no manifest.
    fs::create_dir(folder.path(".index.partial")).unwrap();
    for name in ["meta.json", "build.lock", ".tantivy-writer.lock", "0123.store"] {
        folder.write(&format!(".index.partial/{name}"), "rubbish");
    }
    let manifest = built(&corpus, &folder.path("index")).unwrap();
    assert_eq!(folder.names(), ["corpus.jsonl", "index"]);
    assert_eq!(Index::open(folder.path("index")).unwrap().manifest(), &manifest);
}

#[test]
fn a_build_is_done_once_and_replaces_nothing() {
    let folder = Folder::new();
    let corpus = folder.write("corpus.jsonl", "{\"title\": \"A\", \"text\": \"b\"}\n");
    let index = folder.path("index");
    let first = built(&corpus, &index).unwrap();
    let written = fs::metadata(index.join("meta.json")).unwrap().modified().unwrap();
    assert_eq!(built(&corpus, &index).unwrap(), first);
    assert_eq!(fs::metadata(index.join("meta.json")).unwrap().modified().unwrap(), written);
    let other = folder.write("other.jsonl", "{\"title\": \"A\", \"text\": \"c\"}\n");
    let message = built(&other, &index).unwrap_err().to_string();
    assert!(message.contains("holds the index of another corpus"), "{message}");
    assert_eq!(Index::open(&index).unwrap().manifest(), &first);
    fs::create_dir(folder.path("taken")).unwrap();
    folder.write("taken/letter", "dear");
    let message = built(&corpus, &folder.path("taken")).unwrap_err().to_string();
    assert!(message.contains("something else than an index"), "{message}");
    assert_eq!(fs::read(folder.path("taken/letter")).unwrap(), b"dear");
}

#[test]
fn what_is_no_index_is_not_opened() {
    let folder = Folder::new();
    let corpus = folder.write("corpus.jsonl", "{\"title\": \"A\", \"text\": \"b\"}\n");
    let index = folder.path("index");
    built(&corpus, &index).unwrap();
    let manifest = fs::read_to_string(index.join("index.json")).unwrap();
    let message = || Index::open(&index).err().unwrap().to_string();
    let with = |from: &str, to: &str| {
        assert!(manifest.contains(from));
        fs::write(index.join("index.json"), manifest.replace(from, to)).unwrap();
        message()
    };
    assert!(
        with("\"format\": 1", "\"format\": 2")
            .contains("is an index of format 2, but this rlrf reads format 1")
    );
    assert!(with("\"passages\": 1", "\"passages\": 9").contains("it has 1 passages, not 9"));
    assert!(with("english-1", "klingon-1").contains("analysis \"klingon-1\" is unknown"));
    assert!(with("\"format\": 1,", "").contains("has no field `format`"));
    fs::write(index.join("index.json"), &manifest).unwrap();
    fs::write(index.join("meta.json"), "{}").unwrap();
    assert!(message().contains("is damaged"), "{}", message());
    fs::remove_file(index.join("index.json")).unwrap();
    assert!(message().contains("holds no index"), "{}", message());
    assert!(Index::open(folder.path("absent")).err().unwrap().to_string().contains("holds no index"));
}
