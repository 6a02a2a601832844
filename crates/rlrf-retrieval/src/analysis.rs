//! From text to terms, and from titles to pages.

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, TextAnalyzer,
};

/// Name of the analysis in the index and its manifest; another analysis gets another name.
pub(crate) const ANALYSIS: &str = "english-1";

/// Longest token, in bytes: longer ones are no words.
const LONGEST_TOKEN: usize = 60;

/// Words of letters and digits, lower case, without accents, stemmed (Porter's second English stemmer).
pub(crate) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_TOKEN))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

/// The name under which a page is found: titles that differ in case, underscores or spaces are one.
pub(crate) fn page_name(title: &str) -> String {
    let spaced = title.replace('_', " ");
    let mut name = String::with_capacity(spaced.len());
    for word in spaced.split_whitespace() {
        if !name.is_empty() {
            name.push(' ');
        }
        name.extend(word.chars().flat_map(char::to_lowercase));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_meet_whatever_their_case_underscores_and_spaces() {
        for title in ["Super_Bowl_50", "super bowl 50", "  SUPER  Bowl_50 "] {
            assert_eq!(page_name(title), "super bowl 50");
        }
        assert_eq!(page_name("ÉMILE Zola"), page_name("Émile_zola"));
        assert_ne!(page_name("Emile Zola"), page_name("Emile Zola (film)"));
    }

    #[test]
    fn words_meet_whatever_their_form() {
        let terms = |text: &str| {
            let mut analyzer = analyzer();
            let mut stream = analyzer.token_stream(text);
            let mut terms = Vec::new();
            while stream.advance() {
                terms.push(stream.token().text.clone());
            }
            terms
        };
        assert_eq!(terms("Running cafés, 1999!"), terms("run cafe 1999"));
        assert_eq!(terms("?! ..."), Vec::<String>::new());
    }
}
