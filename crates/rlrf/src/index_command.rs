//! `rlrf index build` and `rlrf index search`.

use anyhow::{Result, anyhow};
use rlrf_retrieval::{BuildOptions, Error, Index, Options, build};

use crate::arguments::{IndexBuildOptions, IndexSearchOptions};
use crate::console::{self, Console};

pub(crate) fn build_index(options: &IndexBuildOptions, json: bool, console: &Console) -> Result<()> {
    let defaults = BuildOptions::default();
    let threads = defaults.threads.min(rayon::current_num_threads());
    let build_options = BuildOptions { passage_words: options.passage_words, threads, ..defaults };
    let manifest =
        build(&options.corpus, &options.out, &build_options, console).map_err(|error| match error {
            Error::Interrupted => anyhow!(rlrf_method::Error::Interrupted),
            other => anyhow!(other),
        })?;
    if json {
        return Ok(console::print(&serde_json::to_string_pretty(&manifest)?)?);
    }
    Ok(console::print(&format!(
        "{} passages of {} records ({} without text left out), {:.1} MB, in {}",
        manifest.passages,
        manifest.documents,
        manifest.empty_documents,
        manifest.text_bytes as f64 / 1e6,
        options.out.display()
    ))?)
}

pub(crate) fn search(options: &IndexSearchOptions, json: bool) -> Result<()> {
    let index = Index::open(&options.index)?;
    let wanted = Options { top: options.top, title: options.title.clone() };
    let found = index.search(&options.query, &wanted)?;
    if json {
        return Ok(console::print(&serde_json::to_string_pretty(&found)?)?);
    }
    if let Some(title) = options.title.as_deref().filter(|_| found.is_empty()) {
        return Ok(console::print(&format!("nothing found: no page has the title {title:?}"))?);
    }
    if found.is_empty() {
        return Ok(console::print("nothing found: no passage has a word of the query")?);
    }
    let passages = found.iter().map(|passage| {
        format!("{} [{}], score {:.2}\n{}", passage.title, passage.number, passage.score, passage.text)
    });
    Ok(console::print(&passages.collect::<Vec<_>>().join("\n\n"))?)
}
