//! An index on disk, opened for searching.

use std::path::{Path, PathBuf};

use tantivy::collector::{Count, TopDocs};
use tantivy::query::{BooleanQuery, ConstScoreQuery, EnableScoring, Occur, Query, QueryClone, TermQuery};
use tantivy::schema::{
    Field, IndexRecordOption, STORED, STRING, Schema, TantivyDocument, TextFieldIndexing, TextOptions, Value,
};
use tantivy::{DocAddress, ReloadPolicy, Searcher, Term};

use crate::analysis::{ANALYSIS, analyzer, page_name};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::passage::Passage;

/// How many more candidates than wanted are looked at first; passages of equal score may be among them.
const SPARE: usize = 8;

/// Most candidates that are looked at: a word that makes more passages equal than this tells nothing.
const MOST_CANDIDATES: usize = 1 << 14;

/// Sums of the same scores in another order differ by less, in proportion.
const ROUNDING: f32 = 1e-4;

/// The fields of a passage in Tantivy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) title: Field,
    /// The page's name, whole; see [`page_name`].
    pub(crate) page: Field,
    pub(crate) text: Field,
    pub(crate) number: Field,
    /// Place in the corpus: orders passages of equal score.
    pub(crate) place: Field,
}

impl Fields {
    pub(crate) fn schema() -> (Schema, Self) {
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default()
            .set_tokenizer(ANALYSIS)
            .set_index_option(IndexRecordOption::WithFreqs);
        let words = TextOptions::default().set_indexing_options(words).set_stored();
        let fields = Self {
            title: schema.add_text_field("title", words.clone()),
            page: schema.add_text_field("page", STRING),
            text: schema.add_text_field("text", words),
            number: schema.add_u64_field("number", STORED),
            place: schema.add_u64_field("place", STORED),
        };
        (schema.build(), fields)
    }
}

/// What is searched for beside the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Passages wanted at most.
    pub top: usize,
    /// Only passages of the page of this title; case, underscores and spaces do not matter. Then passages without any
    /// word of the query follow those that have some, until there are [`Options::top`].
    pub title: Option<String>,
}

impl Default for Options {
    /// Five, on any page.
    fn default() -> Self {
        Self { top: 5, title: None }
    }
}

/// An index, opened; many threads may search it.
pub struct Index {
    folder: PathBuf,
    manifest: Manifest,
    searcher: Searcher,
    fields: Fields,
}

impl Index {
    /// Opens the index in `folder`.
    ///
    /// # Errors
    /// The folder holds no index, one of another version, or a damaged one.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        let manifest = Manifest::read(&folder)?;
        let damaged = |cause: tantivy::TantivyError| match cause {
            tantivy::TantivyError::LockFailure(cause, _) => {
                Error::NotLocked { folder: folder.clone(), cause: cause.to_string() }
            }
            cause => Error::Damaged { folder: folder.clone(), cause: cause.to_string() },
        };
        let index = tantivy::Index::open_in_dir(&folder).map_err(damaged)?;
        index.tokenizers().register(ANALYSIS, analyzer());
        let (schema, fields) = Fields::schema();
        if index.schema() != schema {
            let cause = "its fields are not those of its format".to_string();
            return Err(Error::Damaged { folder, cause });
        }
        let reader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(damaged)?;
        let searcher = reader.searcher();
        if searcher.num_docs() != manifest.passages {
            let cause =
                format!("it has {} passages, not {} as it says", searcher.num_docs(), manifest.passages);
            return Err(Error::Damaged { folder, cause });
        }
        Ok(Self { folder, manifest, searcher, fields })
    }

    /// What the index says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it has a page of this title, whatever the case, underscores and spaces.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn has_page(&self, title: &str) -> Result<bool> {
        let found = self.searcher.search(&self.page_query(title), &Count);
        Ok(found.map_err(|cause| self.damaged(cause))? > 0)
    }

    /// The passages that answer `query` best, by BM25 over titles and texts; each different word counts once. Passages
    /// of equal score come in the order of the corpus. A query without words finds nothing, or the first passages of
    /// the page asked for.
    ///
    /// The frequencies of words are those of the whole index, also for one page.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn search(&self, query: &str, options: &Options) -> Result<Vec<Passage>> {
        self.passages(query, options).map_err(|cause| self.damaged(cause))
    }

    fn passages(&self, query: &str, options: &Options) -> tantivy::Result<Vec<Passage>> {
        let words = self.word_queries(query);
        let mut clauses: Vec<(Occur, Box<dyn Query>)> =
            words.iter().map(|word| (Occur::Should, word.box_clone())).collect();
        if let Some(title) = &options.title {
            let page = Box::new(self.page_query(title));
            clauses.push((Occur::Must, Box::new(ConstScoreQuery::new(page, 0.0))));
        }
        if clauses.is_empty() || options.top == 0 {
            return Ok(Vec::new());
        }
        let candidates = self.candidates(&BooleanQuery::new(clauses), options.top)?;
        let mut found = Vec::with_capacity(candidates.len());
        for (address, score) in self.scored(candidates, &words)? {
            let document: TantivyDocument = self.searcher.doc(address)?;
            found.push((self.number(&document, self.fields.place), score, document));
        }
        found.sort_by(|(a_place, a, _), (b_place, b, _)| b.total_cmp(a).then(a_place.cmp(b_place)));
        found.truncate(options.top);
        Ok(found.into_iter().map(|(_, score, document)| self.passage(&document, score)).collect())
    }

    /// The best passages and all that score the same as the last of them, as far as rounding allows to tell.
    fn candidates(&self, query: &dyn Query, top: usize) -> tantivy::Result<Vec<DocAddress>> {
        let mut limit = top.saturating_add(SPARE);
        loop {
            let found = self.searcher.search(query, &TopDocs::with_limit(limit).order_by_score())?;
            let whole = found.len() < limit || limit >= MOST_CANDIDATES.max(top);
            let cut = found.get(top - 1).map(|(score, _)| score - score.abs() * ROUNDING);
            match (cut, found.last()) {
                (Some(cut), Some((last, _))) if !whole && *last >= cut => limit *= 4,
                (cut, _) => {
                    let kept = found.into_iter().filter(|(score, _)| cut.is_none_or(|cut| *score >= cut));
                    return Ok(kept.map(|(_, address)| address).collect());
                }
            }
        }
    }

    /// The scores of the candidates, summed word by word in the query's order and in double precision: Tantivy's own sums
    /// depend on how the index happens to be laid out.
    fn scored(
        &self,
        mut candidates: Vec<DocAddress>,
        words: &[TermQuery],
    ) -> tantivy::Result<Vec<(DocAddress, f64)>> {
        candidates.sort_unstable();
        let mut scored: Vec<(DocAddress, f64)> =
            candidates.into_iter().map(|address| (address, 0.0)).collect();
        for word in words {
            let weight = word.weight(EnableScoring::enabled_from_searcher(&self.searcher))?;
            for segment in scored.chunk_by_mut(|(a, _), (b, _)| a.segment_ord == b.segment_ord) {
                let reader = self.searcher.segment_reader(segment[0].0.segment_ord);
                let mut scorer = weight.scorer(reader, 1.0)?;
                for (address, score) in segment {
                    if scorer.doc() < address.doc_id {
                        scorer.seek(address.doc_id);
                    }
                    if scorer.doc() == address.doc_id {
                        *score += f64::from(scorer.score());
                    }
                }
            }
        }
        Ok(scored)
    }

    fn passage(&self, document: &TantivyDocument, score: f64) -> Passage {
        let text = |field| {
            let value = document.get_first(field).and_then(|value| value.as_str().map(str::to_string));
            value.unwrap_or_default()
        };
        let (title, text) = (text(self.fields.title), text(self.fields.text));
        Passage { title, text, number: self.number(document, self.fields.number), score }
    }

    fn number(&self, document: &TantivyDocument, field: Field) -> u64 {
        document.get_first(field).and_then(|value| value.as_u64()).unwrap_or_default()
    }

    /// One query for each different word, in titles and in texts.
    fn word_queries(&self, query: &str) -> Vec<TermQuery> {
        let mut analyzer = analyzer();
        let mut stream = analyzer.token_stream(query);
        let mut words: Vec<String> = Vec::new();
        while stream.advance() {
            let word = &stream.token().text;
            if !words.contains(word) {
                words.push(word.clone());
            }
        }
        let fields = [self.fields.title, self.fields.text];
        let term = |field, word: &String| {
            TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs)
        };
        words.iter().flat_map(|word| fields.map(|field| term(field, word))).collect()
    }

    fn page_query(&self, title: &str) -> TermQuery {
        let term = Term::from_field_text(self.fields.page, &page_name(title));
        TermQuery::new(term, IndexRecordOption::Basic)
    }

    fn damaged(&self, cause: tantivy::TantivyError) -> Error {
        Error::Damaged { folder: self.folder.clone(), cause: cause.to_string() }
    }
}
