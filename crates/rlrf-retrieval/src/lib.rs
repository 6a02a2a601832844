//! Passages of a corpus in a full-text index on disk, searched by BM25.
//!
//! [`build()`] reads a corpus (JSON lines, or the SQLite file of the FActScore release) once, in bounded memory, into a
//! folder that is complete or absent. [`Index::open`] and [`Index::search`] find passages by relevance, in the whole
//! index or on one page. What is found depends on the corpus and the query alone: not on the number of threads that
//! built the index, nor on how Tantivy laid it out.

mod analysis;
mod build;
mod corpus;
mod error;
mod index;
mod manifest;
mod passage;
mod sentence;

pub use build::{BuildOptions, build};
pub use error::{Error, Result};
pub use index::{Index, Options};
pub use manifest::Manifest;
pub use passage::{DEFAULT_PASSAGE_WORDS, Passage, split};
pub use sentence::sentences;
