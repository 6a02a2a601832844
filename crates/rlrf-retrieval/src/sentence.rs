//! Where sentences end, by rules.
//!
//! A full stop ends no sentence after an initial or an abbreviation, unless a word follows that as a rule opens one; a
//! sentence never begins with a small letter; one word alone belongs to its neighbour. Lines are paragraphs.

/// Abbreviations that something follows: titles, months, references.
const BEFORE_MORE: [&str; 62] = [
    "mr", "mrs", "ms", "mx", "dr", "prof", "st", "ste", "gen", "col", "lt", "capt", "cmdr", "adm", "sgt",
    "cpl", "maj", "rev", "fr", "hon", "gov", "sen", "rep", "pres", "supt", "messrs", "mme", "mlle", "vs",
    "v", "cf", "ca", "c", "approx", "vol", "vols", "pp", "fig", "figs", "eq", "sec", "ch", "ed", "eds",
    "trans", "mt", "ft", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
    "nee", "née", "b",
];

/// Abbreviations that may also end a sentence.
const BEFORE_MORE_OR_END: [&str; 22] = [
    "jr", "sr", "inc", "ltd", "co", "corp", "bros", "llc", "plc", "etc", "al", "esq", "dept", "univ", "assn",
    "est", "ave", "blvd", "rd", "op", "f.c", "u.s",
];

/// Words that as a rule open a sentence.
const OPENERS: [&str; 42] = [
    "the", "a", "an", "he", "she", "it", "they", "we", "you", "i", "his", "her", "its", "their", "this",
    "that", "these", "those", "there", "in", "on", "at", "after", "before", "during", "from", "since",
    "when", "while", "as", "by", "for", "with", "although", "however", "but", "and", "also", "some", "many",
    "both", "despite",
];

/// The sentences of `text`, in order, trimmed; together they hold all of it but the space between.
///
/// The rules are for English prose with names and dates, such as biographies.
#[must_use]
pub fn sentences(text: &str) -> Vec<&str> {
    text.lines().flat_map(paragraph_sentences).collect()
}

/// The sentences of one line.
fn paragraph_sentences(paragraph: &str) -> Vec<&str> {
    let mut ends = Vec::new();
    let mut start = 0;
    for (place, mark) in paragraph.char_indices() {
        if place < start || !matches!(mark, '.' | '!' | '?' | '…') {
            continue;
        }
        let after = closed(paragraph, place + mark.len_utf8());
        let next = paragraph[after..].trim_start();
        // More marks, or a stop within a word or a number.
        if !next.is_empty() && next.len() == paragraph.len() - after {
            continue;
        }
        if next.is_empty() || (may_open(next) && (mark != '.' || stops(&paragraph[start..place], next))) {
            ends.push(after);
            start = after;
        }
    }
    if ends.last() != Some(&paragraph.len()) {
        ends.push(paragraph.len());
    }
    joined(paragraph, &ends)
}

/// The place after the quotes and brackets that close at `place`.
fn closed(text: &str, place: usize) -> usize {
    let rest = &text[place..];
    let closing = |c: char| matches!(c, '"' | '\'' | ')' | ']' | '}' | '”' | '’' | '»');
    place + rest.len() - rest.trim_start_matches(closing).len()
}

fn may_open(next: &str) -> bool {
    next.chars().next().is_some_and(|c| !c.is_lowercase())
}

/// Whether the full stop after `before` ends a sentence, when `next` follows.
fn stops(before: &str, next: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower = word.to_lowercase();
    let opener = || {
        let first = next.trim_start_matches(|c: char| !c.is_alphanumeric());
        let first = first.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase();
        OPENERS.contains(&first.as_str())
    };
    let mut letters = word.chars();
    let initial = matches!((letters.next(), letters.next()), (Some(letter), None) if letter.is_uppercase());
    let initials = word.contains('.')
        && word.split('.').all(|part| part.chars().count() <= 2 && part.chars().all(char::is_alphabetic));
    if initial || initials || BEFORE_MORE_OR_END.contains(&lower.as_str()) {
        return opener();
    }
    if lower == "no" || lower == "nos" {
        return !next.starts_with(|c: char| c.is_ascii_digit());
    }
    !BEFORE_MORE.contains(&lower.as_str())
}

/// The pieces that end at `ends`; a piece of one word is joined to the one before, the first to the one after.
fn joined<'t>(text: &'t str, ends: &[usize]) -> Vec<&'t str> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    for &end in ends {
        let lone = |span: (usize, usize)| text[span.0..span.1].split_whitespace().count() <= 1;
        match spans.last_mut() {
            Some(last) if lone((start, end)) => last.1 = end,
            Some(last) if last.0 == 0 && lone(*last) => last.1 = end,
            _ => spans.push((start, end)),
        }
        start = end;
    }
    spans.into_iter().map(|(start, end)| text[start..end].trim()).filter(|piece| !piece.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: &[&str]) {
        assert_eq!(sentences(&expected.join(" ")), expected);
    }

    #[test]
    fn plain_sentences_are_split() {
        check(&[
            "He was born in 1949.",
            "He is an actor!",
            "Is he?",
            "\"Yes, he is.\"",
            "(He really is.)",
            "The end.",
        ]);
    }

    #[test]
    fn initials_titles_and_abbreviations_end_none() {
        check(&["J. R. R. Tolkien met C.S. Lewis in St. Louis with Dr. Who and Mrs. Smith.", "He left."]);
        check(&["George W. Bush lived in the U.S. Senate's Washington, D.C. area."]);
        check(&["He was born on Jan. 5, 1930, c. 10 km from Mt. Everest, No. 7 of 9 (cf. Fig. 3)."]);
        check(&["It was sold to Apple Inc. Chairman Smith et al. Later."]);
    }

    #[test]
    fn an_abbreviation_before_an_opening_word_ends_one() {
        check(&["He moved to the U.S.", "He stayed there."]);
        check(&["He is the son of Martin Luther King Jr.", "The family lived in Atlanta."]);
        check(&["She played for Arsenal F.C.", "In 1999 she left."]);
    }

    #[test]
    fn small_letters_numbers_and_dots_go_on() {
        check(&["He paid 3.5 million... and left. although late.", "Next sentence."]);
        check(&["Her film \"Why?\" was a hit."]);
    }

    #[test]
    fn one_word_belongs_to_its_neighbour() {
        check(&["1. He was born in Rome. Indeed."]);
        assert_eq!(sentences("Sure! Here is a bio. Yes."), ["Sure! Here is a bio. Yes."]);
        assert_eq!(sentences("Alone"), ["Alone"]);
    }

    #[test]
    fn lines_are_paragraphs_and_nothing_is_lost() {
        assert_eq!(
            sentences("A title\n\nOne thing here.  Two things\n"),
            ["A title", "One thing here.", "Two things"]
        );
        assert_eq!(sentences(" \n\t"), Vec::<&str>::new());
        let text = "É. Zola… wrote «J'accuse»! 他说。 U.S.A. Yes? No. 7 x";
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(letters(&sentences(text).concat()), letters(text));
    }
}
