//! Corpora: JSON lines, or the SQLite file of the FActScore release, read as a stream of documents.
//!
//! A JSONL record is `{"title", "text"}`, or `{"id", "title", "contents"}` as Pyserini writes it; the text is one string
//! or a list of them (sections, sentences). The SQLite file has a table `documents(title, text)` whose text holds the
//! passages of a page, joined by [`SEPARATOR`], with RoBERTa's `<s>` and `</s>` around each sentence.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Joins the passages of a page in the SQLite file of FActScore.
const SEPARATOR: &str = "####SPECIAL####SEPARATOR####";

/// How every SQLite file begins.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// One record of a corpus.
pub(crate) struct Document {
    /// Title of its page.
    pub(crate) title: String,
    pub(crate) text: Text,
    /// How far the corpus is read, of [`Corpus::size`].
    pub(crate) place: u64,
}

/// The text of a record.
pub(crate) enum Text {
    /// To be split into passages.
    Whole(String),
    /// Split into passages already.
    Passages(Vec<String>),
}

/// A corpus, opened.
pub(crate) enum Corpus {
    Jsonl { file: BufReader<File>, bytes: u64 },
    Database { connection: Connection, rows: u64 },
}

#[derive(Deserialize)]
struct Record {
    title: Option<serde_json::Value>,
    text: Option<serde_json::Value>,
    contents: Option<serde_json::Value>,
}

impl Corpus {
    /// Opens the corpus at `path`; its first bytes tell the format.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |cause| Error::File { action: "read", path: path.to_path_buf(), cause };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::Corpus {
                path: path.to_path_buf(),
                message: "is a folder; expected a JSONL file, or the SQLite file of FActScore".into(),
            });
        }
        let mut start = Vec::new();
        file.by_ref().take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
        if start == SQLITE_MAGIC {
            return open_database(path);
        }
        file.rewind().map_err(failed)?;
        Ok(Self::Jsonl { file: BufReader::with_capacity(1 << 20, file), bytes: metadata.len() })
    }

    /// Size in the unit of [`Document::place`]: bytes of a file, rows of a database.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Jsonl { bytes, .. } => *bytes,
            Self::Database { rows, .. } => *rows,
        }
    }

    /// The unit of [`Corpus::size`].
    pub(crate) fn unit(&self) -> &'static str {
        match self {
            Self::Jsonl { .. } => "bytes",
            Self::Database { .. } => "pages",
        }
    }

    /// Hands over every document in order, one at a time.
    pub(crate) fn read(self, path: &Path, sink: &mut dyn FnMut(Document) -> Result<()>) -> Result<()> {
        match self {
            Self::Jsonl { file, .. } => read_jsonl(path, file, sink),
            Self::Database { connection, .. } => read_database(path, &connection, sink),
        }
    }
}

fn read_jsonl(
    path: &Path,
    mut file: impl BufRead,
    sink: &mut dyn FnMut(Document) -> Result<()>,
) -> Result<()> {
    let mut bytes = Vec::new();
    let (mut line, mut place) = (0, 0);
    loop {
        bytes.clear();
        let read = file.read_until(b'\n', &mut bytes);
        let read = read.map_err(|cause| Error::File { action: "read", path: path.to_path_buf(), cause })?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        place += read as u64;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let (title, text) =
            document(&bytes).map_err(|message| Error::Record { path: path.to_path_buf(), line, message })?;
        sink(Document { title, text: Text::Whole(text), place })?;
    }
}

/// Title and text of one line, or what is wrong with it.
fn document(line: &[u8]) -> std::result::Result<(String, String), String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_string())?;
    let record: Record = serde_json::from_str(line).map_err(|error| {
        format!("{error}; expected one JSON object a line: {{\"title\": ..., \"text\": ...}}")
    })?;
    let title = match record.title {
        Some(serde_json::Value::String(title)) if !title.trim().is_empty() => title,
        Some(serde_json::Value::String(_)) => return Err("`title` is empty".into()),
        None | Some(serde_json::Value::Null) => return Err("has no field `title`".into()),
        Some(_) => return Err("`title` is not text".into()),
    };
    let (field, text) = match (record.text, record.contents) {
        (Some(text), None) => ("text", text),
        (None, Some(text)) => ("contents", text),
        (Some(_), Some(_)) => return Err("has both `text` and `contents`; give one".into()),
        (None, None) => return Err("has no field `text` (or `contents`)".into()),
    };
    let text = match text {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(pieces) => {
            let pieces: Option<Vec<&str>> = pieces.iter().map(serde_json::Value::as_str).collect();
            pieces.ok_or_else(|| format!("`{field}` is a list of other things than text"))?.join("\n")
        }
        _ => return Err(format!("`{field}` is neither text nor a list of texts")),
    };
    Ok((title, text))
}

fn open_database(path: &Path) -> Result<Corpus> {
    let refused = |cause: rusqlite::Error| Error::Corpus {
        path: path.to_path_buf(),
        message: format!(
            "is an SQLite file, but not one of FActScore: {cause}; expected a table documents(title, text)"
        ),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.prepare("SELECT title, text FROM documents").map_err(refused)?;
    // The true count would read all of a file of 20 GB; the last row's number is at hand and as good for progress.
    let rows: Option<i64> =
        connection.query_row("SELECT max(rowid) FROM documents", [], |row| row.get(0)).map_err(refused)?;
    Ok(Corpus::Database { connection, rows: rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0) })
}

fn read_database(
    path: &Path,
    connection: &Connection,
    sink: &mut dyn FnMut(Document) -> Result<()>,
) -> Result<()> {
    let failed = |cause: rusqlite::Error| Error::Corpus {
        path: path.to_path_buf(),
        message: format!("SQLite says: {cause}"),
    };
    let mut statement =
        connection.prepare("SELECT rowid, title, text FROM documents ORDER BY rowid").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let place: i64 = row.get(0).map_err(failed)?;
        let place = u64::try_from(place).unwrap_or(0);
        let field = |index, name: &str| -> Result<String> {
            row.get(index).map_err(|_| Error::Record {
                path: path.to_path_buf(),
                line: place,
                message: format!("`{name}` of this row of `documents` is not text"),
            })
        };
        let (title, text) = (field(1, "title")?, field(2, "text")?);
        if title.trim().is_empty() {
            let message = "`title` of this row of `documents` is empty".to_string();
            return Err(Error::Record { path: path.to_path_buf(), line: place, message });
        }
        let passages = text.split(SEPARATOR).map(plain).filter(|passage| !passage.is_empty()).collect();
        sink(Document { title, text: Text::Passages(passages), place })?;
    }
    Ok(())
}

/// A passage without RoBERTa's marks. Sentences stand mark by mark, without space, so a space takes their place.
fn plain(passage: &str) -> String {
    passage.replace("</s>", " ").replace("<s>", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_record_mean_the_same() {
        for line in [
            r#"{"title": "A", "text": "one\ntwo"}"#,
            r#"{"id": 7, "title": "A", "contents": "one\ntwo"}"#,
            r#"{"id": "7", "title": "A", "text": ["one", "two"]}"#,
        ] {
            assert_eq!(
                document(line.as_bytes()).unwrap(),
                ("A".to_string(), "one\ntwo".to_string()),
                "{line}"
            );
        }
    }

    #[test]
    fn marks_of_the_passages_become_spaces() {
        assert_eq!(plain("<s>One.</s><s>Two</s>"), "One. Two");
        assert_eq!(plain("<s></s>"), "");
    }
}
