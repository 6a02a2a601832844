//! Measures the index and prints JSON: `measure synthetic [PASSAGES]` builds an index of made-up passages and searches
//! it, `measure squad FILE` says how often the paragraph with the answer is found, on a file in SQuAD's form.
//!
//! Times are those of this machine at this moment; run it alone.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_method::seam::Progress;
use rlrf_retrieval::{BuildOptions, Index, Options, build};
use serde_json::{Value, json};

const WORDS: usize = 100_000;
const WORDS_PER_PASSAGE: usize = 100;
const QUERIES: usize = 1000;
const WORDS_PER_QUERY: usize = 8;

type Failure = Box<dyn std::error::Error>;

struct Silent(Cell<u64>);

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, items: u64, _: u64) {
        self.0.set(self.0.get() + items);
    }
    fn end(&self) {}
    fn notice(&self, _: &str) {}
    fn interrupted(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir()?;
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["synthetic"] => synthetic(folder.path(), 1_000_000)?,
        ["synthetic", passages] => synthetic(folder.path(), passages.parse()?)?,
        ["squad", file] => squad(folder.path(), file)?,
        _ => return Err("expected: synthetic [PASSAGES] | squad FILE".into()),
    };
    println!("{result:#}");
    Ok(())
}

/// Words as frequent as Zipf's law has them: the word of rank r is about 1/r as frequent as the first.
struct Language(ChaCha8Rng);

impl Language {
    fn word(&mut self) -> String {
        let rank = (WORDS as f64).powf(self.0.random::<f64>()) as usize;
        let syllables = ["ka", "ro", "mi", "ten", "sul", "ba", "vor", "lin", "pe", "dra"];
        let mut word = String::new();
        let mut rest = rank;
        loop {
            word.push_str(syllables[rest % syllables.len()]);
            rest /= syllables.len();
            if rest == 0 {
                return word;
            }
        }
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn synthetic(folder: &Path, passages: usize) -> Result<Value, Failure> {
    let corpus = folder.join("corpus.jsonl");
    let mut language = Language(ChaCha8Rng::seed_from_u64(1));
    let mut file = BufWriter::new(File::create(&corpus)?);
    for number in 0..passages {
        let (title, text) = (format!("{} {number}", language.word()), language.words(WORDS_PER_PASSAGE));
        writeln!(file, "{}", json!({ "title": title, "text": text }))?;
    }
    drop(file);
    let options = BuildOptions::default();
    let started = Instant::now();
    let manifest = build(&corpus, &folder.join("index"), &options, &Silent(Cell::new(0)))?;
    let seconds = started.elapsed().as_secs_f64();
    let index = Index::open(folder.join("index"))?;
    let mut milliseconds = Vec::with_capacity(QUERIES);
    let processor = processor_milliseconds();
    for _ in 0..QUERIES {
        let query = language.words(WORDS_PER_QUERY);
        let started = Instant::now();
        let found = index.search(&query, &Options::default())?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
        assert!(!found.is_empty(), "{query}");
    }
    let processor = processor.zip(processor_milliseconds()).map(|(before, after)| after - before);
    milliseconds.sort_by(f64::total_cmp);
    let megabytes = manifest.text_bytes as f64 / 1e6;
    Ok(json!({
        "passages": manifest.passages, "words_per_passage": WORDS_PER_PASSAGE, "text_megabytes": megabytes,
        "threads": options.threads, "memory_per_thread": options.memory_per_thread,
        "cores": std::thread::available_parallelism()?.get(),
        "build_seconds": seconds, "megabytes_per_second": megabytes / seconds,
        "index_megabytes": size(&folder.join("index"))? as f64 / 1e6,
        "queries": QUERIES, "words_per_query": WORDS_PER_QUERY, "top": Options::default().top,
        "query_milliseconds": { "median": milliseconds[QUERIES / 2], "p99": milliseconds[QUERIES * 99 / 100] },
        "query_processor_milliseconds": { "mean": processor.map(|sum| sum / QUERIES as f64) },
    }))
}

/// Time that this thread has had a processor; other work on the machine does not count. Known on Linux alone.
fn processor_milliseconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
}

fn size(folder: &Path) -> Result<u64, Failure> {
    std::fs::read_dir(folder)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}

fn squad(folder: &Path, file: &str) -> Result<Value, Failure> {
    let squad: Value = serde_json::from_reader(File::open(file)?)?;
    let articles = squad["data"].as_array().ok_or("no list `data`")?;
    let mut corpus = File::create(folder.join("corpus.jsonl"))?;
    let mut questions = Vec::new();
    for article in articles {
        let title = article["title"].as_str().ok_or("no `title`")?;
        for paragraph in article["paragraphs"].as_array().ok_or("no `paragraphs`")? {
            let text = paragraph["context"].as_str().ok_or("no `context`")?;
            writeln!(corpus, "{}", json!({ "title": title, "text": text }))?;
            for question in paragraph["qas"].as_array().ok_or("no `qas`")? {
                questions.push((question["question"].as_str().ok_or("no `question`")?, text));
            }
        }
    }
    // Long enough to keep every paragraph whole.
    let options = BuildOptions { passage_words: 100_000, ..BuildOptions::default() };
    let manifest =
        build(&folder.join("corpus.jsonl"), &folder.join("index"), &options, &Silent(Cell::new(0)))?;
    let index = Index::open(folder.join("index"))?;
    let mut ranks = Vec::new();
    for (question, text) in &questions {
        let found = index.search(question, &Options { top: 20, title: None })?;
        let same = |found: &str| found.split_whitespace().eq(text.split_whitespace());
        ranks.push(found.iter().position(|passage| same(&passage.text)));
    }
    let within = |top: usize| {
        let hits = ranks.iter().filter(|rank| rank.is_some_and(|rank| rank < top)).count();
        hits as f64 / ranks.len() as f64
    };
    Ok(json!({
        "file": file, "paragraphs": manifest.passages, "questions": questions.len(), "analysis": manifest.analysis,
        "recall": { "1": within(1), "5": within(5), "20": within(20) },
    }))
}
