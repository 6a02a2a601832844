//! Passages, and how a text is split into them.

use serde::{Deserialize, Serialize};

use crate::sentence::sentences;

/// Words of a passage at most, unless the user says otherwise. FActScore's passages have 256 tokens of RoBERTa.
pub const DEFAULT_PASSAGE_WORDS: usize = 256;

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Title of its page, as the corpus has it.
    pub title: String,
    /// The text.
    pub text: String,
    /// Its place on its page, from 0.
    pub number: u64,
    /// BM25 score for the query; 0 where no word of the query is in it.
    pub score: f64,
}

/// Splits a text into passages of at most `words` words (runs of letters between spaces), between sentences where
/// they allow it. The passages hold all of the text but the space between them.
#[must_use]
pub fn split(text: &str, words: usize) -> Vec<&str> {
    let words = words.max(1);
    let mut passages = Passages { text, all: Vec::new(), open: None };
    for sentence in sentences(text) {
        let start = offset(text, sentence);
        let mut count = 0;
        let mut piece = start;
        let mut end = start;
        for word in sentence.split_whitespace() {
            if count == words {
                passages.add(piece, end, count, words);
                (count, piece) = (0, offset(text, word));
            }
            count += 1;
            end = offset(text, word) + word.len();
        }
        passages.add(piece, end, count, words);
    }
    passages.close();
    passages.all
}

struct Passages<'t> {
    text: &'t str,
    all: Vec<&'t str>,
    /// Start, end and words of the passage that may still grow.
    open: Option<(usize, usize, usize)>,
}

impl Passages<'_> {
    fn add(&mut self, start: usize, end: usize, count: usize, words: usize) {
        match &mut self.open {
            Some((_, open_end, open_count)) if *open_count + count <= words => {
                *open_end = end;
                *open_count += count;
            }
            _ => {
                self.close();
                self.open = Some((start, end, count));
            }
        }
    }

    fn close(&mut self) {
        if let Some((start, end, _)) = self.open.take() {
            self.all.push(&self.text[start..end]);
        }
    }
}

/// Where a slice of `text` begins in it.
fn offset(text: &str, slice: &str) -> usize {
    slice.as_ptr() as usize - text.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_end_with_sentences_where_they_fit() {
        let text = "One two three. Four five six.\nSeven eight nine ten. Eleven twelve.";
        assert_eq!(split(text, 7), ["One two three. Four five six.", "Seven eight nine ten. Eleven twelve."]);
        assert_eq!(split(text, 100), [text]);
        assert_eq!(split("", 10), Vec::<&str>::new());
        assert_eq!(split("  \n ", 10), Vec::<&str>::new());
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut_between_words() {
        assert_eq!(
            split("a b c d e f g. Then this follows.", 3),
            ["a b c", "d e f", "g.", "Then this follows."]
        );
    }

    #[test]
    fn no_passage_is_longer_and_no_word_is_lost() {
        let text = "É. Zola… wrote «J'accuse»! 他说。 U.S.A. Yes? No. 7 x\n\n".repeat(50);
        for words in [1, 2, 5, 17, 256] {
            let passages = split(&text, words);
            assert!(passages.iter().all(|passage| passage.split_whitespace().count() <= words));
            let found: Vec<&str> = passages.iter().flat_map(|passage| passage.split_whitespace()).collect();
            assert_eq!(found, text.split_whitespace().collect::<Vec<_>>(), "{words}");
        }
    }
}
