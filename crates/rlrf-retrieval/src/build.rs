//! Building an index: one pass over the corpus, into a folder that is complete or absent.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use rlrf_method::seam::Progress;
use rlrf_store::write_atomically;
use serde::Serialize;
use tantivy::indexer::{IndexWriter, LogMergePolicy};
use tantivy::schema::TantivyDocument;

use crate::analysis::{ANALYSIS, page_name};
use crate::corpus::{Corpus, Document, Text};
use crate::error::{Error, Result};
use crate::index::Fields;
use crate::manifest::{FORMAT, MANIFEST_FILE, Manifest};
use crate::passage::{DEFAULT_PASSAGE_WORDS, split};

/// Marks a folder as an index under construction, and keeps others out of it.
const LOCK_FILE: &str = "build.lock";

/// Tantivy refuses less memory for a thread.
const LEAST_MEMORY: usize = 15_000_000;

/// How an index is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Words of a passage at most.
    pub passage_words: usize,
    /// Threads that index; one more reads.
    pub threads: usize,
    /// Memory for postings that are not yet on disk, in bytes, for each thread.
    pub memory_per_thread: usize,
}

impl Default for BuildOptions {
    /// A thread per core (8 at most), 128 MB each.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { passage_words: DEFAULT_PASSAGE_WORDS, threads: cores.min(8), memory_per_thread: 128_000_000 }
    }
}

/// Builds the index of `corpus` in the folder `out`, or finds it there already, made from the same text.
///
/// The folder appears when it is complete; meanwhile the work is in a folder beside it (`.NAME.partial`), which the next
/// build replaces if this one is killed. Memory is bounded by the options and the longest record.
///
/// # Errors
/// A record of the corpus that cannot be read (with its line), `out` holds something else, the disk is full, another
/// process builds the same index, the user's interruption. `out` is then as it was.
pub fn build(corpus: &Path, out: &Path, options: &BuildOptions, progress: &dyn Progress) -> Result<Manifest> {
    if options.passage_words == 0 {
        return Err(Error::Option("a passage needs at least one word".into()));
    }
    if out.exists() {
        return compare(corpus, out, options, progress);
    }
    let partial = Partial::begin(out)?;
    let written = write(corpus, &partial, options, progress);
    match written.and_then(|manifest| partial.finish(out).map(|()| manifest)) {
        Ok(manifest) => Ok(manifest),
        Err(error) => {
            partial.discard();
            Err(error)
        }
    }
}

/// The finished index in `out`, if it is of this corpus: reading is far quicker than indexing.
fn compare(corpus: &Path, out: &Path, options: &BuildOptions, progress: &dyn Progress) -> Result<Manifest> {
    let occupied = |what: &str| Error::Occupied { folder: out.to_path_buf(), what: what.into() };
    let found = Manifest::read(out).map_err(|error| match error {
        Error::NoIndex { .. } => occupied("something else than an index"),
        other => other,
    })?;
    let manifest = Content::read(corpus, options, progress, "compare", &mut |_, _, _| Ok(()))?;
    if manifest == found {
        return Ok(found);
    }
    Err(occupied("the index of another corpus, or one with other passages"))
}

fn write(
    corpus: &Path,
    partial: &Partial,
    options: &BuildOptions,
    progress: &dyn Progress,
) -> Result<Manifest> {
    let failed = |cause| Error::Write { folder: partial.folder.clone(), cause };
    let (schema, fields) = Fields::schema();
    let index = tantivy::Index::create_in_dir(&partial.folder, schema).map_err(failed)?;
    index.tokenizers().register(ANALYSIS, crate::analysis::analyzer());
    let threads = options.threads.max(1);
    let memory = options.memory_per_thread.max(LEAST_MEMORY) * threads;
    let mut writer: IndexWriter = index.writer_with_num_threads(threads, memory).map_err(failed)?;
    writer.set_merge_policy(Box::new(LogMergePolicy::default()));
    let mut place = 0_u64;
    let manifest = Content::read(corpus, options, progress, "index", &mut |title, number, text| {
        let mut document = TantivyDocument::default();
        document.add_text(fields.title, title);
        document.add_text(fields.page, page_name(title));
        document.add_text(fields.text, text);
        document.add_u64(fields.number, number);
        document.add_u64(fields.place, place);
        place += 1;
        writer.add_document(document).map(drop).map_err(failed)
    })?;
    writer.commit().map_err(failed)?;
    writer.wait_merging_threads().map_err(failed)?;
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| Error::Option(error.to_string()))?;
    let path = partial.folder.join(MANIFEST_FILE);
    write_atomically(&path, format!("{text}\n").as_bytes()).map_err(|cause| Error::File {
        action: "write",
        path,
        cause: std::io::Error::other(cause),
    })?;
    Ok(manifest)
}

/// Gathers a manifest while passages go by.
struct Content {
    manifest: Manifest,
    hasher: blake3::Hasher,
    /// The page of the last passage, and how many it has: a page may be spread over records in a row.
    page: String,
    number: u64,
}

impl Content {
    /// Reads the corpus and hands over each passage: title, number on its page, text.
    fn read(
        path: &Path,
        options: &BuildOptions,
        progress: &dyn Progress,
        action: &str,
        sink: &mut dyn FnMut(&str, u64, &str) -> Result<()>,
    ) -> Result<Manifest> {
        let corpus = Corpus::open(path)?;
        let mut content = Self::new(options.passage_words);
        progress.begin(&format!("{action} {} ({})", path.display(), corpus.unit()), corpus.size(), 0);
        let mut place = 0;
        let read = corpus.read(path, &mut |document| {
            let before = std::mem::replace(&mut place, document.place);
            content.add(&document, sink)?;
            progress.advance(document.place.saturating_sub(before), 0);
            if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        });
        progress.end();
        read?;
        let mut manifest = content.manifest;
        if manifest.passages == 0 {
            return Err(Error::Corpus { path: path.to_path_buf(), message: "holds no text".into() });
        }
        manifest.digest = content.hasher.finalize().to_hex()[..32].to_string();
        Ok(manifest)
    }

    fn new(passage_words: usize) -> Self {
        let manifest = Manifest {
            format: FORMAT,
            analysis: ANALYSIS.into(),
            digest: String::new(),
            documents: 0,
            empty_documents: 0,
            passages: 0,
            text_bytes: 0,
            passage_words,
        };
        let mut hasher = blake3::Hasher::new();
        hash(&mut hasher, &(FORMAT, ANALYSIS));
        Self { manifest, hasher, page: String::new(), number: 0 }
    }

    fn add(
        &mut self,
        document: &Document,
        sink: &mut dyn FnMut(&str, u64, &str) -> Result<()>,
    ) -> Result<()> {
        let passages: Vec<&str> = match &document.text {
            Text::Whole(text) => split(text, self.manifest.passage_words),
            Text::Passages(passages) => passages.iter().map(String::as_str).collect(),
        };
        if passages.is_empty() {
            self.manifest.empty_documents += 1;
            return Ok(());
        }
        self.manifest.documents += 1;
        let page = page_name(&document.title);
        if page != self.page {
            self.page = page;
            self.number = 0;
        }
        for text in passages {
            hash(&mut self.hasher, &(&document.title, self.number, text));
            sink(&document.title, self.number, text)?;
            self.number += 1;
            self.manifest.passages += 1;
            self.manifest.text_bytes += text.len() as u64;
        }
        Ok(())
    }
}

fn hash(hasher: &mut blake3::Hasher, value: &impl Serialize) {
    // A hasher accepts every byte, and the values are text and numbers: serialising cannot fail.
    let _ = serde_json::to_writer(hasher, value);
}

/// The folder in which an index is built before it gets its name.
struct Partial {
    folder: PathBuf,
    /// Held until the index has its name.
    lock: File,
}

impl Partial {
    fn begin(out: &Path) -> Result<Self> {
        let Some(name) = out.file_name() else {
            return Err(Error::Option(format!(
                "--out {}: does not end in the name of a folder",
                out.display()
            )));
        };
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(".partial");
        let folder = out.with_file_name(partial);
        let failed = |cause| Error::File { action: "write", path: folder.clone(), cause };
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK_FILE));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { folder: out.to_path_buf() }),
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        // What a killed build left.
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !path.ends_with(LOCK_FILE) {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(Self { folder, lock })
    }

    /// Gives the folder its name, so that it survives a loss of power.
    fn finish(&self, out: &Path) -> Result<()> {
        let failed = |cause| Error::File { action: "write", path: out.to_path_buf(), cause };
        self.lock.sync_all().map_err(failed)?;
        fs::remove_file(self.folder.join(LOCK_FILE)).map_err(failed)?;
        if cfg!(unix) {
            File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        fs::rename(&self.folder, out).map_err(failed)?;
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if cfg!(unix) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
        } else {
            Ok(())
        }
    }

    /// Removes what was written; the first error is the one to report.
    fn discard(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
